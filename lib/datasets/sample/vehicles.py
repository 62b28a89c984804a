"""Vehicles and what stands in a street, each standing on its origin, seen from the side."""

import math

from PIL import Image, ImageDraw, ImageFont

from lib.datasets.sample.pen import Pen, Rgb, arc, curve, darker, lighter

WINDOW: Rgb = (92, 120, 138)
TYRE: Rgb = (30, 30, 32)
METAL: Rgb = (172, 176, 182)


def _wheel(pen: Pen, x: float, radius: float, rim: Rgb = (186, 188, 194)) -> None:
    pen.ellipse(x, radius, radius, radius, TYRE, volume=0.5)
    pen.ellipse(x, radius, radius * 0.6, radius * 0.6, rim, volume=0.8)
    for spoke in range(5):
        turn = spoke * 1.2566 + 0.3
        pen.ellipse(
            x + 0.36 * radius * math.cos(turn),
            radius + 0.36 * radius * math.sin(turn),
            radius * 0.12,
            radius * 0.12,
            (60, 60, 64),
        )


def _window(pen: Pen, outline: list[tuple[float, float]]) -> None:
    """A pane with the sky's reflection in it."""
    pen.polygon(outline, WINDOW, volume=0.25)
    with pen.within(outline):
        left = min(x for x, _ in outline)
        bottom = min(y for _, y in outline)
        pen.polygon(
            [
                (left + 0.02, bottom),
                (left + 0.1, bottom),
                (left + 0.3, bottom + 0.4),
                (left + 0.22, bottom + 0.4),
            ],
            (225, 238, 246),
            alpha=0.5,
        )


def letters(pen: Pen, text: str, x: float, y: float, height: float, colour: Rgb) -> None:
    """Upright text centred on (x, y), its capitals of about the height; never mirrored."""
    size = round(height * pen.scale * 1.35)
    if size < 5:
        return
    font = ImageFont.load_default(size)
    layer = Image.new("L", (round(font.getlength(text)) + 4, size * 2))
    ImageDraw.Draw(layer).text((2, 2), text, fill=255, font=font)
    ink = layer.getbbox()
    if ink:
        layer = layer.crop(ink)
        centre_x, centre_y = pen.pixels([(x, y)])[0]
        corner = (round(centre_x - layer.width / 2), round(centre_y - layer.height / 2))
        pen.canvas.paste(colour, corner, layer)


def car(pen: Pen, colour: Rgb) -> None:
    """A saloon car, two units long."""
    pen.shadow(0, 0.02, 1.05, 0.09)
    lower = [(-1.0, 0.16), (-1.02, 0.4), (-0.94, 0.5), (-0.62, 0.54), (-0.34, 0.8), (0.26, 0.82)]
    lower += [(0.56, 0.56), (0.92, 0.48), (1.01, 0.38), (1.0, 0.16)]
    pen.polygon(curve(lower, closed=False), colour, volume=0.7)
    pen.rect(-0.98, 0.12, 0.98, 0.2, darker(colour, 0.5), radius=0.03)
    _window(pen, [(-0.5, 0.55), (-0.3, 0.75), (-0.05, 0.76), (-0.05, 0.55)])
    _window(pen, [(0.0, 0.55), (0.0, 0.76), (0.23, 0.76), (0.43, 0.55)])
    for x in (-0.03, -0.55):
        pen.stroke([(x, 0.2), (x, 0.54)], 0.012, darker(colour, 0.45))
    for x in (0.1, -0.4):
        pen.rect(x - 0.06, 0.46, x + 0.02, 0.485, lighter(colour, 0.4))
    pen.ellipse(0.95, 0.38, 0.045, 0.05, (255, 246, 200), volume=0.5)
    pen.rect(-1.02, 0.34, -0.95, 0.44, (196, 26, 30))
    for x in (-0.6, 0.6):
        pen.ellipse(x, 0.2, 0.235, 0.235, darker(colour, 0.65))
        _wheel(pen, x, 0.2)
    pen.gloss(-0.1, 0.5, 0.5, 0.018, 0.5)


def truck(pen: Pen, colour: Rgb) -> None:
    """A lorry: cab, box body and three axles."""
    pen.shadow(0, 0.02, 1.2, 0.09)
    pen.rect(-1.15, 0.2, 1.05, 0.3, (58, 60, 66), volume=0.4)
    trailer = (236, 236, 232) if pen.chance(0.6) else lighter(colour, 0.45)
    pen.rect(-1.18, 0.3, 0.5, 1.2, trailer, volume=0.35, grain=0.08)
    for i in range(7):
        pen.stroke([(-1.06 + i * 0.24, 0.32), (-1.06 + i * 0.24, 1.18)], 0.01, darker(trailer, 0.2))
    pen.rect(-1.18, 0.66, 0.5, 0.78, colour, alpha=0.85)
    cab = [(0.54, 0.22), (0.54, 1.0), (0.62, 1.06), (0.9, 1.05), (1.08, 0.64), (1.16, 0.58)]
    pen.polygon([*cab, (1.18, 0.22)], colour, volume=0.75)
    _window(pen, [(0.66, 0.64), (0.66, 0.94), (0.86, 0.94), (1.0, 0.64)])
    pen.stroke([(0.6, 0.26), (0.6, 0.98)], 0.012, darker(colour, 0.4))
    pen.rect(1.06, 0.24, 1.2, 0.32, METAL, volume=0.6)
    pen.ellipse(1.12, 0.42, 0.045, 0.05, (255, 246, 200), volume=0.4)
    pen.rect(0.5, 0.34, 0.55, 1.22, METAL, volume=0.8)
    for x in (-0.95, -0.5, 0.86):
        pen.ellipse(x, 0.2, 0.23, 0.23, (26, 26, 30))
        _wheel(pen, x, 0.19)


def bus(pen: Pen, colour: Rgb) -> None:
    """A school bus: yellow with black bands, its engine in front."""
    pen.shadow(0, 0.02, 1.2, 0.09)
    body = pen.vary((250, 184, 12), 7)
    pen.rect(-1.15, 0.16, 0.82, 1.06, body, volume=0.55, radius=0.1)
    hood = [(0.8, 0.16), (0.8, 0.64), (1.1, 0.58), (1.18, 0.46), (1.18, 0.16)]
    pen.polygon(hood, body, volume=0.7)
    for y in (0.3, 0.46, 0.54):
        pen.rect(-1.15, y, 0.8, y + 0.028, (30, 30, 32))
    for i in range(6):
        _window(
            pen,
            [
                (-1.06 + i * 0.28, 0.64),
                (-1.06 + i * 0.28, 0.92),
                (-0.84 + i * 0.28, 0.92),
                (-0.84 + i * 0.28, 0.64),
            ],
        )
    _window(pen, [(0.62, 0.22), (0.62, 0.92), (0.79, 0.92), (0.79, 0.22)])
    letters(pen, "SCHOOL BUS", -0.2, 0.99, 0.08, (24, 24, 26))
    pen.rect(1.06, 0.14, 1.24, 0.22, (30, 30, 32), volume=0.5)
    pen.ellipse(1.14, 0.36, 0.045, 0.05, (255, 250, 214), volume=0.4)
    for x in (-0.72, 0.94):
        pen.ellipse(x, 0.19, 0.22, 0.22, (24, 24, 26))
        _wheel(pen, x, 0.18, (220, 180, 60))


def bicycle(pen: Pen, colour: Rgb) -> None:
    """A bicycle with spokes, chain wheel, saddle and handlebar."""
    pen.shadow(0, 0.01, 0.95, 0.05, 0.3)
    back, front, crank = (-0.58, 0.36), (0.58, 0.36), (-0.06, 0.34)
    seat, head = (-0.24, 0.86), (0.42, 0.84)
    for x, y in (back, front):
        for spoke in range(12):
            turn = spoke * math.pi / 12
            dx, dy = 0.33 * math.cos(turn), 0.33 * math.sin(turn)
            pen.stroke([(x - dx, y - dy), (x + dx, y + dy)], 0.007, (170, 172, 176))
        pen.stroke(arc(x, y, 0.34, 0.34, 0, 360, 48), 0.045, (28, 28, 30))
        pen.stroke(arc(x, y, 0.31, 0.31, 0, 360, 48), 0.016, (190, 192, 196))
        pen.ellipse(x, y, 0.04, 0.04, METAL, volume=0.6)
    for a, b in (
        (back, crank),
        (back, seat),
        (crank, seat),
        (crank, head),
        (seat, head),
        (head, front),
    ):
        pen.stroke([a, b], 0.05, colour, volume=0.7)
    pen.stroke([seat, (-0.27, 0.97)], 0.035, METAL)
    pen.blob(
        [(-0.46, 0.99), (-0.4, 1.04), (-0.2, 1.02), (-0.1, 0.99), (-0.25, 0.95)],
        (36, 32, 32),
        volume=0.6,
    )
    pen.stroke([head, (0.38, 1.0)], 0.04, METAL)
    pen.stroke(curve([(0.38, 1.0), (0.52, 1.06), (0.6, 0.98), (0.5, 0.9)], False), 0.035, TYRE)
    pen.ellipse(*crank, 0.1, 0.1, (70, 70, 74), volume=0.4)
    pen.stroke([(-0.06, 0.34), (0.04, 0.2)], 0.03, (70, 70, 74))
    pen.rect(-0.02, 0.17, 0.12, 0.21, (30, 30, 30))


def motorcycle(pen: Pen, colour: Rgb) -> None:
    """A motorcycle with engine, tank, exhaust and headlight."""
    pen.shadow(0, 0.01, 1.0, 0.06)
    for x in (-0.62, 0.66):
        pen.ellipse(x, 0.3, 0.3, 0.3, (28, 28, 30), volume=0.4)
        pen.ellipse(x, 0.3, 0.2, 0.2, (160, 164, 168), volume=0.3)
        pen.ellipse(x, 0.3, 0.08, 0.08, (60, 60, 64), volume=0.6)
    pen.stroke([(0.66, 0.3), (0.4, 0.86)], 0.07, METAL, volume=0.8)
    pen.polygon(
        [(-0.62, 0.34), (-0.2, 0.24), (0.24, 0.28), (0.3, 0.62), (-0.3, 0.58)],
        (54, 54, 58),
        volume=0.6,
    )
    for y in (0.34, 0.41, 0.48):
        pen.rect(-0.06, y, 0.22, y + 0.035, METAL, volume=0.6)
    pen.stroke([(0.1, 0.24), (-0.3, 0.18), (-0.92, 0.24)], 0.08, (206, 208, 214), volume=0.9)
    pen.blob([(-0.06, 0.58), (0.0, 0.8), (0.2, 0.86), (0.42, 0.76), (0.34, 0.6)], colour, 1.0)
    pen.blob(
        [(-0.88, 0.72), (-0.5, 0.76), (-0.1, 0.7), (0.0, 0.58), (-0.4, 0.56), (-0.8, 0.62)],
        (32, 28, 28),
        volume=0.8,
    )
    pen.polygon(arc(-0.62, 0.32, 0.34, 0.36, 30, 150), colour, volume=0.7)
    pen.polygon(
        [*arc(0.66, 0.31, 0.35, 0.35, 30, 130), *arc(0.66, 0.31, 0.3, 0.3, 130, 30)],
        colour,
        volume=0.5,
    )
    pen.stroke([(0.42, 0.84), (0.34, 1.0), (0.2, 1.02)], 0.045, (40, 40, 44))
    pen.ellipse(0.52, 0.84, 0.1, 0.11, METAL, volume=0.7)
    pen.ellipse(0.57, 0.84, 0.06, 0.09, (255, 248, 214))


def train(pen: Pen, colour: Rgb) -> None:
    """A locomotive with two carriages, on rails."""
    pen.rect(-2.4, -0.06, 2.4, -0.01, (120, 112, 104), volume=0.4)
    for i in range(24):
        pen.rect(-2.35 + i * 0.2, -0.1, -2.25 + i * 0.2, -0.04, (92, 70, 50))
    pen.shadow(0, 0.02, 2.0, 0.07)
    stripe = (240, 232, 210)
    for left, right in ((-2.05, -0.75), (-0.68, 0.62)):
        pen.rect(left, 0.14, right, 0.98, colour, volume=0.45, radius=0.06)
        pen.rect(left, 0.36, right, 0.42, stripe)
        for i in range(5):
            x = left + 0.12 + i * 0.235
            _window(pen, [(x, 0.5), (x, 0.82), (x + 0.17, 0.82), (x + 0.17, 0.5)])
        for x in (left + 0.2, left + 0.42, right - 0.42, right - 0.2):
            pen.ellipse(x, 0.12, 0.1, 0.1, (40, 40, 44), volume=0.6)
        pen.rect(left + 0.02, 0.96, right - 0.02, 1.02, (90, 92, 98), volume=0.5)
    nose = [(0.7, 0.14), (0.7, 1.0), (1.5, 1.0), (1.82, 0.78), (2.02, 0.42), (2.04, 0.14)]
    pen.polygon(curve(nose, closed=False), colour, volume=0.8)
    pen.rect(0.7, 0.36, 1.98, 0.42, stripe)
    _window(pen, [(1.48, 0.58), (1.48, 0.86), (1.62, 0.86), (1.82, 0.58)])
    for x in (0.84, 1.06, 1.28):
        _window(pen, [(x, 0.54), (x, 0.82), (x + 0.15, 0.82), (x + 0.15, 0.54)])
    pen.ellipse(1.96, 0.32, 0.05, 0.05, (255, 248, 205))
    for x in (0.9, 1.15, 1.55, 1.8):
        pen.ellipse(x, 0.12, 0.1, 0.1, (40, 40, 44), volume=0.6)
    pen.rect(1.9, 0.06, 2.1, 0.16, (60, 60, 66))


def tractor(pen: Pen, colour: Rgb) -> None:
    """A farm tractor: one big wheel, one small."""
    pen.shadow(0, 0.02, 0.95, 0.09)
    pen.polygon([(-0.3, 0.34), (-0.3, 0.7), (0.8, 0.66), (0.84, 0.34)], colour, volume=0.8)
    for i in range(5):
        pen.rect(0.6 + i * 0.04, 0.4, 0.62 + i * 0.04, 0.6, darker(colour, 0.6))
    pen.polygon([(-0.56, 0.6), (-0.5, 1.16), (0.0, 1.16), (0.08, 0.66)], darker(colour, 0.2), 0.4)
    _window(pen, [(-0.48, 0.68), (-0.44, 1.08), (-0.05, 1.08), (0.0, 0.68)])
    pen.rect(-0.58, 1.12, 0.06, 1.2, colour, volume=0.6, radius=0.03)
    pen.stroke([(0.4, 0.66), (0.4, 1.0)], 0.06, (50, 50, 54), volume=0.8)
    for x, r in ((-0.42, 0.46), (0.62, 0.26)):
        pen.ellipse(x, r, r, r, (34, 34, 36), volume=0.5)
        for lug in range(18):
            turn = lug * 0.349
            pen.ellipse(
                x + r * 0.93 * math.cos(turn),
                r + r * 0.93 * math.sin(turn),
                r * 0.07,
                r * 0.07,
                (56, 54, 52),
            )
        pen.ellipse(x, r, r * 0.52, r * 0.52, (236, 200, 60), volume=0.7)
        pen.ellipse(x, r, r * 0.15, r * 0.15, (90, 90, 90), volume=0.6)


def airplane(pen: Pen, colour: Rgb) -> None:
    """An airliner, nose to the right."""
    white = (238, 241, 245)
    pen.polygon([(-0.1, 0.1), (0.18, 0.1), (-0.2, 0.55), (-0.34, 0.55)], (176, 184, 194), 0.5)
    hull = [(-1.05, 0.14), (-0.6, 0.02), (0.6, -0.06), (0.96, 0.0), (1.08, 0.1), (0.96, 0.2)]
    pen.blob([*hull, (0.6, 0.25), (-0.6, 0.22)], white, volume=0.9)
    fin = [(-1.06, 0.14), (-1.18, 0.6), (-1.0, 0.6), (-0.66, 0.2)]
    pen.polygon(fin, colour, volume=0.5)
    pen.polygon([(-1.0, 0.14), (-0.84, 0.14), (-1.16, -0.06), (-1.26, -0.04)], (150, 158, 170), 0.4)
    pen.polygon([(-0.14, 0.04), (0.24, 0.04), (-0.32, -0.46), (-0.5, -0.46)], (196, 202, 210), 0.6)
    pen.rect(-0.95, 0.075, 1.02, 0.095, colour)
    for i in range(18):
        pen.rect(-0.72 + i * 0.085, 0.125, -0.685 + i * 0.085, 0.165, (70, 92, 116))
    pen.polygon([(0.9, 0.19), (0.99, 0.185), (1.03, 0.14), (0.93, 0.14)], (60, 78, 98))
    for x, y in ((0.06, -0.16), (-0.12, -0.32)):
        pen.rect(x - 0.1, y - 0.055, x + 0.13, y + 0.055, (120, 128, 140), volume=0.9, radius=0.05)


def boat(pen: Pen, colour: Rgb) -> None:
    """A sailing boat."""
    pen.shadow(0, 0.0, 0.72, 0.07, 0.3)
    pen.stroke([(0, 0.2), (0, 1.52)], 0.035, (124, 90, 56), volume=0.6)
    sail = (248, 246, 238)
    main = curve([(-0.03, 0.34), (-0.62, 0.34), (-0.36, 0.8), (-0.03, 1.5)], closed=False)
    pen.polygon(main, sail, volume=0.35)
    pen.polygon(
        curve([(0.04, 0.36), (0.56, 0.34), (0.34, 0.74), (0.04, 1.36)], False),
        colour if pen.chance(0.4) else sail,
        volume=0.35,
    )
    for y in (0.6, 0.85, 1.1):
        pen.stroke([(-0.5 * (1.6 - y), y), (-0.03, y)], 0.008, (200, 198, 190))
    hull = [(-0.72, 0.3), (0.82, 0.32), (0.62, 0.06), (0.46, 0.0), (-0.52, 0.0), (-0.64, 0.08)]
    pen.polygon(hull, colour, volume=0.8)
    pen.polygon([(-0.72, 0.3), (0.82, 0.32), (0.78, 0.26), (-0.7, 0.24)], lighter(colour, 0.65))
    pen.stroke([(0.82, 0.32), (0, 1.5)], 0.008, (90, 90, 90))


def traffic_light(pen: Pen, colour: Rgb) -> None:
    """A traffic light on a pole, one lamp lit."""
    pen.shadow(0.05, 0.01, 0.2, 0.04)
    pen.rect(-0.045, 0.0, 0.045, 0.8, (84, 88, 92), volume=0.8)
    shell = (40, 44, 44) if pen.chance(0.6) else (226, 178, 30)
    pen.rect(-0.24, 0.72, 0.24, 1.82, shell, volume=0.5, radius=0.08)
    lit = int(pen.rng.integers(3))
    lamps: list[Rgb] = [(52, 212, 92), (252, 198, 40), (244, 40, 36)]
    for i, lamp in enumerate(lamps):
        y = 0.93 + i * 0.34
        pen.polygon(arc(0, y, 0.2, 0.2, -20, 200), (16, 18, 18))
        if i == lit:
            pen.ellipse(0, y, 0.24, 0.24, lamp, alpha=0.5, soft=0.05)
        pen.ellipse(0, y, 0.145, 0.145, lamp if i == lit else darker(lamp, 0.72), volume=0.4)
        if i == lit:
            pen.ellipse(0, y, 0.08, 0.08, lighter(lamp, 0.6), soft=0.03)


def stop_sign(pen: Pen, colour: Rgb) -> None:
    """A red octagon with the word STOP on a pole."""
    pen.shadow(0.05, 0.01, 0.16, 0.03)
    pen.rect(-0.035, 0.0, 0.035, 1.0, (150, 154, 158), volume=0.8)
    for radius, tint in ((0.48, (246, 246, 246)), (0.44, pen.vary((196, 20, 32), 7))):
        ring = [
            (
                radius * math.cos(math.radians(22.5 + 45 * i)),
                1.3 + radius * math.sin(math.radians(22.5 + 45 * i)),
            )
            for i in range(8)
        ]
        pen.polygon(ring, tint, volume=0.15)
    letters(pen, "STOP", 0, 1.3, 0.235, (250, 250, 250))


def fire_hydrant(pen: Pen, colour: Rgb) -> None:
    """A fire hydrant with caps and bolts."""
    pen.shadow(0.06, 0.02, 0.34, 0.07)
    pen.rect(-0.28, 0.0, 0.28, 0.1, colour, volume=0.7, radius=0.03)
    pen.rect(-0.19, 0.08, 0.19, 0.74, colour, volume=0.95)
    pen.rect(-0.4, 0.44, 0.4, 0.62, colour, volume=0.9, radius=0.04)
    for x in (-0.42, 0.42):
        pen.rect(x - 0.05, 0.41, x + 0.05, 0.65, darker(colour, 0.12), volume=0.8, radius=0.03)
    pen.rect(-0.25, 0.72, 0.25, 0.8, darker(colour, 0.1), volume=0.7, radius=0.03)
    pen.polygon(arc(0, 0.79, 0.2, 0.22, 0, 180), colour, volume=0.9)
    pen.rect(-0.05, 0.98, 0.05, 1.08, darker(colour, 0.15), volume=0.7)
    pen.ellipse(0, 0.53, 0.13, 0.13, darker(colour, 0.15), volume=0.9)
    pen.ellipse(0, 0.53, 0.05, 0.05, lighter(colour, 0.2), volume=0.7)
    pen.gloss(-0.1, 0.3, 0.02, 0.14, 0.4)


def bench(pen: Pen, colour: Rgb) -> None:
    """A park bench of wooden slats on iron legs."""
    pen.shadow(0, 0.02, 1.0, 0.08)
    wood = pen.vary((150, 98, 52))
    for x in (-0.82, 0.82):
        pen.stroke([(x, 0.0), (x, 0.42), (x, 0.95)], 0.06, (44, 46, 48), volume=0.6)
        pen.stroke([(x + 0.12, 0.0), (x + 0.06, 0.4)], 0.05, (34, 36, 38))
    for y in (0.56, 0.7, 0.84):
        pen.rect(-0.98, y, 0.98, y + 0.1, pen.vary(wood, 6), volume=0.5, grain=0.3)
    for i, y in enumerate((0.44, 0.38, 0.32)):
        pen.rect(-1.0, y, 1.0, y + 0.055, pen.vary(darker(wood, 0.08 * i), 6), 0.4, grain=0.3)


def mailbox(pen: Pen, colour: Rgb) -> None:
    """A mailbox on a post with its flag up."""
    pen.shadow(0.05, 0.01, 0.2, 0.04)
    pen.rect(-0.06, 0.0, 0.06, 0.7, (134, 96, 58), volume=0.6, grain=0.3)
    shell = [
        (-0.44, 0.64),
        (-0.44, 0.92),
        *arc(-0.24, 0.92, 0.2, 0.2, 180, 90, 6),
        *arc(0.3, 0.92, 0.2, 0.2, 90, 0, 6),
        (0.5, 0.64),
    ]
    pen.polygon(shell, colour, volume=0.8)
    pen.polygon(
        [(0.1, 0.64), (0.1, 0.92), *arc(0.3, 0.92, 0.2, 0.2, 180, 0, 10), (0.5, 0.64)],
        lighter(colour, 0.15),
        volume=0.5,
    )
    pen.rect(0.26, 0.84, 0.34, 0.88, METAL)
    pen.rect(-0.2, 0.86, -0.16, 1.3, (206, 34, 34))
    pen.rect(-0.2, 1.16, 0.02, 1.3, (206, 34, 34))
