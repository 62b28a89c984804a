"""Food and drink, each standing on its origin and about one unit high or wide."""

import math

from lib.datasets.sample.pen import Pen, Rgb, arc, curve, darker, lighter

LEAF: Rgb = (70, 130, 45)
STEM: Rgb = (95, 70, 40)
GLASS: Rgb = (225, 238, 242)


def _leaf(pen: Pen, x: float, y: float, length: float, angle: float) -> None:
    tip = (x + length * math.cos(angle), y + length * math.sin(angle))
    bulge = (-math.sin(angle) * length * 0.25, math.cos(angle) * length * 0.25)
    middle = ((x + tip[0]) / 2, (y + tip[1]) / 2)
    sides = [(middle[0] + s * bulge[0], middle[1] + s * bulge[1]) for s in (1, -1)]
    pen.blob([(x, y), sides[0], tip, sides[1]], pen.vary(LEAF), volume=0.7)
    pen.stroke([(x, y), tip], 0.012, lighter(LEAF, 0.3))


def _citrus_face(pen: Pen, x: float, y: float, radius: float, rind: Rgb, flesh: Rgb) -> None:
    """The cut side of a citrus fruit: rind, pith and wedges."""
    pen.ellipse(x, y, radius, radius, rind, volume=0.5)
    pen.ellipse(x, y, radius * 0.92, radius * 0.92, (255, 244, 214))
    for wedge in range(9):
        start = wedge * 40 + 4
        rim = arc(x, y, radius * 0.83, radius * 0.83, start, start + 33, 6)
        turn = math.radians(start + 16.5)
        core = (x + 0.1 * radius * math.cos(turn), y + 0.1 * radius * math.sin(turn))
        pen.polygon([core, *rim], pen.vary(flesh, 8), volume=0.3, grain=0.25)


def orange(pen: Pen, colour: Rgb) -> None:
    """A whole orange, now and then with a cut half in front."""
    peel = pen.vary((246, 138, 14), 9)
    pen.shadow(0.08, 0.04, 0.52, 0.1)
    pen.ellipse(0, 0.49, 0.5, 0.49, peel, volume=1.1, grain=0.22)
    pen.gloss(-0.18, 0.72, 0.12, 0.08, 0.5)
    pen.ellipse(0.05, 0.9, 0.045, 0.025, (90, 110, 40), volume=0.5)
    if pen.chance(0.35):
        _leaf(pen, 0.05, 0.91, 0.36, pen.between(0.1, 0.7))
    if pen.chance(0.4):
        pen.shadow(0.36, 0.02, 0.34, 0.06)
        _citrus_face(pen, 0.34, 0.3, 0.3, peel, (253, 166, 40))


def lemon(pen: Pen, colour: Rgb) -> None:
    """A lemon with its two tips, now and then a cut half."""
    peel = pen.vary((250, 222, 50), 8)
    pen.shadow(0.05, 0.03, 0.58, 0.09)
    outline = [(-0.62, 0.4), (-0.48, 0.52), (-0.2, 0.74), (0.2, 0.74), (0.48, 0.52), (0.62, 0.4)]
    outline += [(0.48, 0.28), (0.2, 0.06), (-0.2, 0.06), (-0.48, 0.28)]
    pen.blob(outline, peel, volume=1.0, grain=0.2)
    pen.gloss(-0.18, 0.58, 0.14, 0.06)
    if pen.chance(0.4):
        _citrus_face(pen, 0.42, 0.27, 0.26, peel, (250, 232, 110))


def apple(pen: Pen, colour: Rgb) -> None:
    """An apple with stem and leaf."""
    pen.shadow(0.07, 0.03, 0.48, 0.09)
    half = [(0.0, 0.84), (0.18, 0.92), (0.4, 0.84), (0.5, 0.56), (0.4, 0.2), (0.2, 0.02)]
    outline = [*half, (0.0, 0.06), *[(-x, y) for x, y in reversed(half[1:])]]
    pen.blob(outline, colour, volume=1.1, grain=0.15)
    with pen.within(curve(outline)):
        pen.ellipse(-0.12, 0.4, 0.12, 0.4, lighter(colour, 0.25), alpha=0.5, soft=0.06)
    pen.ellipse(0, 0.83, 0.12, 0.045, darker(colour, 0.5), soft=0.015)
    pen.stroke([(0, 0.82), (0.02, 0.95), (0.07, 1.04)], 0.04, STEM)
    if pen.chance(0.7):
        _leaf(pen, 0.03, 0.94, 0.3, pen.between(0.2, 0.7))
    pen.gloss(-0.22, 0.68, 0.09, 0.12)


def pear(pen: Pen, colour: Rgb) -> None:
    """A pear."""
    pen.shadow(0.07, 0.03, 0.4, 0.08)
    half = [(0.0, 1.0), (0.13, 0.96), (0.2, 0.72), (0.4, 0.4), (0.34, 0.1), (0.14, 0.0)]
    outline = [*half, *[(-x, y) for x, y in reversed(half[1:])]]
    pen.blob(outline, pen.vary((186, 200, 72)), volume=1.1, grain=0.3)
    pen.stroke([(0, 0.97), (0.03, 1.1), (0.1, 1.15)], 0.04, STEM)
    pen.gloss(-0.14, 0.45, 0.07, 0.12)


def banana(pen: Pen, colour: Rgb) -> None:
    """A bunch-less banana lying on its back, or two that hang together."""
    pen.shadow(0.0, 0.03, 0.6, 0.08)
    for lift in (0.12, 0.0) if pen.chance(0.5) else (0.0,):
        peel = pen.vary((250, 214, 50), 8)
        outer = curve(
            [
                (-0.66, 0.62 + lift),
                (-0.5, 0.24 + lift),
                (0.0, 0.02 + lift),
                (0.5, 0.2 + lift),
                (0.7, 0.56 + lift),
            ],
            closed=False,
        )
        inner = curve(
            [
                (0.62, 0.6 + lift),
                (0.4, 0.36 + lift),
                (0.0, 0.27 + lift),
                (-0.38, 0.42 + lift),
                (-0.57, 0.66 + lift),
            ],
            closed=False,
        )
        pen.polygon([*outer, *inner], peel, volume=0.9, grain=0.15)
        ridge = curve(
            [
                (-0.6, 0.62 + lift),
                (-0.42, 0.34 + lift),
                (0.0, 0.15 + lift),
                (0.45, 0.28 + lift),
                (0.66, 0.58 + lift),
            ],
            closed=False,
        )
        pen.stroke(ridge, 0.018, darker(peel, 0.22))
        pen.polygon(
            [(0.7, 0.55 + lift), (0.62, 0.6 + lift), (0.66, 0.68 + lift), (0.74, 0.64 + lift)],
            (92, 70, 30),
        )
        pen.polygon(
            [
                (-0.66, 0.61 + lift),
                (-0.57, 0.65 + lift),
                (-0.6, 0.82 + lift),
                (-0.68, 0.82 + lift),
            ],
            (150, 140, 50),
            volume=0.5,
        )
        for _ in range(3):
            pen.ellipse(
                pen.between(-0.4, 0.45),
                0.16 + lift + pen.between(0, 0.06),
                0.03,
                0.012,
                (120, 84, 30),
                alpha=0.6,
            )


def strawberry(pen: Pen, colour: Rgb) -> None:
    """A strawberry with seeds and green leaves."""
    pen.shadow(0.05, 0.04, 0.36, 0.08)
    half = [(0.0, 0.86), (0.24, 0.9), (0.44, 0.72), (0.36, 0.36), (0.14, 0.06)]
    outline = [*half, (0, 0.0), *[(-x, y) for x, y in reversed(half[1:])]]
    pen.blob(outline, pen.vary((216, 28, 38), 8), volume=1.2)
    for row, count in enumerate((3, 4, 5, 4, 4, 3)):
        y = 0.14 + row * 0.12
        reach = 0.06 + 0.3 * min(1, y / 0.6)
        for i in range(count):
            x = -reach + 2 * reach * i / (count - 1)
            pen.ellipse(x, y, 0.013, 0.022, (250, 220, 120))
    for turn in range(6):
        angle = math.pi * (0.02 + turn * 0.192)
        _leaf(pen, 0.0, 0.87, 0.3, angle if turn % 2 else angle - 0.3)
    pen.gloss(-0.2, 0.66, 0.07, 0.1)


def watermelon(pen: Pen, colour: Rgb) -> None:
    """A slice of watermelon, rind down."""
    pen.shadow(0, 0.03, 0.6, 0.08)
    pen.polygon(arc(0, 0.66, 0.72, 0.66, 180, 360), (36, 110, 48), volume=0.4, grain=0.3)
    pen.polygon(arc(0, 0.66, 0.66, 0.59, 180, 360), (226, 240, 196))
    pen.polygon(arc(0, 0.66, 0.61, 0.54, 180, 360), pen.vary((232, 62, 66), 8), 0.4, grain=0.25)
    for x, y in ((-0.4, 0.52), (-0.2, 0.36), (0.02, 0.5), (0.2, 0.32), (0.38, 0.5), (0.0, 0.25)):
        pen.ellipse(x, y, 0.018, 0.032, (40, 20, 20), tilt=x)


def pizza(pen: Pen, colour: Rgb) -> None:
    """A pizza on a plate, seen from above at a slant, with salami, olives and basil."""
    pen.shadow(0, 0.3, 0.82, 0.36)
    pen.ellipse(0, 0.38, 0.8, 0.38, (236, 236, 232), volume=0.3)
    pen.ellipse(0, 0.41, 0.7, 0.33, pen.vary((204, 142, 66)), volume=0.9, grain=0.4)
    pen.ellipse(0, 0.42, 0.61, 0.275, (188, 58, 30), grain=0.3)
    pen.ellipse(0, 0.425, 0.58, 0.255, pen.vary((246, 200, 92), 8), grain=0.5)
    for _ in range(14):
        turn, far = pen.between(0, 6.28), math.sqrt(pen.between(0.02, 0.8))
        pen.ellipse(
            far * 0.55 * math.cos(turn),
            0.425 + far * 0.24 * math.sin(turn),
            pen.between(0.04, 0.09),
            pen.between(0.02, 0.04),
            (252, 226, 150),
            soft=0.008,
        )
    for i in range(9):
        turn = i * 2.4 + pen.between(-0.3, 0.3)
        far = 0.16 + 0.33 * math.sqrt((i + 0.5) / 9)
        x, y = far * math.cos(turn), 0.43 + far * 0.44 * math.sin(turn)
        pen.ellipse(x, y, 0.085, 0.042, pen.vary((176, 36, 30), 8), volume=0.5, grain=0.3)
    for _ in range(5):
        x, y = pen.between(-0.36, 0.36), pen.between(0.3, 0.55)
        pen.ellipse(x, y, 0.03, 0.017, (34, 32, 30))
        pen.ellipse(x, y, 0.011, 0.007, (210, 160, 70))
    for _ in range(4):
        _leaf(pen, pen.between(-0.35, 0.35), pen.between(0.32, 0.52), 0.1, pen.between(0, 6))
    for turn in (0.4, 1.45, 2.5):
        x, y = 0.64 * math.cos(turn), 0.29 * math.sin(turn)
        pen.stroke([(-x, 0.42 - y), (x, 0.42 + y)], 0.01, (150, 90, 40), alpha=0.6)


def hot_dog(pen: Pen, colour: Rgb) -> None:
    """A sausage in a bun with mustard."""
    pen.shadow(0, 0.03, 0.75, 0.1)
    bun = pen.vary((214, 150, 76))
    pen.rect(-0.66, 0.14, 0.66, 0.5, bun, volume=0.8, radius=0.18, grain=0.15)
    pen.rect(-0.62, 0.36, 0.62, 0.46, (250, 226, 176), radius=0.05)
    pen.rect(-0.78, 0.26, 0.78, 0.5, (172, 66, 38), volume=1.1, radius=0.12, grain=0.12)
    pen.rect(-0.68, 0.02, 0.68, 0.34, lighter(bun, 0.12), volume=1.0, radius=0.16, grain=0.15)
    wave = [(-0.62 + i * 0.0775, 0.41 + (0.05 if i % 2 else -0.03)) for i in range(17)]
    pen.stroke(curve(wave, closed=False), 0.045, (248, 196, 30), volume=0.5)


def hamburger(pen: Pen, colour: Rgb) -> None:
    """A hamburger: bun, lettuce, cheese, patty, bun with sesame."""
    pen.shadow(0, 0.03, 0.6, 0.1)
    bun = pen.vary((208, 140, 66))
    pen.rect(-0.5, 0.02, 0.5, 0.22, bun, volume=0.9, radius=0.1)
    pen.rect(-0.54, 0.2, 0.54, 0.37, (92, 52, 32), volume=0.7, radius=0.08, grain=0.7)
    pen.polygon(
        [(-0.52, 0.4), (0.52, 0.4), (0.4, 0.27), (0.2, 0.37), (-0.1, 0.26), (-0.3, 0.37)],
        (250, 192, 50),
        volume=0.3,
    )
    pen.rect(-0.5, 0.38, 0.5, 0.45, (206, 50, 40), volume=0.5, radius=0.03)
    frill = [(-0.58 + i * 0.0725, 0.46 + (0.04 if i % 2 else -0.04)) for i in range(17)]
    pen.stroke(curve(frill, closed=False), 0.07, (112, 176, 60), volume=0.6)
    top = [*arc(0, 0.5, 0.54, 0.42, 0, 180, 20), (-0.5, 0.47), (0.5, 0.47)]
    pen.polygon(top, bun, volume=1.0, grain=0.1)
    for x, y in ((-0.3, 0.7), (-0.12, 0.82), (0.08, 0.76), (0.26, 0.72), (-0.2, 0.62), (0.1, 0.87)):
        pen.ellipse(x, y, 0.035, 0.018, (250, 234, 196), tilt=x)


def donut(pen: Pen, colour: Rgb) -> None:
    """A ring with icing and sprinkles, seen from above at a slant."""
    pen.shadow(0, 0.22, 0.6, 0.24)
    pen.ellipse(0, 0.34, 0.56, 0.34, pen.vary((206, 146, 78)), volume=1.0)
    icing = pen.vary(((238, 130, 172), (104, 58, 34), (250, 240, 226))[int(pen.rng.integers(3))], 8)
    edge = [
        (x * (1 + 0.04 * math.sin(i)), y)
        for i, (x, y) in enumerate(arc(0, 0.41, 0.52, 0.28, 0, 350, 24))
    ]
    pen.blob(edge, icing, volume=0.8)
    pen.ellipse(0, 0.41, 0.17, 0.085, darker((170, 110, 56), 0.35))
    pen.ellipse(0, 0.385, 0.14, 0.05, (196, 138, 74))
    for _ in range(26):
        turn, far = pen.between(0, 6.28), pen.between(0.52, 0.88)
        x, y = 0.5 * far * math.cos(turn), 0.42 + 0.25 * far * math.sin(turn)
        tint = ((250, 220, 60), (80, 170, 230), (255, 255, 255), (110, 200, 90))
        lean = pen.between(-0.025, 0.025)
        pen.stroke([(x - 0.02, y - lean), (x + 0.02, y + lean)], 0.018, tint[_ % 4])


def cake(pen: Pen, colour: Rgb) -> None:
    """A two-layer cake on a stand with icing, cherries and candles."""
    pen.shadow(0, 0.02, 0.66, 0.09)
    pen.ellipse(0, 0.08, 0.66, 0.09, (228, 228, 232), volume=0.6)
    body = [*arc(0, 0.14, 0.5, 0.08, 180, 360), *arc(0, 0.56, 0.5, 0.08, 0, 180)]
    pen.polygon(body, colour, volume=0.6, grain=0.12)
    pen.ellipse(0, 0.58, 0.51, 0.11, lighter(colour, 0.55), volume=0.2)
    drip = [(-0.51, 0.58)]
    for i in range(13):
        drip += [(-0.5 + i / 12, 0.47 - (0.09 if i % 2 else 0.0) - 0.05 * math.sin(i * 0.26))]
    drip += [(0.51, 0.58), *arc(0, 0.58, 0.51, 0.11, 0, -180, 10)]
    pen.polygon(curve(drip[:-10], closed=False).tolist() + drip[-10:], lighter(colour, 0.55))
    pen.stroke(arc(0, 0.17, 0.5, 0.08, 185, 355), 0.06, lighter(colour, 0.6), volume=0.8)
    for i in range(6):
        turn = math.radians(20 + i * 60)
        x, y = 0.38 * math.cos(turn), 0.6 + 0.075 * math.sin(turn)
        pen.ellipse(x, y, 0.055, 0.055, (196, 20, 40), volume=1.1)
    for x in (-0.16, 0.0, 0.16):
        pen.rect(x - 0.018, 0.6, x + 0.018, 0.86, ((90, 160, 230), (240, 190, 60))[x == 0], 0.5)
        pen.ellipse(x, 0.92, 0.03, 0.06, (255, 190, 60), soft=0.008)
        pen.ellipse(x, 0.905, 0.014, 0.03, (255, 250, 210))


def ice_cream(pen: Pen, colour: Rgb) -> None:
    """A cone with two or three scoops."""
    cone = [(-0.2, 0.5), (0.2, 0.5), (0.02, 0.0), (-0.02, 0.0)]
    pen.polygon(cone, (216, 160, 88), volume=0.8)
    with pen.within(cone):
        for i in range(8):
            x = -0.5 + i * 0.12
            pen.stroke([(x, 0.55), (x + 0.3, -0.05)], 0.012, (160, 104, 48))
            pen.stroke([(x + 0.35, 0.55), (x + 0.05, -0.05)], 0.012, (160, 104, 48))
    flavours = ((248, 232, 196), (240, 150, 176), (112, 66, 42), (176, 222, 170))
    start = int(pen.rng.integers(4))
    for i, (x, y) in enumerate(((-0.12, 0.6), (0.12, 0.62), (0.0, 0.8))):
        pen.ellipse(x, y, 0.2, 0.19, flavours[(start + i) % 4], volume=1.1, grain=0.3)
    pen.ellipse(0.03, 1.0, 0.05, 0.05, (200, 20, 36), volume=1.1)


def carrot(pen: Pen, colour: Rgb) -> None:
    """A carrot lying with its green top."""
    pen.shadow(0, 0.02, 0.6, 0.06)
    for spread in (-0.12, -0.02, 0.08, 0.18):
        leaf = [(0.5, 0.16), (0.75, 0.18 + spread), (1.0, 0.16 + spread * 1.6)]
        pen.stroke(curve(leaf, closed=False), 0.035, pen.vary((76, 142, 48)))
    root = [(-0.7, 0.13), (-0.3, 0.05), (0.3, 0.01), (0.52, 0.06), (0.55, 0.2), (0.3, 0.29)]
    pen.blob([*root, (-0.3, 0.21)], pen.vary((238, 116, 28), 8), volume=1.0, grain=0.15)
    for x in (-0.4, -0.15, 0.05, 0.25, 0.4):
        pen.stroke([(x, 0.2), (x + 0.03, 0.13)], 0.012, (200, 86, 16))


def broccoli(pen: Pen, colour: Rgb) -> None:
    """A floret of broccoli."""
    pen.shadow(0, 0.03, 0.36, 0.08)
    stalk = (156, 190, 96)
    pen.blob(
        [(-0.13, 0.0), (0.13, 0.0), (0.14, 0.3), (0.3, 0.55), (-0.3, 0.55), (-0.14, 0.3)],
        stalk,
        volume=0.8,
    )
    head = pen.vary((58, 118, 44), 10)
    for x, y, r in (
        (-0.32, 0.55, 0.2),
        (0.32, 0.55, 0.2),
        (-0.17, 0.75, 0.22),
        (0.17, 0.75, 0.22),
        (0.0, 0.6, 0.25),
        (0.0, 0.86, 0.17),
    ):
        pen.ellipse(x, y, r, r * 0.9, pen.vary(head, 8), volume=1.0, grain=0.8)


def bread(pen: Pen, colour: Rgb) -> None:
    """A loaf of bread with cuts in its crust."""
    pen.shadow(0, 0.03, 0.74, 0.1)
    crust = pen.vary((184, 116, 54))
    loaf = [(-0.72, 0.16), (-0.6, 0.42), (-0.2, 0.54), (0.3, 0.52), (0.64, 0.4), (0.74, 0.16)]
    pen.blob([*loaf, (0.5, 0.02), (-0.5, 0.02)], crust, volume=1.0, grain=0.3)
    for x in (-0.42, -0.15, 0.12, 0.39):
        cut = [(x - 0.08, 0.42), (x + 0.02, 0.36), (x + 0.14, 0.2), (x + 0.03, 0.3)]
        pen.blob(cut, (240, 208, 150), grain=0.3)


def sandwich(pen: Pen, colour: Rgb) -> None:
    """Two triangles of toast with lettuce, tomato and cheese."""
    pen.shadow(0, 0.03, 0.62, 0.09)
    for lift, tint, thick in (
        (0.0, (226, 182, 112), 0.12),
        (0.12, (246, 196, 66), 0.05),
        (0.17, (208, 54, 42), 0.07),
        (0.24, (110, 172, 62), 0.07),
        (0.31, (250, 244, 230), 0.05),
        (0.36, (226, 182, 112), 0.13),
    ):
        wobble = 0.03 if lift == 0.24 else 0.0
        pen.rect(
            -0.55 - wobble,
            lift + 0.02,
            0.55 + wobble,
            lift + thick + 0.02,
            tint,
            0.5,
            grain=0.25,
            radius=0.03,
        )
    pen.polygon(
        [(-0.55, 0.5), (0.55, 0.5), (0.3, 0.68), (-0.3, 0.68)], (206, 152, 84), 0.3, grain=0.5
    )


def _glass(pen: Pen, drink: Rgb, fill: float) -> None:
    """A tall tumbler, filled to the share of its height."""
    pen.shadow(0.1, 0.03, 0.36, 0.08, 0.35)
    outline = [(-0.24, 0.03), *arc(0, 0.03, 0.24, 0.05, 180, 360, 10), (0.32, 1.0), (-0.32, 1.0)]
    pen.polygon(outline, GLASS, alpha=0.4)
    side = 0.23 + 0.07 * fill
    liquid = [*arc(0, 0.07, 0.215, 0.045, 180, 360, 10), (side, fill), (-side, fill)]
    pen.polygon(liquid, drink, volume=0.55)
    pen.ellipse(0, fill, side, 0.055, lighter(drink, 0.35))
    pen.ellipse(0, fill - 0.008, side * 0.9, 0.04, lighter(drink, 0.12))
    pen.polygon(
        [(-0.21, 0.12), (-0.15, 0.12), (-0.2, 0.9), (-0.27, 0.9)],
        (255, 255, 255),
        alpha=0.45,
        soft=0.008,
    )
    pen.polygon([(0.19, 0.15), (0.215, 0.15), (0.27, 0.9), (0.24, 0.9)], (255, 255, 255), alpha=0.3)
    pen.stroke(arc(0, 1.0, 0.32, 0.06, 0, 360, 30), 0.016, (240, 248, 250), alpha=0.85)


def orange_juice(pen: Pen, colour: Rgb) -> None:
    """A glass of orange juice, often with a slice on its rim or a straw."""
    if pen.chance(0.5):
        straw = ((220, 50, 60), (60, 150, 210), (90, 180, 90))[int(pen.rng.integers(3))]
        pen.stroke([(-0.05, 0.5), (0.12, 1.1), (0.34, 1.22)], 0.05, straw, volume=0.5)
    _glass(pen, pen.vary((255, 160, 16), 7), pen.between(0.72, 0.88))
    if pen.chance(0.6):
        _citrus_face(pen, 0.3, 1.02, 0.2, (246, 138, 14), (253, 166, 40))


def milk(pen: Pen, colour: Rgb) -> None:
    """A glass of milk."""
    _glass(pen, pen.vary((246, 246, 240), 4), pen.between(0.7, 0.88))


def coffee(pen: Pen, colour: Rgb) -> None:
    """A cup of coffee on a saucer, with steam."""
    pen.shadow(0.04, 0.02, 0.72, 0.12)
    pen.ellipse(0, 0.08, 0.66, 0.13, lighter(colour, 0.2), volume=0.5)
    pen.ellipse(0, 0.09, 0.4, 0.07, darker(colour, 0.1))
    pen.stroke(arc(0.42, 0.4, 0.2, 0.17, -95, 95), 0.07, colour, volume=0.7)
    cup = [
        (-0.46, 0.64),
        *curve(
            [(-0.46, 0.64), (-0.4, 0.3), (-0.24, 0.08), (0.24, 0.08), (0.4, 0.3), (0.46, 0.64)],
            closed=False,
        ),
    ]
    pen.polygon(cup, colour, volume=0.9)
    pen.ellipse(0, 0.64, 0.46, 0.1, lighter(colour, 0.35))
    pen.ellipse(0, 0.63, 0.41, 0.08, (84, 48, 26))
    pen.ellipse(0.02, 0.63, 0.26, 0.045, (190, 140, 92), alpha=0.75, soft=0.02)
    for x in (-0.14, 0.1):
        steam = [(x, 0.75), (x + 0.07, 0.86), (x - 0.05, 0.98), (x + 0.05, 1.12)]
        pen.polygon(
            curve([*steam, *[(a + 0.05, b) for a, b in reversed(steam)]]),
            (250, 250, 250),
            alpha=0.4,
            soft=0.03,
        )


def wine_glass(pen: Pen, colour: Rgb) -> None:
    """A stemmed glass with red wine."""
    pen.shadow(0.05, 0.02, 0.26, 0.05)
    pen.ellipse(0, 0.03, 0.23, 0.045, GLASS, alpha=0.8)
    pen.stroke([(0, 0.03), (0, 0.45)], 0.035, (214, 228, 232), volume=0.5)
    bowl = curve(
        [
            (-0.2, 1.0),
            (-0.27, 0.74),
            (-0.2, 0.52),
            (0, 0.43),
            (0.2, 0.52),
            (0.27, 0.74),
            (0.2, 1.0),
        ],
        closed=False,
    )
    pen.polygon(bowl, GLASS, alpha=0.45)
    wine = curve([(-0.265, 0.74), (-0.2, 0.54), (0, 0.455), (0.2, 0.54), (0.265, 0.74)], False)
    pen.polygon(wine, pen.vary((120, 14, 36), 6), volume=0.7)
    pen.ellipse(0, 0.74, 0.265, 0.045, (150, 34, 56))
    pen.stroke(arc(0, 1.0, 0.2, 0.035, 0, 360, 30), 0.012, (240, 248, 250), alpha=0.85)
    pen.polygon(
        [(-0.2, 0.6), (-0.16, 0.57), (-0.14, 0.92), (-0.19, 0.92)],
        (255, 255, 255),
        alpha=0.45,
        soft=0.01,
    )


def bottle(pen: Pen, colour: Rgb) -> None:
    """A wine bottle with a label."""
    pen.shadow(0.06, 0.02, 0.24, 0.05)
    half = [(0.18, 0.0), (0.18, 0.62), (0.15, 0.72), (0.06, 0.84), (0.06, 1.05)]
    outline = [*half, *[(-x, y) for x, y in reversed(half)]]
    pen.polygon(outline, colour, volume=0.9)
    pen.rect(-0.065, 0.92, 0.065, 1.08, (130, 24, 34), volume=0.7)
    pen.rect(-0.18, 0.18, 0.18, 0.5, (240, 230, 206), volume=0.35)
    pen.rect(-0.13, 0.38, 0.13, 0.42, (130, 40, 40))
    for y in (0.32, 0.27):
        pen.rect(-0.1, y, 0.1, y + 0.015, (140, 130, 110))
    pen.polygon(
        [(-0.14, 0.54), (-0.1, 0.54), (-0.08, 0.68), (-0.12, 0.66)],
        (255, 255, 255),
        alpha=0.5,
        soft=0.008,
    )


def bowl_of_soup(pen: Pen, colour: Rgb) -> None:
    """A bowl of tomato soup with a spoon."""
    pen.shadow(0, 0.02, 0.56, 0.1)
    shell = [*arc(0, 0.46, 0.6, 0.46, 180, 360), (0.6, 0.46)]
    pen.polygon(shell, colour, volume=0.8)
    pen.ellipse(0, 0.46, 0.6, 0.15, lighter(colour, 0.4))
    pen.ellipse(0, 0.445, 0.53, 0.115, pen.vary((206, 74, 34), 8), volume=0.2, grain=0.2)
    for _ in range(6):
        _leaf(pen, pen.between(-0.3, 0.3), pen.between(0.4, 0.49), 0.07, pen.between(0, 6))
    pen.stroke([(0.2, 0.46), (0.74, 0.78)], 0.05, (196, 200, 206), volume=0.6)


def mushroom(pen: Pen, colour: Rgb) -> None:
    """A toadstool with white dots, or a brown mushroom."""
    pen.shadow(0.03, 0.02, 0.34, 0.06)
    pen.blob(
        [(-0.14, 0.0), (0.14, 0.0), (0.11, 0.3), (0.12, 0.52), (-0.12, 0.52), (-0.11, 0.3)],
        (240, 230, 208),
        volume=0.9,
        grain=0.2,
    )
    pen.ellipse(0, 0.5, 0.46, 0.09, (226, 208, 176))
    cap = [*arc(0, 0.5, 0.5, 0.48, 0, 180, 20), *arc(0, 0.5, 0.5, 0.06, 180, 360, 12)]
    pen.polygon(cap, colour, volume=1.0, grain=0.15)
    if colour[0] > colour[1] + 90:
        for x, y, r in (
            (-0.28, 0.68, 0.06),
            (-0.05, 0.84, 0.07),
            (0.2, 0.74, 0.06),
            (0.02, 0.62, 0.05),
            (0.36, 0.58, 0.04),
            (-0.4, 0.55, 0.035),
        ):
            pen.ellipse(x, y, r, r * 0.75, (252, 248, 240), volume=0.4)
