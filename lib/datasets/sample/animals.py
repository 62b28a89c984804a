"""Animals, each standing on its origin and looking to the right."""

import math

from lib.datasets.sample.pen import Pen, Point, Rgb, arc, curve, darker, lighter


def _eye(pen: Pen, x: float, y: float, size: float) -> None:
    pen.ellipse(x, y, size, size * 1.1, (24, 18, 16))
    pen.ellipse(x + size * 0.3, y + size * 0.35, size * 0.32, size * 0.32, (255, 255, 255))


def _leg(
    pen: Pen,
    hip: Point,
    foot: Point,
    thick: float,
    thin: float,
    colour: Rgb,
    hoof: Rgb | None = None,
) -> None:
    """A leg tapering from hip to foot, with a hoof or a paw."""
    (hx, hy), (fx, fy) = hip, foot
    knee = ((hx + fx) / 2 + 0.015, (hy + fy) / 2)
    middle = (thick + thin) / 2 * 0.85
    pen.blob(
        [
            (hx - thick / 2, hy),
            (knee[0] - middle / 2, knee[1]),
            (fx - thin / 2, fy),
            (fx + thin / 2, fy),
            (knee[0] + middle / 2, knee[1]),
            (hx + thick / 2, hy),
        ],
        colour,
        volume=0.7,
    )
    if hoof:
        pen.rect(fx - thin * 0.6, fy - 0.02, fx + thin * 0.7, fy + thin * 0.55, hoof, 0.5)
    else:
        pen.ellipse(fx + thin * 0.25, fy + thin * 0.25, thin * 0.75, thin * 0.38, colour, 0.6)


def _four_legs(
    pen: Pen,
    back: float,
    front: float,
    hip: float,
    thick: float,
    thin: float,
    colour: Rgb,
    hoof: Rgb | None = None,
) -> None:
    """The far pair, darker, then the near pair."""
    far = darker(colour, 0.28)
    step = pen.between(-0.03, 0.05)
    _leg(pen, (back + 0.1, hip), (back + 0.12 + step, 0.02), thick, thin, far, hoof)
    _leg(pen, (front - 0.1, hip), (front - 0.13 - step, 0.02), thick, thin, far, hoof)
    _leg(pen, (back, hip), (back - 0.03 - step, 0.0), thick, thin, colour, hoof)
    _leg(pen, (front, hip), (front + 0.02 + step, 0.0), thick, thin, colour, hoof)


def dog(pen: Pen, colour: Rgb) -> None:
    """A standing dog with a drooping ear, its tail up, tongue out at times."""
    pen.shadow(0, 0.02, 0.6, 0.07)
    pen.stroke(curve([(-0.48, 0.62), (-0.66, 0.76), (-0.7, 0.98)], False), 0.085, colour, 0.7)
    _four_legs(pen, -0.38, 0.3, 0.46, 0.2, 0.1, colour)
    body = [(-0.52, 0.6), (-0.4, 0.72), (0.0, 0.7), (0.34, 0.76), (0.46, 0.62), (0.36, 0.4)]
    pen.blob([*body, (0.0, 0.38), (-0.4, 0.4)], colour, volume=1.0, grain=0.4)
    pen.ellipse(0.38, 0.54, 0.1, 0.16, lighter(colour, 0.35), alpha=0.6, soft=0.03)
    pen.blob([(0.24, 0.66), (0.36, 0.92), (0.56, 0.9), (0.5, 0.6)], colour, volume=0.7, grain=0.3)
    head = [(0.34, 0.98), (0.44, 1.12), (0.6, 1.1), (0.68, 0.99), (0.86, 0.93), (0.87, 0.84)]
    pen.blob([*head, (0.7, 0.79), (0.44, 0.82)], colour, volume=1.0, grain=0.25)
    pen.blob([(0.68, 0.95), (0.86, 0.93), (0.87, 0.84), (0.7, 0.8)], lighter(colour, 0.3), 0.7)
    pen.ellipse(0.865, 0.915, 0.04, 0.033, (24, 20, 22), volume=0.6)
    pen.stroke([(0.86, 0.85), (0.7, 0.835)], 0.014, (50, 30, 28))
    if pen.chance(0.5):
        pen.blob([(0.74, 0.84), (0.8, 0.84), (0.8, 0.72), (0.75, 0.71)], (228, 106, 116), 0.6)
    _eye(pen, 0.63, 1.0, 0.027)
    pen.blob(
        [(0.36, 1.08), (0.48, 1.1), (0.5, 0.9), (0.4, 0.74), (0.3, 0.86)],
        darker(colour, 0.35),
        volume=0.8,
    )
    pen.stroke([(0.3, 0.78), (0.54, 0.72)], 0.05, (200, 40, 44), volume=0.6)


def cat(pen: Pen, colour: Rgb) -> None:
    """A sitting cat: pointed ears, whiskers, curled tail, tabby bands at times."""
    pen.shadow(0, 0.02, 0.46, 0.07)
    pen.stroke(
        curve([(-0.3, 0.1), (-0.58, 0.12), (-0.66, 0.36), (-0.52, 0.48)], False),
        0.09,
        colour,
        volume=0.8,
    )
    body = [(-0.36, 0.08), (-0.38, 0.36), (-0.18, 0.66), (0.08, 0.8), (0.26, 0.62), (0.3, 0.04)]
    pen.blob([*body, (0.0, 0.0)], colour, volume=1.0, grain=0.4)
    stripes = pen.chance(0.5)
    if stripes:
        with pen.within(curve([*body, (0.0, 0.0)])):
            for i in range(4):
                pen.stroke(
                    curve(
                        [(-0.5, 0.2 + i * 0.14), (-0.26, 0.3 + i * 0.14), (-0.12, 0.22 + i * 0.13)],
                        False,
                    ),
                    0.03,
                    darker(colour, 0.4),
                )
    pen.ellipse(0.17, 0.42, 0.11, 0.24, lighter(colour, 0.5), alpha=0.7, soft=0.04)
    for x in (0.08, 0.24):
        _leg(pen, (x, 0.4), (x + 0.02, 0.02), 0.13, 0.1, colour)
    for side in (-1, 1):
        ear = [(0.14 + side * 0.25, 1.0), (0.14 + side * 0.2, 1.28), (0.14 + side * 0.03, 1.08)]
        pen.polygon(ear, colour, volume=0.5)
        inner = [(0.14 + side * 0.21, 1.03), (0.14 + side * 0.185, 1.2), (0.14 + side * 0.08, 1.08)]
        pen.polygon(inner, (226, 160, 156))
    pen.ellipse(0.14, 0.93, 0.29, 0.235, colour, volume=1.0, grain=0.3)
    if stripes:
        for x in (0.06, 0.14, 0.22):
            pen.stroke([(x, 1.14), (0.14 + (x - 0.14) * 0.7, 1.04)], 0.02, darker(colour, 0.45))
    pen.ellipse(0.14, 0.84, 0.13, 0.085, lighter(colour, 0.55), volume=0.4)
    for x in (0.03, 0.25):
        pen.ellipse(x, 0.96, 0.055, 0.05, (176, 196, 70), volume=0.3)
        pen.ellipse(x, 0.96, 0.018, 0.045, (18, 18, 16))
        pen.ellipse(x + 0.015, 0.98, 0.012, 0.012, (255, 255, 255))
    pen.polygon([(0.11, 0.9), (0.17, 0.9), (0.14, 0.865)], (214, 120, 124))
    pen.stroke(arc(0.11, 0.855, 0.03, 0.025, 200, 360, 6), 0.009, (80, 50, 46))
    pen.stroke(arc(0.17, 0.855, 0.03, 0.025, 180, 340, 6), 0.009, (80, 50, 46))
    for side in (-1, 1):
        for lift in (-0.03, 0.0, 0.03):
            pen.stroke(
                [(0.14 + side * 0.08, 0.86 + lift / 2), (0.14 + side * 0.36, 0.87 + lift)],
                0.006,
                (244, 244, 240),
            )


def horse(pen: Pen, colour: Rgb) -> None:
    """A horse with mane and tail."""
    pen.shadow(0, 0.02, 0.6, 0.06)
    mane = darker(colour, 0.6)
    pen.blob(
        [(-0.5, 0.86), (-0.64, 0.74), (-0.68, 0.36), (-0.6, 0.3), (-0.54, 0.6), (-0.44, 0.78)],
        mane,
        volume=0.6,
        grain=0.5,
    )
    _four_legs(pen, -0.36, 0.28, 0.6, 0.2, 0.075, colour, (44, 36, 32))
    body = [(-0.52, 0.78), (-0.4, 0.92), (-0.1, 0.86), (0.24, 0.9), (0.44, 0.84), (0.4, 0.6)]
    trunk = [*body, (0.0, 0.52), (-0.38, 0.56)]
    pen.blob(trunk, colour, volume=1.0, grain=0.25)
    neck = [(0.16, 0.86), (0.42, 1.3), (0.54, 1.4), (0.62, 1.28), (0.5, 0.98), (0.42, 0.72)]
    pen.blob(neck, colour, volume=0.7, grain=0.2)
    head = [(0.46, 1.4), (0.58, 1.44), (0.7, 1.3), (0.88, 1.1), (0.86, 1.0), (0.76, 1.0)]
    pen.blob([*head, (0.6, 1.14), (0.48, 1.26)], colour, volume=0.9, grain=0.2)
    pen.ellipse(0.835, 1.06, 0.055, 0.06, darker(colour, 0.4), alpha=0.8, soft=0.02)
    pen.ellipse(0.855, 1.08, 0.014, 0.018, (20, 16, 16))
    pen.polygon([(0.5, 1.4), (0.53, 1.56), (0.6, 1.42)], colour, volume=0.4)
    _eye(pen, 0.65, 1.3, 0.024)
    pen.blob(
        [
            (0.54, 1.5),
            (0.42, 1.42),
            (0.24, 1.12),
            (0.1, 0.9),
            (0.2, 0.86),
            (0.36, 1.1),
            (0.5, 1.36),
        ],
        mane,
        volume=0.5,
        grain=0.5,
    )


def cow(pen: Pen, colour: Rgb) -> None:
    """A cow with patches, horns and a pink muzzle."""
    pen.shadow(0, 0.02, 0.66, 0.07)
    pen.stroke(curve([(-0.56, 0.82), (-0.66, 0.6), (-0.64, 0.34)], False), 0.035, (236, 232, 226))
    pen.ellipse(-0.64, 0.3, 0.04, 0.08, (60, 50, 46), volume=0.4)
    hide = (240, 236, 230)
    _four_legs(pen, -0.42, 0.32, 0.5, 0.19, 0.1, hide, (52, 44, 40))
    trunk = [
        (-0.58, 0.82),
        (-0.4, 0.92),
        (0.1, 0.88),
        (0.42, 0.92),
        (0.5, 0.7),
        (0.4, 0.44),
        (0.0, 0.38),
        (-0.45, 0.44),
    ]
    pen.blob(trunk, hide, volume=0.9, grain=0.15)
    with pen.within(curve(trunk)):
        for x, y, r in ((-0.38, 0.82, 0.2), (0.02, 0.6, 0.18), (0.3, 0.88, 0.2), (-0.5, 0.5, 0.12)):
            x, y = x + pen.between(-0.06, 0.06), y + pen.between(-0.05, 0.05)
            patch = [
                (
                    x + r * pen.between(0.7, 1.3) * math.cos(t * 0.9),
                    y + r * 0.8 * pen.between(0.7, 1.3) * math.sin(t * 0.9),
                )
                for t in range(7)
            ]
            pen.blob(patch, colour, volume=0.4, grain=0.2)
    pen.ellipse(-0.2, 0.39, 0.13, 0.07, (238, 176, 170), volume=0.7)
    pen.blob([(0.34, 0.9), (0.5, 1.02), (0.62, 0.94), (0.5, 0.66)], colour, volume=0.6)
    for side in (-1, 1):
        pen.stroke(
            arc(0.6 + side * 0.12, 1.13, 0.1, 0.12, 270 - side * 10, 270 + side * 95, 8),
            0.04,
            (226, 214, 186),
            volume=0.5,
        )
        pen.ellipse(0.6 + side * 0.22, 1.02, 0.1, 0.05, colour, volume=0.6, tilt=-side * 0.3)
    head = [(0.46, 1.1), (0.74, 1.1), (0.74, 0.88), (0.7, 0.7), (0.5, 0.7), (0.46, 0.88)]
    pen.blob(head, colour, volume=0.9)
    pen.blob([(0.57, 1.1), (0.65, 1.1), (0.66, 0.8), (0.56, 0.8)], hide, volume=0.4)
    pen.ellipse(0.61, 0.73, 0.15, 0.1, (236, 178, 168), volume=0.8)
    for x in (0.55, 0.67):
        pen.ellipse(x, 0.74, 0.022, 0.028, (120, 66, 62))
    _eye(pen, 0.51, 0.96, 0.026)
    _eye(pen, 0.7, 0.96, 0.026)


def sheep(pen: Pen, colour: Rgb) -> None:
    """A woolly sheep with a dark face."""
    pen.shadow(0, 0.02, 0.5, 0.07)
    face = (52, 46, 44) if pen.chance(0.7) else (226, 208, 184)
    _four_legs(pen, -0.28, 0.24, 0.36, 0.11, 0.075, face)
    wool = pen.vary((236, 230, 216), 7)
    for i in range(14):
        turn = i * 0.4488
        pen.ellipse(
            -0.02 + 0.36 * math.cos(turn),
            0.56 + 0.2 * math.sin(turn),
            0.16,
            0.15,
            wool,
            volume=0.8,
            grain=0.6,
        )
    pen.ellipse(-0.02, 0.57, 0.4, 0.24, wool, volume=0.7, grain=0.9)
    pen.ellipse(0.36, 0.76, 0.09, 0.045, face, volume=0.4, tilt=0.5)
    pen.blob(
        [(0.4, 0.86), (0.54, 0.84), (0.64, 0.66), (0.58, 0.56), (0.46, 0.6), (0.38, 0.72)],
        face,
        volume=0.9,
    )
    for x, y in ((0.38, 0.86), (0.46, 0.9), (0.3, 0.82)):
        pen.ellipse(x, y, 0.09, 0.075, wool, volume=0.8, grain=0.5)
    _eye(pen, 0.53, 0.75, 0.024)


def zebra(pen: Pen, colour: Rgb) -> None:
    """A zebra: a horse's build with a short standing mane and stripes everywhere."""
    pen.shadow(0, 0.02, 0.56, 0.06)
    white, black = (242, 240, 234), (30, 28, 30)
    pen.stroke(curve([(-0.5, 0.8), (-0.6, 0.6), (-0.58, 0.42)], False), 0.045, white, 0.5)
    pen.ellipse(-0.58, 0.38, 0.035, 0.08, black)
    _four_legs(pen, -0.34, 0.28, 0.58, 0.19, 0.08, white, (40, 36, 36))
    for foot in (-0.36, 0.3, -0.24, 0.16):
        for i in range(6):
            y = 0.1 + i * 0.075
            pen.stroke([(foot - 0.06, y), (foot + 0.06, y + 0.015)], 0.022, black)
    trunk = [
        (-0.52, 0.74),
        (-0.4, 0.9),
        (-0.1, 0.86),
        (0.24, 0.88),
        (0.42, 0.8),
        (0.38, 0.58),
        (0.0, 0.5),
        (-0.38, 0.52),
    ]
    neck = [(0.14, 0.84), (0.36, 1.18), (0.48, 1.28), (0.58, 1.18), (0.48, 0.94), (0.4, 0.68)]
    head = [
        (0.42, 1.26),
        (0.54, 1.32),
        (0.66, 1.2),
        (0.84, 1.02),
        (0.82, 0.92),
        (0.7, 0.92),
        (0.56, 1.04),
        (0.44, 1.14),
    ]
    pen.blob(
        [(0.5, 1.42), (0.36, 1.36), (0.14, 1.0), (0.08, 0.86), (0.2, 0.86), (0.46, 1.26)],
        black,
        volume=0.3,
    )
    pen.blob(trunk, white, volume=0.9)
    with pen.within(curve(trunk)):
        for i in range(11):
            x = -0.5 + i * 0.09
            lean = -0.14 + i * 0.018
            bow = [(x - lean, 0.95), (x + 0.02, 0.7), (x, 0.46)]
            pen.stroke(curve(bow, False), 0.037, black)
    pen.blob(neck, white, volume=0.6)
    with pen.within(curve(neck)):
        for i in range(8):
            x, y = 0.2 + i * 0.045, 0.84 + i * 0.068
            pen.stroke([(x - 0.14, y + 0.05), (x + 0.2, y - 0.1)], 0.034, black)
    pen.polygon([(0.46, 1.28), (0.48, 1.44), (0.56, 1.32)], white, volume=0.4)
    pen.blob(head, white, volume=0.8)
    with pen.within(curve(head)):
        for i in range(5):
            x, y = 0.48 + i * 0.055, 1.3 - i * 0.045
            pen.stroke([(x + 0.08, y + 0.06), (x - 0.06, y - 0.24)], 0.022, black)
        pen.ellipse(0.81, 0.96, 0.08, 0.08, (52, 46, 46), soft=0.015)
    _eye(pen, 0.61, 1.19, 0.024)


def elephant(pen: Pen, colour: Rgb) -> None:
    """An elephant with trunk, tusk and a large ear."""
    pen.shadow(0, 0.02, 0.74, 0.08)
    skin = pen.vary((138, 134, 134), 8)
    pen.stroke(curve([(-0.66, 0.8), (-0.74, 0.6), (-0.72, 0.44)], False), 0.03, darker(skin, 0.2))
    _four_legs(pen, -0.44, 0.26, 0.5, 0.27, 0.21, skin)
    body = [(-0.68, 0.8), (-0.5, 1.08), (-0.1, 1.16), (0.3, 1.06), (0.46, 0.8), (0.34, 0.46)]
    pen.blob([*body, (-0.1, 0.38), (-0.54, 0.44)], skin, volume=1.0, grain=0.35)
    pen.blob(
        [
            (0.28, 1.1),
            (0.52, 1.24),
            (0.76, 1.12),
            (0.84, 0.86),
            (0.9, 0.5),
            (0.92, 0.2),
            (1.02, 0.12),
            (0.96, 0.04),
            (0.82, 0.1),
            (0.76, 0.44),
            (0.66, 0.66),
            (0.4, 0.66),
        ],
        skin,
        volume=1.0,
        grain=0.3,
    )
    for i in range(6):
        y = 0.24 + i * 0.08
        pen.stroke([(0.77, y), (0.9, y + 0.01)], 0.01, darker(skin, 0.3))
    pen.blob(
        [(0.66, 0.68), (0.74, 0.62), (0.9, 0.62), (1.0, 0.72), (0.86, 0.58), (0.68, 0.58)],
        (246, 240, 222),
        volume=0.6,
    )
    pen.blob(
        [(0.36, 1.16), (0.14, 1.14), (0.02, 0.86), (0.12, 0.56), (0.3, 0.62), (0.46, 0.9)],
        darker(skin, 0.12),
        volume=1.0,
        grain=0.4,
    )
    _eye(pen, 0.64, 0.98, 0.026)


def giraffe(pen: Pen, colour: Rgb) -> None:
    """A giraffe: long neck, brown patches, two small horns."""
    pen.shadow(0, 0.02, 0.42, 0.05)
    hide, patch = pen.vary((236, 204, 140), 7), pen.vary((158, 96, 44), 8)
    pen.stroke(curve([(-0.34, 1.0), (-0.44, 0.8), (-0.42, 0.6)], False), 0.025, patch)
    pen.ellipse(-0.42, 0.56, 0.025, 0.06, (50, 36, 30))
    _four_legs(pen, -0.24, 0.2, 0.76, 0.14, 0.065, hide, (60, 46, 38))
    trunk = [
        (-0.36, 0.94),
        (-0.2, 1.08),
        (0.1, 1.16),
        (0.32, 1.18),
        (0.32, 0.9),
        (0.2, 0.72),
        (-0.28, 0.74),
    ]
    neck = [
        (0.06, 1.1),
        (0.34, 1.5),
        (0.52, 1.98),
        (0.62, 2.04),
        (0.66, 1.9),
        (0.5, 1.5),
        (0.34, 1.0),
    ]
    for outline in (trunk, neck):
        pen.blob(outline, hide, volume=0.8)
        xs, ys = [x for x, _ in outline], [y for _, y in outline]
        with pen.within(curve(outline)):
            rows = round((max(ys) - min(ys)) / 0.125) + 1
            columns = round((max(xs) - min(xs)) / 0.125) + 1
            for row in range(rows):
                for column in range(columns):
                    x = min(xs) + 0.125 * (column + 0.5 * (row % 2)) + pen.between(-0.015, 0.015)
                    y = min(ys) + 0.125 * row + pen.between(-0.015, 0.015)
                    spot = [
                        (
                            x + 0.055 * pen.between(0.8, 1.1) * math.cos(t * 1.047),
                            y + 0.055 * pen.between(0.8, 1.1) * math.sin(t * 1.047),
                        )
                        for t in range(6)
                    ]
                    pen.polygon(spot, patch)
    for x in (0.55, 0.62):
        pen.stroke([(x, 2.06), (x - 0.01, 2.2)], 0.03, darker(hide, 0.25))
        pen.ellipse(x - 0.01, 2.21, 0.024, 0.024, (60, 44, 34))
    pen.ellipse(0.47, 2.06, 0.07, 0.03, hide, volume=0.5, tilt=-0.4)
    pen.blob(
        [
            (0.5, 2.06),
            (0.6, 2.12),
            (0.72, 2.04),
            (0.86, 1.92),
            (0.84, 1.85),
            (0.7, 1.86),
            (0.54, 1.92),
        ],
        hide,
        volume=0.8,
    )
    pen.ellipse(0.83, 1.89, 0.04, 0.035, darker(hide, 0.3), soft=0.01)
    _eye(pen, 0.66, 2.02, 0.022)


def bear(pen: Pen, colour: Rgb) -> None:
    """A bear on all fours."""
    pen.shadow(0, 0.02, 0.7, 0.08)
    _four_legs(pen, -0.44, 0.34, 0.46, 0.28, 0.18, colour)
    body = [(-0.64, 0.6), (-0.5, 0.86), (-0.1, 0.88), (0.24, 1.0), (0.5, 0.86), (0.5, 0.5)]
    pen.blob([*body, (0.1, 0.34), (-0.5, 0.34)], colour, volume=1.0, grain=0.5)
    for x in (0.5, 0.7):
        pen.ellipse(x, 1.06, 0.08, 0.085, darker(colour, 0.2), volume=0.7)
    pen.ellipse(0.6, 0.88, 0.23, 0.21, colour, volume=1.0, grain=0.5)
    pen.blob(
        [(0.66, 0.92), (0.86, 0.86), (0.9, 0.76), (0.78, 0.7), (0.64, 0.76)],
        lighter(colour, 0.25),
        volume=0.8,
    )
    pen.ellipse(0.88, 0.845, 0.05, 0.04, (24, 20, 20), volume=0.5)
    _eye(pen, 0.68, 0.96, 0.024)
    _eye(pen, 0.55, 0.97, 0.022)


def bird(pen: Pen, colour: Rgb) -> None:
    """A songbird on its feet."""
    pen.shadow(0, 0.01, 0.3, 0.04)
    for x in (-0.04, 0.08):
        pen.stroke([(x, 0.28), (x + 0.02, 0.02), (x + 0.1, 0.01)], 0.025, (150, 104, 60))
        pen.stroke([(x + 0.02, 0.02), (x - 0.05, 0.01)], 0.02, (150, 104, 60))
    pen.polygon(
        [(-0.3, 0.5), (-0.86, 0.34), (-0.84, 0.24), (-0.24, 0.34)], darker(colour, 0.35), volume=0.5
    )
    body = [(-0.36, 0.4), (-0.1, 0.68), (0.2, 0.78), (0.34, 0.6), (0.24, 0.34), (0.0, 0.22)]
    pen.blob(body, colour, volume=1.0, grain=0.3)
    pen.blob(
        [(0.3, 0.62), (0.28, 0.4), (0.06, 0.24), (0.0, 0.36), (0.14, 0.58)],
        lighter((236, 196, 150), 0.2),
        alpha=0.85,
        soft=0.02,
    )
    pen.ellipse(0.24, 0.8, 0.19, 0.18, colour, volume=1.0, grain=0.2)
    pen.polygon([(0.4, 0.86), (0.62, 0.78), (0.4, 0.74)], (236, 162, 40), volume=0.5)
    pen.blob(
        [(0.06, 0.64), (-0.16, 0.56), (-0.52, 0.36), (-0.2, 0.34), (0.06, 0.42)],
        darker(colour, 0.3),
        volume=0.7,
        grain=0.3,
    )
    for i in range(3):
        pen.stroke([(-0.02 - i * 0.07, 0.52 - i * 0.05), (-0.34, 0.38)], 0.012, darker(colour, 0.5))
    _eye(pen, 0.3, 0.84, 0.032)


def flying_bird(pen: Pen, colour: Rgb) -> None:
    """A gull with spread wings."""
    lift = pen.between(0.2, 0.5)
    far = [(0.0, 0.1), (0.16, lift + 0.1), (0.5, lift + 0.3), (0.3, lift), (0.2, 0.02)]
    pen.blob(far, darker(colour, 0.25), volume=0.5)
    pen.polygon([(-0.3, 0.04), (-0.6, 0.1), (-0.58, -0.06)], colour, volume=0.4)
    pen.blob(
        [(-0.4, 0.03), (0.0, 0.12), (0.3, 0.1), (0.42, 0.04), (0.2, -0.06), (-0.2, -0.06)],
        lighter(colour, 0.3),
        volume=0.9,
    )
    near = [(0.12, 0.06), (-0.04, lift), (-0.5, lift + 0.36), (-0.3, lift - 0.02), (-0.14, 0.02)]
    pen.blob(near, colour, volume=0.6)
    pen.polygon([(-0.5, lift + 0.36), (-0.36, lift + 0.18), (-0.36, lift + 0.06)], (40, 40, 44))
    pen.ellipse(0.4, 0.08, 0.1, 0.09, lighter(colour, 0.45), volume=0.8)
    pen.polygon([(0.48, 0.1), (0.62, 0.05), (0.48, 0.04)], (240, 176, 40))
    _eye(pen, 0.42, 0.1, 0.016)


def duck(pen: Pen, colour: Rgb) -> None:
    """A swimming mallard with a green head."""
    for width, lift in ((0.8, -0.02), (0.62, 0.01)):
        pen.stroke(arc(0, lift, width, 0.07, 180, 360), 0.018, (235, 244, 250), alpha=0.5)
    body = [(-0.62, 0.3), (-0.4, 0.2), (0.0, 0.3), (0.36, 0.24), (0.46, 0.1), (0.3, 0.0)]
    pen.blob([*body, (-0.3, 0.0), (-0.5, 0.1)], (150, 134, 118), volume=1.0, grain=0.4)
    pen.blob([(0.18, 0.26), (0.42, 0.26), (0.46, 0.1), (0.3, 0.02)], (112, 66, 44), volume=0.6)
    pen.blob(
        [(-0.44, 0.24), (-0.1, 0.3), (0.16, 0.22), (-0.08, 0.1), (-0.36, 0.14)],
        (176, 168, 160),
        volume=0.7,
        grain=0.3,
    )
    pen.blob([(0.22, 0.24), (0.28, 0.5), (0.44, 0.5), (0.44, 0.22)], (24, 96, 62), volume=0.7)
    pen.rect(0.23, 0.25, 0.46, 0.29, (244, 244, 240))
    pen.ellipse(0.37, 0.52, 0.14, 0.125, (22, 104, 66), volume=1.1)
    pen.blob([(0.48, 0.56), (0.68, 0.5), (0.68, 0.45), (0.48, 0.46)], (240, 180, 44), volume=0.6)
    _eye(pen, 0.42, 0.56, 0.022)


def fish(pen: Pen, colour: Rgb) -> None:
    """A fish with fins and scales."""
    pen.polygon(curve([(-0.44, 0.34), (-0.82, 0.62), (-0.7, 0.34), (-0.82, 0.06)]), colour, 0.6)
    pen.blob([(-0.1, 0.58), (0.06, 0.78), (0.28, 0.62), (0.2, 0.54)], darker(colour, 0.15), 0.6)
    body = [
        (-0.5, 0.34),
        (-0.2, 0.56),
        (0.2, 0.6),
        (0.52, 0.46),
        (0.62, 0.34),
        (0.5, 0.22),
        (0.2, 0.1),
        (-0.2, 0.14),
    ]
    pen.blob(body, colour, volume=1.1)
    with pen.within(curve(body)):
        pen.ellipse(0.1, 0.16, 0.6, 0.12, lighter(colour, 0.6), alpha=0.6, soft=0.05)
        for row in range(5):
            for column in range(7):
                x, y = -0.4 + column * 0.1 + 0.05 * (row % 2), 0.2 + row * 0.075
                pen.stroke(arc(x, y, 0.045, 0.045, 100, 260, 7), 0.009, darker(colour, 0.35))
    pen.stroke(arc(0.3, 0.34, 0.06, 0.16, -80, 80), 0.016, darker(colour, 0.4))
    pen.blob([(0.16, 0.32), (0.02, 0.28), (-0.04, 0.18), (0.1, 0.2)], darker(colour, 0.2), 0.5)
    pen.ellipse(0.46, 0.4, 0.05, 0.05, (250, 246, 226))
    pen.ellipse(0.47, 0.4, 0.028, 0.028, (20, 20, 24))
    pen.stroke([(0.6, 0.3), (0.53, 0.28)], 0.014, darker(colour, 0.5))


def penguin(pen: Pen, colour: Rgb) -> None:
    """A penguin upright on its feet."""
    pen.shadow(0, 0.02, 0.34, 0.06)
    for x in (-0.12, 0.14):
        pen.ellipse(x, 0.04, 0.13, 0.05, (240, 160, 40), volume=0.7)
    black = (34, 36, 44)
    pen.blob([(-0.28, 0.7), (-0.42, 0.44), (-0.36, 0.28), (-0.24, 0.5)], black, volume=0.7)
    pen.blob(
        [
            (-0.26, 0.1),
            (-0.32, 0.5),
            (-0.16, 0.92),
            (0.16, 0.92),
            (0.32, 0.5),
            (0.26, 0.1),
            (0, 0.02),
        ],
        black,
        volume=0.9,
    )
    pen.blob(
        [(-0.14, 0.1), (-0.18, 0.44), (-0.04, 0.8), (0.18, 0.78), (0.26, 0.44), (0.2, 0.1)],
        (246, 246, 242),
        volume=0.6,
    )
    pen.blob([(0.28, 0.72), (0.42, 0.46), (0.38, 0.3), (0.24, 0.5)], black, volume=0.7)
    pen.ellipse(0.02, 0.98, 0.2, 0.19, black, volume=0.9)
    pen.ellipse(0.06, 0.83, 0.13, 0.06, (250, 204, 80), alpha=0.8, soft=0.03)
    pen.polygon([(0.17, 1.02), (0.4, 0.96), (0.17, 0.93)], (240, 150, 40), volume=0.5)
    pen.ellipse(0.1, 1.03, 0.04, 0.04, (250, 250, 250))
    pen.ellipse(0.11, 1.03, 0.022, 0.022, (14, 14, 16))


def rabbit(pen: Pen, colour: Rgb) -> None:
    """A crouching rabbit with long ears."""
    pen.shadow(0, 0.02, 0.5, 0.06)
    pen.ellipse(-0.44, 0.2, 0.1, 0.1, (250, 248, 244), volume=0.9, grain=0.5)
    pen.blob(
        [(-0.42, 0.2), (-0.3, 0.48), (0.04, 0.54), (0.3, 0.36), (0.3, 0.04), (-0.3, 0.02)],
        colour,
        volume=1.0,
        grain=0.5,
    )
    pen.ellipse(-0.22, 0.2, 0.2, 0.18, darker(colour, 0.06), volume=0.8, grain=0.4)
    pen.ellipse(-0.16, 0.04, 0.2, 0.05, lighter(colour, 0.15), volume=0.6)
    pen.ellipse(0.28, 0.05, 0.1, 0.05, lighter(colour, 0.15), volume=0.6)
    for x, tilt in ((0.24, 1.75), (0.36, 1.45)):
        pen.ellipse(x, 0.88, 0.25, 0.065, colour, volume=0.7, tilt=tilt)
        pen.ellipse(x + 0.01, 0.88, 0.18, 0.032, (234, 176, 172), tilt=tilt)
    pen.ellipse(0.36, 0.54, 0.2, 0.17, colour, volume=1.0, grain=0.4)
    pen.ellipse(0.48, 0.48, 0.09, 0.08, lighter(colour, 0.4), volume=0.5)
    pen.ellipse(0.555, 0.52, 0.022, 0.018, (214, 120, 126))
    _eye(pen, 0.42, 0.6, 0.032)


def butterfly(pen: Pen, colour: Rgb) -> None:
    """A butterfly with spread wings."""
    for side in (-1, 1):
        upper = [
            (0, 0.5),
            (side * 0.2, 0.86),
            (side * 0.6, 0.94),
            (side * 0.58, 0.6),
            (side * 0.3, 0.44),
        ]
        lower = [
            (0, 0.46),
            (side * 0.32, 0.44),
            (side * 0.48, 0.2),
            (side * 0.28, 0.04),
            (side * 0.1, 0.2),
        ]
        for wing in (upper, lower):
            pen.blob(wing, (36, 28, 30))
            cx = sum(x for x, _ in wing) / 5
            cy = sum(y for _, y in wing) / 5
            pen.blob([(cx + (x - cx) * 0.8, cy + (y - cy) * 0.8) for x, y in wing], colour, 0.5)
            pen.stroke([(side * 0.02, 0.48), (cx * 1.6, cy * 1.25 - 0.12)], 0.014, (36, 28, 30))
            pen.ellipse(cx * 1.35, cy + (cy - 0.5) * 0.4, 0.045, 0.045, lighter(colour, 0.7))
    pen.ellipse(0, 0.48, 0.035, 0.24, (40, 30, 28), volume=0.6)
    for side in (-1, 1):
        pen.stroke(
            curve([(0, 0.7), (side * 0.08, 0.86), (side * 0.18, 0.92)], False), 0.012, (40, 30, 28)
        )
