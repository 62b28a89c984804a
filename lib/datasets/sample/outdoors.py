"""What grows, stands or hangs outdoors, each standing on its origin."""

import math

from lib.datasets.sample.pen import Pen, Rgb, arc, curve, darker, lighter


def tree(pen: Pen, colour: Rgb) -> None:
    """A broad-leaved tree; its crown carries the colour of the season."""
    pen.shadow(0.06, 0.02, 0.55, 0.08)
    trunk = pen.vary((106, 76, 50))
    pen.polygon(
        curve(
            [(-0.13, 0.0), (-0.07, 0.3), (-0.07, 0.8), (0.08, 0.8), (0.08, 0.3), (0.15, 0.0)], False
        ),
        trunk,
        volume=0.8,
        grain=0.6,
    )
    for x in (-0.2, 0.22):
        pen.stroke([(0, 0.5), (x, 0.85)], 0.06, trunk, volume=0.5)
    for i in range(15):
        turn, far = i * 2.4, math.sqrt((i + 0.5) / 15)
        x, y = 0.46 * far * math.cos(turn), 1.1 + 0.38 * far * math.sin(turn)
        leaf = pen.vary(colour, 12)
        tone = lighter(leaf, 0.1) if y - x > 1.15 else darker(leaf, 0.16)
        pen.ellipse(x, y, 0.21, 0.19, tone, volume=0.7, grain=1.0)
    for _ in range(36):
        turn, far = pen.between(0, 6.28), math.sqrt(pen.between(0, 1))
        x, y = 0.6 * far * math.cos(turn), 1.1 + 0.5 * far * math.sin(turn)
        pen.ellipse(x, y, 0.025, 0.016, lighter(colour, pen.between(0, 0.35)), tilt=turn)


def pine(pen: Pen, colour: Rgb) -> None:
    """A fir tree in layers."""
    pen.shadow(0.04, 0.02, 0.4, 0.06)
    pen.rect(-0.06, 0.0, 0.06, 0.3, (92, 64, 44), volume=0.7)
    needle = pen.vary((38, 84, 56), 9)
    for i in range(7):
        bottom, reach = 0.18 + i * 0.2, 0.46 - i * 0.06
        zigzag = [(-reach + k * reach / 5, bottom + (0.05 if k % 2 else 0.0)) for k in range(11)]
        pen.polygon([*zigzag, (0.02, bottom + 0.42)], pen.vary(needle, 6), volume=0.7, grain=0.9)


def palm(pen: Pen, colour: Rgb) -> None:
    """A palm tree with coconuts."""
    pen.shadow(0.06, 0.02, 0.36, 0.06)
    bow = curve([(0, 0), (0.04, 0.5), (0.14, 1.0), (0.3, 1.4)], False)
    pen.stroke(bow, 0.1, (146, 112, 76), volume=0.8)
    for x, y in bow[::2]:
        pen.stroke([(x - 0.045, y), (x + 0.045, y + 0.02)], 0.014, (104, 78, 52))
    for i in range(9):
        turn = math.radians(-35 + i * 31)
        tip = (0.3 + 0.62 * math.cos(turn), 1.4 + 0.36 * math.sin(turn) - 0.12)
        top = (0.3 + 0.36 * math.cos(turn), 1.52 + 0.3 * math.sin(turn))
        under = (0.3 + 0.34 * math.cos(turn), 1.4 + 0.24 * math.sin(turn))
        pen.blob([(0.3, 1.4), top, tip, under], pen.vary((60, 130, 62), 12), volume=0.6, grain=0.4)
    for x in (0.26, 0.34):
        pen.ellipse(x, 1.35, 0.055, 0.055, (110, 74, 44), volume=0.9)


def cactus(pen: Pen, colour: Rgb) -> None:
    """A cactus with two arms."""
    pen.shadow(0.06, 0.02, 0.36, 0.06)
    skin = pen.vary((74, 132, 72), 9)
    for side, low in ((-1, 0.55), (1, 0.75)):
        pen.stroke(
            curve(
                [
                    (0, low),
                    (side * 0.3, low + 0.02),
                    (side * 0.38, low + 0.16),
                    (side * 0.38, low + 0.45),
                ],
                False,
            ),
            0.17,
            skin,
            volume=0.9,
        )
    pen.rect(-0.15, 0.0, 0.15, 1.5, skin, volume=0.9, radius=0.15)
    for x in (-0.09, -0.03, 0.03, 0.09):
        pen.stroke([(x, 0.04), (x, 1.4)], 0.01, darker(skin, 0.3))
    for _ in range(30):
        x, y = pen.between(-0.14, 0.14), pen.between(0.05, 1.42)
        pen.stroke([(x, y), (x + 0.03, y + 0.02)], 0.007, (240, 236, 210))
    if pen.chance(0.5):
        pen.ellipse(0, 1.53, 0.07, 0.05, (236, 80, 140), volume=0.6)


def sunflower(pen: Pen, colour: Rgb) -> None:
    """A sunflower on its stem."""
    pen.shadow(0.02, 0.01, 0.14, 0.03)
    pen.stroke(curve([(0, 0), (0.03, 0.5), (0, 1.0)], False), 0.05, (84, 136, 54), volume=0.6)
    for side, y in ((-1, 0.34), (1, 0.5)):
        pen.blob(
            [(0.02, y), (side * 0.2, y + 0.16), (side * 0.38, y + 0.1), (side * 0.2, y - 0.02)],
            pen.vary((84, 144, 56)),
            volume=0.6,
        )
    for ring, (reach, tint) in enumerate(((0.37, (236, 170, 20)), (0.32, (252, 206, 40)))):
        for i in range(18):
            turn = i * 0.349 + ring * 0.175
            pen.ellipse(
                reach * 0.75 * math.cos(turn),
                1.1 + reach * 0.75 * math.sin(turn),
                0.13,
                0.05,
                pen.vary(tint, 8),
                volume=0.5,
                tilt=turn,
            )
    pen.ellipse(0, 1.1, 0.18, 0.18, (92, 56, 26), volume=0.8, grain=1.2)


def snowman(pen: Pen, colour: Rgb) -> None:
    """A snowman with carrot nose, hat and scarf."""
    pen.shadow(0.05, 0.03, 0.48, 0.09, 0.3)
    snow = (244, 247, 252)
    scarf = pen.vary(((204, 36, 40), (42, 96, 184), (84, 156, 66))[int(pen.rng.integers(3))])
    for x, tip in ((-0.26, -0.66), (0.26, 0.66)):
        pen.stroke([(x, 0.86), (tip, 1.1)], 0.03, (96, 68, 44))
        pen.stroke([(tip * 0.85, 1.03), (tip * 0.95, 1.18)], 0.02, (96, 68, 44))
    for y, r in ((0.38, 0.42), (0.9, 0.31), (1.3, 0.22)):
        pen.ellipse(0, y, r, r * 0.95, snow, volume=0.75, grain=0.2)
    for y in (0.72, 0.86, 1.0):
        pen.ellipse(0.03, y, 0.028, 0.028, (34, 32, 34))
    pen.rect(-0.24, 1.08, 0.24, 1.18, scarf, volume=0.7, radius=0.05, grain=0.3)
    pen.polygon(
        [(0.08, 1.12), (0.2, 1.12), (0.26, 0.76), (0.14, 0.76)], scarf, volume=0.5, grain=0.3
    )
    for x in (-0.07, 0.09):
        pen.ellipse(x, 1.37, 0.026, 0.03, (28, 26, 28))
    pen.polygon([(0.01, 1.33), (0.01, 1.27), (0.26, 1.27)], (240, 124, 34), volume=0.5)
    for i in range(5):
        pen.ellipse(
            -0.07 + i * 0.04, 1.205 - 0.02 * math.sin(i * math.pi / 4), 0.013, 0.013, (34, 32, 34)
        )
    pen.rect(-0.29, 1.46, 0.29, 1.51, (34, 34, 40), volume=0.4, radius=0.02)
    pen.rect(-0.19, 1.5, 0.19, 1.78, (38, 38, 44), volume=0.7)
    pen.rect(-0.19, 1.5, 0.19, 1.56, scarf)


def tent(pen: Pen, colour: Rgb) -> None:
    """A camping tent with its flap open."""
    pen.shadow(0, 0.03, 0.9, 0.08)
    pen.polygon([(0.0, 0.92), (0.52, 0.86), (0.98, 0.06), (0.5, 0.0)], darker(colour, 0.3), 0.4)
    pen.polygon([(-0.62, 0.0), (0.0, 0.92), (0.5, 0.0)], colour, volume=0.4, grain=0.12)
    pen.polygon([(-0.22, 0.0), (0.0, 0.66), (0.18, 0.0)], (40, 36, 40))
    pen.polygon([(-0.22, 0.0), (0.0, 0.66), (-0.28, 0.1)], lighter(colour, 0.25))
    for x, end in ((-0.62, -0.8), (0.98, 1.12)):
        pen.stroke([(x * 0.6, 0.4), (end, 0.0)], 0.01, (220, 220, 210))


def lighthouse(pen: Pen, colour: Rgb) -> None:
    """A red and white lighthouse on rocks."""
    pen.blob(
        [(-0.6, 0.0), (-0.46, 0.16), (-0.1, 0.22), (0.3, 0.2), (0.56, 0.08), (0.6, 0.0)],
        (110, 104, 100),
        volume=0.8,
        grain=0.9,
    )
    tower = [(-0.24, 0.12), (0.24, 0.12), (0.14, 1.44), (-0.14, 1.44)]
    pen.polygon(tower, (244, 242, 238), volume=0.7)
    with pen.within(tower):
        for y in (0.34, 0.78, 1.22):
            pen.rect(-0.3, y, 0.3, y + 0.22, (200, 40, 40), volume=0.5)
    for y in (0.62, 1.06):
        pen.rect(-0.035, y, 0.035, y + 0.1, (60, 70, 86))
    pen.rect(-0.22, 1.43, 0.22, 1.49, (54, 54, 60), volume=0.5)
    pen.rect(-0.11, 1.49, 0.11, 1.69, (255, 238, 170), volume=0.3)
    for x in (-0.11, 0, 0.11):
        pen.stroke([(x, 1.49), (x, 1.69)], 0.016, (60, 60, 66))
    pen.polygon(arc(0, 1.68, 0.15, 0.16, 0, 180), (196, 40, 40), volume=0.8)


def windmill(pen: Pen, colour: Rgb) -> None:
    """A Dutch windmill."""
    pen.shadow(0, 0.02, 0.42, 0.07)
    pen.polygon(
        [(-0.34, 0.0), (0.34, 0.0), (0.2, 1.1), (-0.2, 1.1)], (176, 128, 96), 0.8, grain=0.7
    )
    pen.polygon([(-0.26, 1.08), (0.26, 1.08), (0.14, 1.34), (-0.14, 1.34)], (84, 58, 46), 0.7)
    pen.rect(-0.08, 0.0, 0.08, 0.26, (70, 96, 70))
    for x, y in ((-0.1, 0.6), (0.1, 0.6)):
        pen.rect(x - 0.04, y, x + 0.04, y + 0.1, (240, 236, 220))
    start = pen.between(0, 1.57)
    for i in range(4):
        turn = start + i * math.pi / 2
        along, across = (math.cos(turn), math.sin(turn)), (-math.sin(turn), math.cos(turn))

        def at(
            a: float,
            b: float,
            along: tuple[float, float] = along,
            across: tuple[float, float] = across,
        ) -> tuple[float, float]:
            return (a * along[0] + b * across[0], 1.16 + a * along[1] + b * across[1])

        pen.polygon(
            [at(0.16, 0), at(0.16, 0.17), at(0.82, 0.17), at(0.82, 0)], (236, 226, 204), 0.2
        )
        for k in range(8):
            pen.stroke([at(0.16 + k * 0.094, 0), at(0.16 + k * 0.094, 0.17)], 0.01, (120, 90, 64))
        pen.stroke([at(0, 0), at(0.84, 0)], 0.03, (92, 66, 46))
    pen.ellipse(0, 1.16, 0.05, 0.05, (60, 44, 36), volume=0.6)


def hot_air_balloon(pen: Pen, colour: Rgb) -> None:
    """A hot-air balloon in stripes, with its basket."""
    half = [(0, 1.6), (0.34, 1.54), (0.6, 1.2), (0.5, 0.78), (0.2, 0.4), (0.12, 0.3)]
    outline = curve([*half, *[(-x, y) for x, y in reversed(half[1:])]])
    pen.polygon(outline, colour, volume=0.9)
    second = (250, 236, 200) if pen.chance(0.5) else (250, 200, 60)
    with pen.within(outline):
        for left, right in ((-0.5, -0.28), (-0.1, 0.1), (0.28, 0.5)):
            strip = [
                (0, 1.62),
                (right * 0.9, 1.4),
                (right * 1.15, 1.1),
                (right, 0.8),
                (right * 0.25, 0.26),
                (left * 0.25, 0.26),
                (left, 0.8),
                (left * 1.15, 1.1),
                (left * 0.9, 1.4),
            ]
            pen.blob(strip, second, volume=0.7)
    pen.gloss(-0.26, 1.26, 0.08, 0.14, 0.4)
    for x in (-0.1, 0.1):
        pen.stroke([(x, 0.3), (x * 0.8, 0.14)], 0.012, (70, 60, 50))
    pen.rect(-0.1, 0.0, 0.1, 0.15, (150, 104, 60), volume=0.6, grain=0.6, radius=0.02)


def moon(pen: Pen, colour: Rgb) -> None:
    """The full moon with its maria, in a halo."""
    pen.ellipse(0, 0.5, 0.8, 0.8, (230, 232, 240), alpha=0.22, soft=0.16)
    pen.ellipse(0, 0.5, 0.5, 0.5, (240, 236, 220), volume=0.4, grain=0.3)
    for x, y, rx, ry in (
        (-0.14, 0.66, 0.15, 0.12),
        (0.12, 0.58, 0.12, 0.09),
        (-0.2, 0.4, 0.11, 0.13),
        (0.1, 0.3, 0.1, 0.07),
        (0.27, 0.44, 0.06, 0.08),
    ):
        pen.ellipse(x, y, rx, ry, (196, 194, 186), alpha=0.7, soft=0.02)


def house(pen: Pen, colour: Rgb) -> None:
    """A small house with a roof, a door and windows."""
    pen.shadow(0, 0.02, 0.7, 0.07)
    pen.rect(-0.55, 0.0, 0.55, 0.64, colour, volume=0.3, grain=0.3)
    pen.rect(0.26, 0.8, 0.4, 1.16, (150, 84, 66), volume=0.5, grain=0.4)
    pen.polygon([(-0.7, 0.6), (0.0, 1.14), (0.7, 0.6)], (158, 72, 52), volume=0.4, grain=0.5)
    pen.rect(-0.1, 0.0, 0.12, 0.4, (104, 66, 42), volume=0.3)
    pen.ellipse(0.07, 0.2, 0.018, 0.018, (230, 200, 90))
    for x in (-0.34, 0.34):
        pen.rect(x - 0.12, 0.22, x + 0.12, 0.46, (248, 246, 240))
        pen.rect(x - 0.1, 0.24, x + 0.1, 0.44, (116, 156, 190))
        pen.stroke([(x, 0.24), (x, 0.44)], 0.014, (248, 246, 240))
        pen.stroke([(x - 0.1, 0.34), (x + 0.1, 0.34)], 0.014, (248, 246, 240))
