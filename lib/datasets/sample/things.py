"""Things of the house and of leisure, each standing on its origin."""

import math

from lib.datasets.sample.pen import Pen, Rgb, arc, box, curve, darker, lighter, oval

WOOD: Rgb = (150, 102, 60)
BLOSSOMS: list[Rgb] = [
    (226, 50, 66),
    (250, 206, 50),
    (238, 130, 180),
    (246, 244, 240),
    (150, 90, 190),
]


def clock(pen: Pen, colour: Rgb) -> None:
    """A round wall clock at a time of its own."""
    pen.ellipse(0.05, 0.46, 0.5, 0.5, (10, 10, 20), alpha=0.3, soft=0.04)
    pen.ellipse(0, 0.5, 0.5, 0.5, colour, volume=0.8)
    pen.ellipse(0, 0.5, 0.425, 0.425, (250, 249, 242), volume=0.15)
    for hour in range(12):
        turn = math.radians(hour * 30)
        near = 0.32 if hour % 3 == 0 else 0.355
        pen.stroke(
            [
                (near * math.cos(turn), 0.5 + near * math.sin(turn)),
                (0.395 * math.cos(turn), 0.5 + 0.395 * math.sin(turn)),
            ],
            0.03 if hour % 3 == 0 else 0.014,
            (30, 30, 34),
        )
    time = pen.between(0, 12)
    for turn, length, width in ((time / 12, 0.21, 0.036), (time % 1, 0.32, 0.024)):
        angle = math.pi / 2 - 2 * math.pi * turn
        pen.stroke(
            [
                (-0.05 * math.cos(angle), 0.5 - 0.05 * math.sin(angle)),
                (length * math.cos(angle), 0.5 + length * math.sin(angle)),
            ],
            width,
            (24, 24, 28),
        )
    pen.ellipse(0, 0.5, 0.03, 0.03, (196, 40, 40))


def laptop(pen: Pen, colour: Rgb) -> None:
    """An open laptop, seen from the front."""
    pen.shadow(0, 0.03, 0.86, 0.09)
    shell = pen.vary((176, 178, 184), 8)
    pen.rect(-0.62, 0.22, 0.62, 1.06, (44, 46, 50), volume=0.25, radius=0.04)
    screen = box(-0.57, 0.29, 0.57, 1.01)
    top = ((60, 120, 200), (90, 60, 150), (30, 110, 110), (236, 240, 244))[int(pen.rng.integers(4))]
    pen.polygon(screen, top)
    with pen.within(screen):
        pen.ellipse(0.25, 0.4, 0.7, 0.45, lighter(top, 0.4), alpha=0.7, soft=0.12)
        pen.rect(-0.5, 0.5, 0.05, 0.93, (250, 250, 250))
        for y in (0.86, 0.79, 0.72, 0.65, 0.58):
            pen.rect(-0.45, y, pen.between(-0.25, 0.0), y + 0.022, (120, 130, 146))
    pen.polygon([(-0.62, 0.22), (0.62, 0.22), (0.82, 0.05), (-0.82, 0.05)], shell, volume=0.35)
    pen.rect(-0.82, 0.01, 0.82, 0.05, darker(shell, 0.25), radius=0.02)
    for row in range(4):
        y = 0.19 - row * 0.026
        reach = 0.53 + row * 0.028
        for key in range(13):
            x = -reach + key * 2 * reach / 13
            pen.rect(x, y - 0.016, x + 2 * reach / 13 * 0.82, y, (50, 52, 56))
    pen.polygon([(-0.14, 0.085), (0.14, 0.085), (0.16, 0.055), (-0.16, 0.055)], darker(shell, 0.1))


def keyboard(pen: Pen, colour: Rgb) -> None:
    """A computer keyboard at a slant."""
    pen.shadow(0, 0.08, 1.02, 0.14)
    outline = [(-0.86, 0.42), (0.86, 0.42), (1.0, 0.06), (-1.0, 0.06)]
    pen.polygon(outline, colour, volume=0.3)
    pen.polygon([(-1.0, 0.06), (1.0, 0.06), (1.0, 0.01), (-1.0, 0.01)], darker(colour, 0.35))
    light = sum(colour) > 380
    cap = (250, 250, 248) if light else (66, 68, 74)
    for row in range(5):
        y = 0.385 - row * 0.065
        reach = 0.83 + row * 0.027
        keys = 16 if row < 4 else 7
        for key in range(keys):
            x = -reach + key * 2 * reach / keys
            wide = 2 * reach / keys * 0.86
            pen.rect(x, y - 0.048, x + wide, y, darker(cap, 0.35))
            pen.rect(x + 0.006, y - 0.036, x + wide - 0.006, y, cap)


def computer_mouse(pen: Pen, colour: Rgb) -> None:
    """A computer mouse with its wheel."""
    pen.shadow(0, 0.06, 0.5, 0.12)
    pen.stroke(
        curve([(0.42, 0.3), (0.7, 0.42), (0.9, 0.34), (1.1, 0.5)], False), 0.035, (40, 40, 44)
    )
    pen.blob(
        [
            (-0.5, 0.12),
            (-0.44, 0.32),
            (-0.1, 0.5),
            (0.3, 0.44),
            (0.5, 0.24),
            (0.44, 0.06),
            (0, 0.0),
        ],
        colour,
        volume=1.0,
    )
    pen.stroke(curve([(0.46, 0.26), (0.2, 0.36), (-0.02, 0.49)], False), 0.014, darker(colour, 0.5))
    pen.ellipse(0.28, 0.36, 0.08, 0.045, (60, 60, 66), volume=0.6)


def book(pen: Pen, colour: Rgb) -> None:
    """A stack of books, or one that stands."""
    if pen.chance(0.5):
        pen.shadow(0, 0.03, 0.62, 0.08)
        covers = [colour, (46, 84, 130), (160, 60, 50), (70, 110, 70), (206, 170, 90)]
        bottom = 0.0
        for i in range(3):
            thick, side = pen.between(0.13, 0.2), pen.between(-0.06, 0.06)
            cover = pen.vary(covers[0 if i != 1 else 1 + int(pen.rng.integers(4))])
            pen.rect(-0.54 + side, bottom, 0.54 + side, bottom + thick, cover, 0.4, radius=0.02)
            pages = (244, 236, 214)
            pen.rect(-0.42 + side, bottom + 0.025, 0.56 + side, bottom + thick - 0.025, pages, 0.2)
            for line in (0.35, 0.65):
                y = bottom + thick * line
                pen.stroke([(-0.4 + side, y), (0.55 + side, y)], 0.006, (206, 196, 170))
            bottom += thick
        return
    pen.shadow(0.05, 0.02, 0.42, 0.06)
    pen.polygon([(0.32, 0.02), (0.42, 0.08), (0.42, 1.06), (0.32, 1.02)], (240, 232, 208), 0.2)
    pen.rect(-0.38, 0.0, 0.34, 1.04, colour, volume=0.35, grain=0.15, radius=0.02)
    pen.rect(-0.38, 0.0, -0.3, 1.04, darker(colour, 0.3), volume=0.4)
    pen.rect(-0.2, 0.66, 0.24, 0.88, lighter(colour, 0.75))
    for y in (0.8, 0.73):
        pen.rect(-0.14, y, 0.18, y + 0.025, darker(colour, 0.3))
    pen.ellipse(0.02, 0.34, 0.13, 0.13, lighter(colour, 0.55), volume=0.3)


def chair(pen: Pen, colour: Rgb) -> None:
    """A wooden chair."""
    pen.shadow(0, 0.03, 0.42, 0.08)
    wood = colour
    for x, y in ((-0.26, 0.14), (0.3, 0.14)):
        pen.stroke([(x, 0.6), (x, y)], 0.06, darker(wood, 0.35), volume=0.5)
    for x in (-0.27, 0.27):
        pen.stroke([(x, 0.6), (x * 1.05, 1.4)], 0.065, wood, volume=0.7)
    for y in (0.84, 1.06, 1.28):
        pen.rect(-0.29, y, 0.29, y + 0.09, wood, volume=0.6, grain=0.3, radius=0.03)
    pen.polygon(
        [(-0.31, 0.66), (0.33, 0.66), (0.4, 0.52), (-0.38, 0.52)],
        lighter(wood, 0.1),
        0.3,
        grain=0.3,
    )
    pen.rect(-0.38, 0.45, 0.4, 0.53, darker(wood, 0.15), volume=0.4)
    for x in (-0.34, 0.36):
        pen.stroke([(x, 0.47), (x * 1.03, 0.03)], 0.07, wood, volume=0.7)


def sofa(pen: Pen, colour: Rgb) -> None:
    """A sofa with cushions."""
    pen.shadow(0, 0.03, 1.1, 0.1)
    for x in (-0.9, 0.9):
        pen.rect(x - 0.05, 0.0, x + 0.05, 0.12, (70, 48, 32))
    pen.rect(-0.98, 0.3, 0.98, 0.96, colour, volume=0.6, radius=0.12, grain=0.2)
    for x in (-0.43, 0.43):
        pen.rect(x - 0.43, 0.42, x + 0.43, 0.88, lighter(colour, 0.06), 0.7, radius=0.1, grain=0.2)
        pen.rect(x - 0.44, 0.28, x + 0.44, 0.48, lighter(colour, 0.14), 0.7, radius=0.07, grain=0.2)
    pen.rect(-1.0, 0.1, 1.0, 0.3, darker(colour, 0.12), volume=0.5, radius=0.05, grain=0.2)
    for x in (-1.0, 1.0):
        pen.rect(x - 0.14, 0.1, x + 0.14, 0.64, colour, volume=0.8, radius=0.12, grain=0.2)
    if pen.chance(0.6):
        pen.polygon(
            [(-0.8, 0.46), (-0.66, 0.8), (-0.36, 0.74), (-0.46, 0.44)],
            BLOSSOMS[int(pen.rng.integers(5))],
            volume=0.8,
        )


def bed(pen: Pen, colour: Rgb) -> None:
    """A bed with pillows and a blanket."""
    pen.shadow(0, 0.04, 1.2, 0.12)
    pen.rect(-1.18, 0.0, -1.06, 1.0, WOOD, volume=0.6, radius=0.03, grain=0.3)
    pen.rect(1.06, 0.0, 1.16, 0.56, WOOD, volume=0.6, radius=0.03, grain=0.3)
    pen.rect(-1.1, 0.14, 1.1, 0.3, darker(WOOD, 0.2), volume=0.4, grain=0.3)
    pen.rect(-1.06, 0.28, 1.06, 0.5, (240, 238, 232), volume=0.4, radius=0.05)
    pen.blob(
        [(-1.0, 0.5), (-0.98, 0.68), (-0.6, 0.72), (-0.54, 0.54), (-0.7, 0.48)],
        (250, 248, 244),
        volume=0.9,
    )
    cover = [(-0.5, 0.46), (-0.44, 0.6), (0.2, 0.64), (0.9, 0.6), (1.08, 0.5), (1.08, 0.2)]
    pen.polygon([*curve(cover, False), (-0.42, 0.2)], colour, volume=0.6, grain=0.25)
    pen.polygon(
        [(-0.52, 0.48), (-0.45, 0.62), (-0.2, 0.635), (-0.24, 0.2), (-0.42, 0.2)],
        lighter(colour, 0.6),
        volume=0.3,
    )


def vase(pen: Pen, colour: Rgb) -> None:
    """A vase with a bunch of flowers."""
    pen.shadow(0.05, 0.02, 0.32, 0.06)
    bloom = BLOSSOMS[int(pen.rng.integers(5))]
    heads = [
        (-0.3, 0.98),
        (0.3, 0.98),
        (-0.14, 1.2),
        (0.16, 1.2),
        (0.0, 1.02),
        (-0.38, 0.78),
        (0.38, 0.78),
    ]
    for x, y in heads:
        pen.stroke(
            curve([(0.0, 0.55), (x * 0.5, (0.55 + y) / 2), (x, y)], False), 0.022, (70, 124, 50)
        )
    for x, y, tilt in ((-0.22, 0.72, 2.4), (0.24, 0.72, 0.7), (-0.1, 0.84, 1.9), (0.14, 0.86, 1.2)):
        pen.ellipse(x, y, 0.15, 0.05, pen.vary((74, 136, 54)), volume=0.6, tilt=tilt)
    for x, y in heads:
        petal = pen.vary(bloom, 12)
        for i in range(6):
            turn = i * 1.0472 + x
            pen.ellipse(
                x + 0.085 * math.cos(turn),
                y + 0.085 * math.sin(turn),
                0.075,
                0.055,
                petal,
                volume=0.6,
                tilt=turn,
            )
        pen.ellipse(x, y, 0.05, 0.05, (240, 190, 60), volume=0.6)
    half = [(0.13, 0.64), (0.11, 0.54), (0.26, 0.34), (0.24, 0.14), (0.14, 0.0)]
    outline = [*half, *[(-x, y) for x, y in reversed(half)]]
    pen.polygon(curve(outline), colour, volume=1.0)
    pen.gloss(-0.12, 0.32, 0.03, 0.1)


def potted_plant(pen: Pen, colour: Rgb) -> None:
    """A leafy plant in a clay pot."""
    pen.shadow(0.05, 0.02, 0.34, 0.07)
    for i in range(15):
        turn = math.radians(8 + i * 11.7)
        length = pen.between(0.5, 0.72) * (0.75 + 0.35 * math.sin(turn))
        tip = (length * math.cos(turn) * 0.95, 0.5 + length * math.sin(turn))
        middle = (tip[0] * 0.55, 0.5 + (tip[1] - 0.5) * 0.65)
        wide = (-math.sin(turn) * 0.075, math.cos(turn) * 0.075)
        pen.blob(
            [
                (0, 0.5),
                (middle[0] + wide[0], middle[1] + wide[1]),
                tip,
                (middle[0] - wide[0], middle[1] - wide[1]),
            ],
            pen.vary((62, 128, 56), 16),
            0.6,
        )
        pen.stroke([(0, 0.5), tip], 0.01, (120, 176, 90))
    pot = pen.vary((186, 96, 58))
    pen.polygon([(-0.3, 0.46), (0.3, 0.46), (0.22, 0.0), (-0.22, 0.0)], pot, volume=0.9, grain=0.2)
    pen.rect(-0.34, 0.4, 0.34, 0.53, pot, volume=0.8, radius=0.03)


def lamp(pen: Pen, colour: Rgb) -> None:
    """A table lamp, lit."""
    pen.shadow(0, 0.02, 0.3, 0.06)
    pen.ellipse(0, 0.9, 0.8, 0.6, (255, 232, 170), alpha=0.28, soft=0.14)
    pen.ellipse(0, 0.05, 0.24, 0.06, (96, 84, 74), volume=0.8)
    pen.blob(
        [(-0.05, 0.05), (0.05, 0.05), (0.13, 0.3), (0.04, 0.6), (-0.04, 0.6), (-0.13, 0.3)],
        colour,
        volume=0.9,
    )
    shade = [(-0.42, 0.58), (0.42, 0.58), (0.25, 1.12), (-0.25, 1.12)]
    pen.polygon(shade, (250, 226, 170), volume=0.35)
    with pen.within(shade):
        pen.ellipse(0, 0.72, 0.24, 0.24, (255, 248, 214), alpha=0.9, soft=0.09)
    pen.stroke([(-0.42, 0.58), (0.42, 0.58)], 0.02, (206, 170, 110))


def candle(pen: Pen, colour: Rgb) -> None:
    """A burning candle on a dish."""
    pen.shadow(0, 0.02, 0.3, 0.06)
    pen.ellipse(0, 1.16, 0.42, 0.42, (255, 206, 110), alpha=0.3, soft=0.12)
    pen.ellipse(0, 0.06, 0.3, 0.07, (186, 150, 70), volume=0.8)
    pen.rect(-0.13, 0.06, 0.13, 0.9, colour, volume=0.8, radius=0.03)
    pen.blob(
        [(-0.14, 0.9), (0.14, 0.9), (0.12, 0.7), (0.08, 0.82), (-0.06, 0.6), (-0.1, 0.8)],
        lighter(colour, 0.35),
        volume=0.5,
    )
    pen.stroke([(0, 0.9), (0.01, 0.99)], 0.02, (40, 30, 30))
    pen.blob([(0, 1.36), (0.08, 1.12), (0.04, 0.98), (-0.04, 0.98), (-0.08, 1.12)], (255, 170, 40))
    pen.blob([(0, 1.24), (0.045, 1.08), (0.0, 0.99), (-0.045, 1.08)], (255, 246, 190))


def television(pen: Pen, colour: Rgb) -> None:
    """A flat television with a landscape on its screen."""
    pen.shadow(0, 0.02, 0.8, 0.07)
    pen.polygon([(-0.3, 0.0), (0.3, 0.0), (0.12, 0.12), (-0.12, 0.12)], (46, 46, 50), volume=0.5)
    pen.rect(-0.86, 0.1, 0.86, 1.1, (26, 26, 30), volume=0.3, radius=0.04)
    screen = box(-0.8, 0.17, 0.8, 1.04)
    pen.polygon(screen, (110, 170, 226))
    with pen.within(screen):
        pen.ellipse(-0.3, 0.2, 0.8, 0.36, pen.vary((80, 140, 80)), volume=0.4)
        pen.ellipse(0.5, 0.14, 0.7, 0.34, pen.vary((60, 116, 70)), volume=0.4)
        pen.ellipse(0.42, 0.84, 0.1, 0.1, (255, 236, 150))
        pen.polygon(
            [(-0.8, 0.6), (-0.4, 1.06), (-0.1, 1.06), (-0.8, 0.3)], (255, 255, 255), alpha=0.12
        )


def teddy_bear(pen: Pen, colour: Rgb) -> None:
    """A sitting teddy bear."""
    pen.shadow(0, 0.03, 0.48, 0.08)
    fur = colour
    pale = lighter(fur, 0.45)
    for x in (-0.2, 0.2):
        pen.ellipse(x * 1.05, 1.13, 0.105, 0.105, fur, volume=0.9, grain=0.5)
        pen.ellipse(x * 1.05, 1.12, 0.06, 0.06, pale, volume=0.4)
    for side in (-1, 1):
        pen.ellipse(side * 0.34, 0.5, 0.1, 0.22, fur, volume=0.9, grain=0.5, tilt=side * 0.6)
    pen.ellipse(0, 0.4, 0.31, 0.36, fur, volume=1.0, grain=0.6)
    pen.ellipse(0, 0.38, 0.2, 0.24, pale, volume=0.4, grain=0.4)
    for x in (-0.28, 0.28):
        pen.ellipse(x, 0.15, 0.17, 0.155, fur, volume=1.0, grain=0.5)
        pen.ellipse(x, 0.14, 0.1, 0.09, pale, volume=0.3)
    pen.ellipse(0, 0.93, 0.285, 0.26, fur, volume=1.0, grain=0.5)
    pen.ellipse(0, 0.84, 0.14, 0.11, pale, volume=0.7, grain=0.3)
    pen.ellipse(0, 0.89, 0.05, 0.036, (44, 28, 24), volume=0.5)
    pen.stroke([(0, 0.86), (0, 0.81)], 0.014, (70, 46, 36))
    for x in (-0.1, 0.1):
        pen.ellipse(x, 0.99, 0.03, 0.033, (24, 18, 18), volume=0.4)
        pen.ellipse(x + 0.01, 1.0, 0.01, 0.01, (255, 255, 255))
    bow = (206, 44, 60)
    pen.polygon([(0, 0.67), (-0.17, 0.75), (-0.17, 0.58)], bow, volume=0.6)
    pen.polygon([(0, 0.67), (0.17, 0.75), (0.17, 0.58)], bow, volume=0.6)


def umbrella(pen: Pen, colour: Rgb) -> None:
    """An open umbrella with its crook."""
    pen.shadow(0, 0.01, 0.5, 0.05, 0.25)
    pen.stroke([(0, 1.0), (0, 0.14)], 0.03, (90, 70, 56), volume=0.5)
    pen.stroke(arc(0.09, 0.14, 0.09, 0.1, 180, 350), 0.04, (110, 70, 40), volume=0.6)
    top = [*arc(0, 0.74, 0.78, 0.52, 0, 180, 24)]
    edge = [(-0.78 + i * 0.065, 0.74 + 0.05 * abs(math.sin(i * math.pi / 6))) for i in range(25)]
    pen.polygon([*top, *edge], colour, volume=0.7)
    pale = lighter(colour, 0.25)
    for left, right in ((-0.39, 0.0), (0.39, 0.78)):
        ribs = [
            (0, 1.26),
            *arc(left, 0.76, 0.02, 0.02, 0, 90, 3),
            ((left + right) / 2, 0.8),
            (right, 0.76),
        ]
        if right > 0.7:
            ribs = [(0, 1.26), *arc(0, 0.74, 0.78, 0.52, 60, 0, 8), (0.58, 0.79), (0.39, 0.75)]
        pen.polygon(ribs, pale, alpha=0.75)
    for x in (-0.39, 0, 0.39):
        pen.stroke(
            curve([(0, 1.26), (x * 0.75, 1.08), (x, 0.75)], False), 0.012, darker(colour, 0.3)
        )
    pen.stroke([(0, 1.24), (0, 1.36)], 0.028, (70, 60, 56))


def soccer_ball(pen: Pen, colour: Rgb) -> None:
    """A football with black pentagons."""
    pen.shadow(0.06, 0.03, 0.46, 0.09)
    ball = oval(0, 0.5, 0.5, 0.5)
    pen.polygon(ball, (246, 246, 242), volume=1.0)
    turn = pen.between(0, 6.28)
    with pen.within(ball):
        spots = [
            (0.0, 0.0, 0.17),
            *[
                (0.43 * math.cos(turn + i * 1.2566), 0.43 * math.sin(turn + i * 1.2566), 0.16)
                for i in range(5)
            ],
        ]
        for i, (x, y, r) in enumerate(spots):
            squash = 1.0 if i == 0 else 0.85
            corners = [
                (
                    x + r * squash * math.cos(turn + k * 1.2566 + (math.pi if i else 0)),
                    0.5 + y + r * squash * math.sin(turn + k * 1.2566 + (math.pi if i else 0)),
                )
                for k in range(5)
            ]
            if i:
                pen.stroke(
                    [(x * 0.38, 0.5 + y * 0.38), (x * 0.7, 0.5 + y * 0.7)], 0.018, (90, 90, 92)
                )
            pen.polygon(corners, (32, 32, 36), volume=0.3)
    pen.gloss(-0.18, 0.74, 0.1, 0.07, 0.4)


def beach_ball(pen: Pen, colour: Rgb) -> None:
    """A ball with coloured panels."""
    pen.shadow(0.06, 0.03, 0.46, 0.09)
    ball = oval(0, 0.5, 0.5, 0.5)
    pen.polygon(ball, (248, 248, 246), volume=0.9)
    turn = pen.between(0, 1)
    panels: list[Rgb] = [(228, 46, 52), (250, 206, 46), (50, 120, 210)]
    with pen.within(ball):
        for i, tint in enumerate(panels):
            angle = turn + i * 2.094
            edge = arc(0, 0.5, 0.6, 0.6, math.degrees(angle), math.degrees(angle) + 60, 6)
            pen.polygon([(0.1, 0.62), *edge], tint, volume=0.5)
    pen.ellipse(0.1, 0.62, 0.06, 0.055, (248, 248, 246), volume=0.3)
    pen.gloss(-0.2, 0.76, 0.1, 0.07)


def balloon(pen: Pen, colour: Rgb) -> None:
    """A toy balloon on a string."""
    pen.stroke(
        curve([(0, 0.42), (0.06, 0.24), (-0.05, 0.06), (0.02, -0.2)], False), 0.012, (120, 116, 110)
    )
    pen.blob(
        [
            (0, 0.44),
            (0.2, 0.62),
            (0.36, 0.9),
            (0.26, 1.2),
            (0, 1.3),
            (-0.26, 1.2),
            (-0.36, 0.9),
            (-0.2, 0.62),
        ],
        colour,
        volume=1.1,
    )
    pen.polygon([(-0.06, 0.39), (0.06, 0.39), (0, 0.47)], darker(colour, 0.2))
    pen.gloss(-0.14, 1.08, 0.06, 0.1, 0.7)


def kite(pen: Pen, colour: Rgb) -> None:
    """A kite with a ribbon tail."""
    tail = curve([(0, 0.0), (0.12, -0.2), (-0.1, -0.42), (0.08, -0.66), (-0.04, -0.9)], False)
    pen.stroke(tail, 0.016, (110, 100, 92))
    for i, (x, y) in enumerate(tail[4::7]):
        tint = BLOSSOMS[i % 5]
        pen.polygon([(x, y), (x - 0.11, y + 0.06), (x - 0.11, y - 0.06)], tint, volume=0.3)
        pen.polygon([(x, y), (x + 0.11, y + 0.06), (x + 0.11, y - 0.06)], tint, volume=0.3)
    second = (252, 212, 60) if colour[0] < 225 or colour[1] < 160 else (60, 110, 200)
    quarters = [
        ((0, 1.1), (0.46, 0.66)),
        ((0.46, 0.66), (0, 0.0)),
        ((0, 0.0), (-0.46, 0.66)),
        ((-0.46, 0.66), (0, 1.1)),
    ]
    for i, (a, b) in enumerate(quarters):
        pen.polygon([(0, 0.66), a, b], colour if i % 2 == 0 else second, volume=0.4)
    for line in ([(0, 1.1), (0, 0.0)], [(-0.46, 0.66), (0.46, 0.66)]):
        pen.stroke(line, 0.016, (90, 70, 56))


def surfboard(pen: Pen, colour: Rgb) -> None:
    """A surfboard stuck upright in the ground."""
    pen.shadow(0.1, 0.02, 0.3, 0.05)
    half = [(0, 1.6), (0.14, 1.4), (0.24, 0.9), (0.2, 0.3), (0.12, 0.0)]
    outline = curve([*half, *[(-x, y) for x, y in reversed(half[1:])]])
    pen.polygon(outline, colour, volume=0.7)
    with pen.within(outline):
        pen.rect(-0.3, 0.5, 0.3, 0.62, (250, 248, 240))
        pen.rect(-0.3, 0.66, 0.3, 0.7, (250, 248, 240))
        pen.rect(-0.012, 0, 0.012, 1.6, darker(colour, 0.4))
    pen.gloss(-0.09, 1.1, 0.025, 0.22, 0.5)


def skis(pen: Pen, colour: Rgb) -> None:
    """A pair of skis and poles stuck in the snow."""
    pen.shadow(0.05, 0.01, 0.42, 0.05, 0.25)
    for x, lean in ((-0.36, -0.08), (0.38, 0.1)):
        pen.stroke([(x, 0.0), (x + lean, 1.1)], 0.025, (60, 62, 68), volume=0.4)
        pen.ellipse(x, 0.1, 0.08, 0.025, (40, 42, 46))
        pen.stroke([(x + lean * 0.9, 1.0), (x + lean, 1.14)], 0.05, (24, 24, 28))
    for x, lean in ((-0.12, 0.06), (0.13, -0.04)):
        tip = x + lean
        ski = [
            (x - 0.065, 0.0),
            (x + 0.065, 0.0),
            (tip + 0.06, 1.45),
            (tip + 0.02, 1.6),
            (tip - 0.02, 1.6),
            (tip - 0.06, 1.45),
        ]
        pen.polygon(ski, colour, volume=0.5)
        with pen.within(ski):
            pen.rect(x - 0.2, 0.9, x + 0.2, 1.0, (250, 250, 250))
            pen.rect(x - 0.2, 1.2, x + 0.2, 1.24, (250, 250, 250))
        pen.rect(
            x + lean * 0.35 - 0.07, 0.5, x + lean * 0.35 + 0.07, 0.72, (40, 40, 46), volume=0.6
        )


def backpack(pen: Pen, colour: Rgb) -> None:
    """A backpack with a front pocket."""
    pen.shadow(0.04, 0.02, 0.42, 0.07)
    pen.stroke(arc(0, 1.0, 0.12, 0.12, 0, 180), 0.045, darker(colour, 0.5), volume=0.4)
    pen.rect(-0.48, 0.06, -0.3, 0.5, darker(colour, 0.15), volume=0.7, radius=0.07)
    pen.rect(0.3, 0.06, 0.48, 0.5, darker(colour, 0.15), volume=0.7, radius=0.07)
    pen.rect(-0.38, 0.0, 0.38, 1.04, colour, volume=0.9, radius=0.26, grain=0.2)
    pen.stroke(arc(0, 0.68, 0.3, 0.24, 0, 180), 0.018, (40, 40, 44))
    pen.rect(-0.28, 0.08, 0.28, 0.5, darker(colour, 0.08), volume=0.7, radius=0.1, grain=0.2)
    pen.stroke([(-0.22, 0.42), (0.22, 0.42)], 0.018, (40, 40, 44))
    pen.rect(0.17, 0.33, 0.2, 0.43, (200, 200, 200))


def suitcase(pen: Pen, colour: Rgb) -> None:
    """A suitcase on wheels with its handle out."""
    pen.shadow(0.04, 0.02, 0.44, 0.07)
    for x in (-0.15, 0.15):
        pen.stroke([(x, 1.0), (x, 1.4)], 0.03, (150, 154, 158), volume=0.5)
    pen.rect(-0.2, 1.36, 0.2, 1.44, (40, 40, 44), volume=0.5, radius=0.03)
    for x in (-0.28, 0.28):
        pen.ellipse(x, 0.05, 0.06, 0.06, (34, 34, 36), volume=0.5)
    pen.rect(-0.4, 0.08, 0.4, 1.08, colour, volume=0.7, radius=0.09)
    for x in (-0.24, -0.08, 0.08, 0.24):
        pen.stroke([(x, 0.18), (x, 0.98)], 0.022, darker(colour, 0.25), volume=0.4)
    pen.rect(-0.1, 1.06, 0.1, 1.11, (50, 50, 54), radius=0.02)


def guitar(pen: Pen, colour: Rgb) -> None:
    """An acoustic guitar that leans."""
    pen.shadow(0, 0.02, 0.4, 0.06)
    wood = pen.vary((206, 140, 68))
    half = [(0, 0.0), (0.28, 0.06), (0.36, 0.3), (0.22, 0.52), (0.27, 0.72), (0.14, 0.86)]
    outline = [*half, (0, 0.87), *[(-x, y) for x, y in reversed(half[1:])]]
    pen.blob([(x * 1.05, y * 1.02 - 0.01) for x, y in outline], (92, 54, 28))
    pen.blob(outline, wood, volume=0.5, grain=0.35)
    pen.ellipse(0, 0.56, 0.11, 0.11, (50, 30, 20))
    pen.stroke(arc(0, 0.56, 0.125, 0.125, 0, 360, 30), 0.016, (240, 214, 160))
    pen.rect(-0.13, 0.2, 0.13, 0.26, (60, 36, 24), volume=0.4)
    pen.rect(-0.045, 0.62, 0.045, 1.5, (72, 44, 28), volume=0.4)
    pen.polygon([(-0.06, 1.48), (0.06, 1.48), (0.085, 1.74), (-0.085, 1.74)], (88, 52, 32), 0.4)
    for y in (1.54, 1.61, 1.68):
        for x in (-0.1, 0.1):
            pen.ellipse(x, y, 0.028, 0.02, (214, 206, 190), volume=0.5)
    for i in range(6):
        x = -0.03 + i * 0.012
        pen.stroke([(x, 0.23), (x, 1.5)], 0.005, (236, 226, 206))


def scissors(pen: Pen, colour: Rgb) -> None:
    """Open scissors lying on a surface."""
    pen.shadow(0, 0.1, 0.62, 0.14, 0.3)
    for side in (-1, 1):
        blade = [(0.02, 0.2), (0.72, 0.2 + side * 0.16), (0.66, 0.2 + side * 0.08), (0.0, 0.14)]
        pen.polygon([(x, y) for x, y in blade], (190, 194, 202), volume=0.6)
        pen.stroke([(0.0, 0.19), (-0.3, 0.19 - side * 0.1)], 0.06, colour, volume=0.6)
        ring = arc(-0.48, 0.2 - side * 0.15, 0.2, 0.12, 0, 360, 30)
        pen.stroke(ring, 0.075, colour, volume=0.7)
    pen.ellipse(0.0, 0.19, 0.035, 0.03, (110, 112, 118), volume=0.6)


def phone(pen: Pen, colour: Rgb) -> None:
    """A smartphone, upright."""
    pen.shadow(0.03, 0.02, 0.32, 0.05)
    pen.rect(-0.29, 0.0, 0.29, 1.14, (32, 32, 36), volume=0.5, radius=0.08)
    screen = box(-0.255, 0.05, 0.255, 1.09, 0.05)
    top = ((70, 60, 160), (30, 110, 160), (190, 80, 110))[int(pen.rng.integers(3))]
    pen.polygon(screen, top, volume=0.2)
    icons: list[Rgb] = [(250, 200, 60), (90, 200, 120), (240, 90, 90), (250, 250, 250)]
    for row in range(5):
        for column in range(4):
            x, y = -0.2 + column * 0.11, 0.88 - row * 0.14
            pen.rect(x, y, x + 0.075, y + 0.085, icons[(row * 3 + column) % 4], radius=0.02)
    pen.ellipse(0, 1.05, 0.02, 0.02, (10, 10, 12))
