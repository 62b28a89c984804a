"""The backgrounds of the sample: each function paints one place in one of its moods."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageDraw

from lib.datasets.sample.outdoors import pine
from lib.datasets.sample.pen import Pen, Rgb, add_noise, arc, curve, darker, lighter, mix

SKIES: dict[str, tuple[Rgb, Rgb]] = {
    "sunny": ((74, 142, 218), (196, 224, 244)),
    "cloudy": ((148, 160, 174), (212, 218, 224)),
    "sunset": ((72, 78, 138), (250, 168, 98)),
}


class Backdrop:
    """A canvas to paint a place on: unit 1 is the canvas height, the origin is bottom left."""

    def __init__(self, canvas: Image.Image, rng: np.random.Generator) -> None:
        self.canvas = canvas
        self.rng = rng
        self.aspect = canvas.width / canvas.height
        self.pen = Pen(canvas, rng, (0, canvas.height), canvas.height)

    def gradient(
        self,
        bottom: float,
        top: float,
        low: Rgb,
        high: Rgb,
        noise: float = 0.0,
        stretch: tuple[float, float] = (1, 1),
        smoothest: int = 16,
    ) -> None:
        """Fill the band between two heights, `low` its lower colour, `high` its upper."""
        first = max(0, round((1 - top) * self.canvas.height))
        last = min(self.canvas.height, round((1 - bottom) * self.canvas.height))
        if last <= first:
            return
        share = np.linspace(0, 1, last - first)[:, None, None]
        column = np.asarray(high) * (1 - share) + np.asarray(low) * share
        band = Image.fromarray(column.astype(np.uint8)).resize((self.canvas.width, last - first))
        if noise:
            band = add_noise(band, self.rng, noise, stretch, smoothest)
        self.canvas.paste(band, (0, first))

    @contextmanager
    def coarse(self, factor: int = 4) -> Iterator["Backdrop"]:
        """A smaller backdrop, spread over this one afterwards: for what is soft or out of focus."""
        small = Image.new("RGB", (self.canvas.width // factor, self.canvas.height // factor))
        yield Backdrop(small, self.rng)
        self.canvas.paste(small.resize(self.canvas.size, Image.Resampling.BILINEAR))

    def sky(self, mood: str, horizon: float) -> None:
        """A sky down to the horizon, with clouds, or a low sun at sunset."""
        high, low = SKIES[mood]
        count = {"sunny": 3, "cloudy": 8, "sunset": 3}[mood]
        with self.coarse() as back:
            pen = back.pen
            back.gradient(0, 1, low, low)
            back.gradient(horizon, 1.0, pen.vary(low, 8), pen.vary(high, 10))
            if mood == "sunset":
                x, y = pen.between(0.1, self.aspect - 0.1), horizon + pen.between(0.02, 0.14)
                pen.ellipse(x, y, 0.24, 0.2, (255, 214, 140), alpha=0.55, soft=0.09)
                pen.ellipse(x, y, 0.055, 0.055, (255, 244, 206), soft=0.006)
            for _ in range(int(pen.rng.integers(count - 2, count + 2))):
                back.cloud(pen.between(0, self.aspect), pen.between(horizon + 0.12, 1.0), mood)

    def cloud(self, x: float, y: float, mood: str) -> None:
        """One heap of soft white."""
        tint = {"sunny": (252, 253, 255), "cloudy": (226, 229, 233), "sunset": (250, 190, 150)}
        size = self.pen.between(0.05, 0.12)
        for _ in range(7):
            dx, dy = self.pen.between(-1.6, 1.6) * size, self.pen.between(-0.3, 0.5) * size
            self.pen.ellipse(
                x + dx, y + dy, size, size * 0.5, tint[mood], alpha=0.5, soft=size * 0.18
            )

    def hills(self, horizon: float, colour: Rgb, height: float = 0.12, rough: float = 0.5) -> None:
        """A range of hills that stands on the horizon."""
        xs = np.linspace(-0.05, self.aspect + 0.05, 40)
        ys = np.zeros_like(xs)
        for octave in range(4):
            phase, period = self.pen.between(0, 6.3), 1.1 / 2**octave
            ys += np.sin(xs * 6.28 / period + phase) * rough**octave
        ys = horizon + height * (0.35 + 0.65 * (ys - ys.min()) / (np.ptp(ys) + 1e-6))
        points = [
            (-0.05, horizon - 0.02),
            *zip(xs, ys, strict=True),
            (self.aspect + 0.05, horizon - 0.02),
        ]
        self.pen.polygon(points, colour, volume=0.3, grain=0.35)

    def tufts(self, top: float, colour: Rgb, count: int = 600) -> None:
        """Blades of grass, longer towards the viewer."""
        draw, height, rng = ImageDraw.Draw(self.canvas), self.canvas.height, self.rng
        x, y = rng.uniform(0, self.aspect, count), top * rng.uniform(0, 0.97, count)
        length = 0.012 + 0.035 * (1 - y / top)
        tip_x, tip_y = x + rng.uniform(-0.5, 0.5, count) * length, y + length
        lines = np.stack([x, 1 - y, tip_x, 1 - tip_y], axis=1) * height
        tint = np.asarray(colour) + rng.normal(0, 18, count)[:, None] + rng.normal(0, 7, (count, 3))
        tints = np.clip(tint, 0, 255).astype(int).tolist()
        for line, (red, green, blue) in zip(lines.tolist(), tints, strict=True):
            draw.line(line, fill=(red, green, blue), width=2)


def _grass(back: Backdrop, horizon: float, colour: Rgb = (96, 144, 60)) -> None:
    near = back.pen.vary(darker(colour, 0.12), 9)
    back.gradient(0, horizon, near, lighter(colour, 0.18), noise=0.75, stretch=(1, 2.4))
    back.tufts(horizon, colour)


def _water(back: Backdrop, bottom: float, top: float, near: Rgb, far: Rgb) -> None:
    back.gradient(bottom, top, near, far, noise=0.55, stretch=(7, 1.2))
    for _ in range(26):
        depth = back.pen.between(0, 1) ** 0.7
        y, x = bottom + (top - bottom) * depth, back.pen.between(0, back.aspect)
        length = 0.14 * (1.15 - depth)
        ripple = [(x, y), (x + length / 2, y + 0.006 * (1.2 - depth)), (x + length, y)]
        back.pen.stroke(curve(ripple, False), 0.003, (240, 247, 250), alpha=0.5)


WATERS: dict[str, tuple[Rgb, Rgb]] = {
    "sunny": ((28, 92, 134), (92, 164, 196)),
    "cloudy": ((70, 92, 106), (150, 168, 178)),
    "sunset": ((54, 60, 104), (224, 150, 112)),
}
SURFACES: dict[str, Rgb] = {
    "wooden": (164, 112, 66),
    "white": (232, 230, 224),
    "blue": (74, 118, 172),
    "checkered": (226, 224, 220),
}
WALLS: list[Rgb] = [
    (222, 212, 192),
    (196, 206, 196),
    (186, 200, 214),
    (226, 222, 216),
    (214, 190, 172),
    (176, 168, 158),
]


def _wall(back: Backdrop, bottom: float, noise: float = 0.16) -> Rgb:
    wall = back.pen.vary(WALLS[int(back.rng.integers(len(WALLS)))], 8)
    back.gradient(bottom, 1.0, darker(wall, 0.1), lighter(wall, 0.12), noise=noise, smoothest=64)
    return wall


def _table(back: Backdrop, mood: str, top: float) -> None:
    pen, colour = back.pen, back.pen.vary(SURFACES[mood], 9)
    if mood == "wooden":
        back.gradient(0, top, colour, darker(colour, 0.12), noise=0.6, stretch=(14, 1))
        for i in range(1, 7):
            y = top * (1 - 0.72**i)
            pen.stroke([(0, y), (back.aspect, y)], 0.004, darker(colour, 0.4))
    else:
        back.gradient(0, top, colour, darker(colour, 0.08), noise=0.14)
    if mood == "checkered":
        red = pen.vary((196, 40, 44), 8)
        lines = 10
        for i in range(-6, lines + 8):
            left = [
                (back.aspect * (0.5 + (i + d - lines / 2) * w), y)
                for d, w, y in ((0, 0.16, 0), (0.5, 0.16, 0), (0.5, 0.09, top), (0, 0.09, top))
            ]
            pen.polygon(left, red, alpha=0.55)
        for i in range(6):
            low, high = top * (1 - 0.80**i), top * (1 - 0.80 ** (i + 0.5))
            pen.rect(0, low, back.aspect, high, red, alpha=0.55)
    glow = pen.between(0.2, 0.8) * back.aspect
    pen.ellipse(glow, top * 0.6, 0.5, top * 0.3, (255, 250, 235), alpha=0.2, soft=0.12)
    pen.rect(0, top - 0.006, back.aspect, top, darker(colour, 0.3), alpha=0.5)


def _window(back: Backdrop, x: float, bottom: float, mood: str = "sunny") -> None:
    """A window with a view, its frame and its sill."""
    pen, width, height = back.pen, 0.34, 0.42
    pen.rect(x - 0.02, bottom - 0.02, x + width + 0.02, bottom + height + 0.02, (246, 244, 238))
    pen.rect(x, bottom, x + width, bottom + height, lighter(SKIES[mood][0], 0.35), volume=0.3)
    pen.rect(x, bottom, x + width, bottom + height * 0.3, (110, 150, 92), volume=0.3, grain=0.6)
    for line in (
        [(x + width / 2, bottom), (x + width / 2, bottom + height)],
        [(x, bottom + height / 2), (x + width, bottom + height / 2)],
    ):
        pen.stroke(line, 0.012, (246, 244, 238))
    pen.rect(x - 0.04, bottom - 0.05, x + width + 0.04, bottom - 0.015, (236, 232, 224), volume=0.4)


def _shelf(back: Backdrop, x: float, y: float) -> None:
    """A kitchen shelf with jars, cups and plates."""
    pen = back.pen
    pen.rect(x, y - 0.02, x + 0.62, y, (142, 102, 66), volume=0.4)
    wares: list[Rgb] = [(216, 120, 70), (240, 238, 230), (96, 140, 150), (170, 190, 120)]
    left = x + 0.02
    while left < x + 0.52:
        wide, tall = pen.between(0.05, 0.09), pen.between(0.07, 0.16)
        ware = pen.vary(wares[int(pen.rng.integers(4))], 12)
        pen.rect(left, y, left + wide, y + tall, ware, volume=0.9, radius=0.02)
        left += wide + pen.between(0.01, 0.04)


def kitchen(back: Backdrop, mood: str) -> float:
    """A kitchen table; behind it, out of focus, a wall with a window, shelves or tiles."""
    top = back.pen.between(0.5, 0.58)
    with back.coarse() as room:
        pen, wall = room.pen, _wall(room, top)
        if pen.chance(0.3):
            for i in range(4):
                pen.stroke(
                    [(0, top + i * 0.09), (back.aspect, top + i * 0.09)], 0.006, darker(wall)
                )
        x = pen.between(0.06, back.aspect - 0.6)
        if pen.chance(0.5):
            _window(room, x, top + 0.12)
        else:
            _shelf(room, x, pen.between(0.68, 0.76))
    _table(back, mood, top)
    return top


def restaurant(back: Backdrop, mood: str) -> float:
    """A dim restaurant with lights out of focus behind the table."""
    top = back.pen.between(0.5, 0.58)
    with back.coarse() as room:
        room.gradient(0, 1.0, (92, 62, 44), (44, 30, 26), noise=0.1, smoothest=64)
        pen = room.pen
        for _ in range(18):
            x, y = pen.between(0, back.aspect), pen.between(top + 0.05, 1)
            radius, alpha = pen.between(0.02, 0.06), pen.between(0.2, 0.55)
            glow = mix((255, 196, 104), (255, 236, 196), pen.between(0, 1))
            pen.ellipse(x, y, radius, radius, glow, alpha=alpha)
    _table(back, mood, top)
    return top


def _notice_board(pen: Pen, x: float) -> None:
    pen.rect(x, 0.66, x + 0.55, 0.95, (150, 108, 66), volume=0.3)
    pen.rect(x + 0.015, 0.675, x + 0.535, 0.935, (198, 158, 110), grain=0.6)
    for i in range(5):
        note = ((250, 236, 130), (250, 250, 246), (160, 214, 240))[i % 3]
        left, bottom = x + 0.04 + i * 0.098, pen.between(0.7, 0.83)
        pen.rect(left, bottom, left + 0.075, bottom + 0.08, note, volume=0.2)


def _book_shelf(pen: Pen, x: float) -> None:
    pen.rect(x, 0.7, x + 0.6, 0.725, (120, 82, 50), volume=0.4, grain=0.3)
    spines: list[Rgb] = [(160, 50, 44), (40, 78, 120), (70, 110, 72), (210, 180, 110)]
    for i in range(14):
        left = x + 0.02 + i * 0.04
        top = pen.between(0.84, 0.93)
        pen.rect(left, 0.725, left + 0.034, top, pen.vary(spines[i % 4]), volume=0.5)


def desk(back: Backdrop, mood: str) -> float:
    """An office desk; behind it, out of focus, a wall with a notice board or a shelf of books."""
    top = back.pen.between(0.46, 0.54)
    with back.coarse() as room:
        _wall(room, top)
        decorate = _notice_board if room.pen.chance(0.5) else _book_shelf
        decorate(room.pen, room.pen.between(0.05, back.aspect - 0.65))
    _table(back, mood, top)
    return top


def living_room(back: Backdrop, mood: str) -> float:
    """A living room or, with a rug, any room with a floor of boards."""
    horizon = back.pen.between(0.36, 0.44)
    _wall(back, horizon)
    pen = back.pen
    if mood == "window":
        _window(back, pen.between(0.08, back.aspect - 0.45), 0.54)
    else:
        x = pen.between(0.1, back.aspect - 0.5)
        pen.rect(x, 0.64, x + 0.36, 0.92, (96, 66, 42), volume=0.4)
        pen.rect(x + 0.03, 0.67, x + 0.33, 0.89, (150, 186, 206), volume=0.2)
        pen.polygon(
            [
                (x + 0.03, 0.67),
                (x + 0.13, 0.8),
                (x + 0.2, 0.73),
                (x + 0.25, 0.78),
                (x + 0.33, 0.67),
            ],
            (92, 112, 92),
        )
    floor = pen.vary((156, 112, 72), 14)
    back.gradient(0, horizon, floor, darker(floor, 0.15), noise=0.5, stretch=(12, 1))
    for i in range(7):
        y = horizon * (1 - 0.72**i)
        pen.stroke([(0, y), (back.aspect, y)], 0.004, darker(floor, 0.35))
    pen.rect(0, horizon - 0.005, back.aspect, horizon + 0.035, (238, 234, 226), volume=0.3)
    if pen.chance(0.6):
        rug = pen.vary(((160, 60, 56), (70, 96, 130), (190, 172, 140))[int(pen.rng.integers(3))])
        for share, tint in ((1.0, rug), (0.82, lighter(rug, 0.4)), (0.7, rug)):
            pen.ellipse(back.aspect / 2, 0.16, 0.62 * share, 0.13 * share, tint, grain=0.7)
    return horizon


def bedroom(back: Backdrop, mood: str) -> float:
    """A bedroom: striped wallpaper, carpet and curtains."""
    horizon = back.pen.between(0.34, 0.42)
    wall = _wall(back, horizon)
    pen = back.pen
    for i in range(int(back.aspect / 0.12) + 1):
        pen.rect(i * 0.12, horizon, i * 0.12 + 0.055, 1.0, lighter(wall, 0.18), alpha=0.55)
    x = pen.between(0.14, back.aspect - 0.5)
    _window(back, x, 0.54, "sunny" if mood == "window" else "cloudy")
    drape = pen.vary(((180, 120, 130), (110, 130, 170), (206, 190, 150))[int(pen.rng.integers(3))])
    for left in (x - 0.1, x + 0.32):
        for fold in range(4):
            pen.rect(left + fold * 0.03, 0.46, left + fold * 0.03 + 0.03, 1.0, drape, volume=0.7)
    carpet = pen.vary((176, 164, 150), 16)
    back.gradient(0, horizon, carpet, darker(carpet, 0.18), noise=0.8)
    pen.rect(0, horizon - 0.005, back.aspect, horizon + 0.03, (238, 234, 226), volume=0.3)
    return horizon


def street(back: Backdrop, mood: str) -> float:
    """A street: house fronts, a pavement and a road with its dashed line."""
    horizon, pen = 0.44, back.pen
    back.sky(mood, horizon)
    x = -0.05
    while x < back.aspect:
        width, height = pen.between(0.2, 0.36), pen.between(0.24, 0.48)
        brick = pen.vary(
            ((156, 92, 72), (190, 168, 140), (140, 142, 148), (176, 128, 96))[
                int(pen.rng.integers(4))
            ]
        )
        pen.rect(x, horizon - 0.02, x + width, horizon + height, brick, volume=0.12, grain=0.4)
        columns, rows = max(2, int(width / 0.085)), max(2, int(height / 0.11))
        for column in range(columns):
            for row in range(rows):
                wx = x + (column + 0.28) * width / columns
                wy = horizon + 0.04 + row * height / rows
                pane = (70, 90, 108) if pen.chance(0.8) else (242, 220, 150)
                pen.rect(wx - 0.006, wy - 0.006, wx + 0.046, wy + 0.066, (232, 228, 218))
                pen.rect(wx, wy, wx + 0.04, wy + 0.06, pane)
        x += width
    back.gradient(0.36, horizon, (172, 168, 160), (156, 152, 146), noise=0.35)
    pen.rect(0, 0.352, back.aspect, 0.366, (206, 202, 194), volume=0.4)
    asphalt = pen.vary((92, 93, 97), 7)
    back.gradient(0, 0.354, asphalt, lighter(asphalt, 0.12), noise=0.5)
    for i in range(-1, 6):
        left = i * 0.34 + 0.06
        pen.polygon(
            [(left, 0.045), (left + 0.19, 0.045), (left + 0.2, 0.07), (left + 0.02, 0.07)],
            (232, 228, 210),
        )
    return horizon


def beach(back: Backdrop, mood: str) -> float:
    """A beach: sky, a strip of sea with surf, and sand."""
    horizon, shore, pen = 0.6, 0.42, back.pen
    back.sky(mood, horizon)
    near, far = WATERS[mood]
    _water(back, shore - 0.06, horizon, lighter(near, 0.12), far)
    sand = pen.vary((226, 198, 150), 8) if mood != "sunset" else (196, 152, 118)
    back.gradient(0, shore - 0.05, darker(sand, 0.05), lighter(sand, 0.1), noise=0.5)
    xs = np.linspace(-0.05, back.aspect + 0.05, 24)
    edge = [
        (x, shore - 0.04 + 0.014 * math.sin(x * 9 + near[0]) + pen.between(-0.004, 0.004))
        for x in xs
    ]
    wet = [(x, y - 0.03) for x, y in edge]
    pen.polygon([*edge, *reversed(wet)], darker(sand, 0.25))
    pen.stroke(curve(edge, False), 0.022, (248, 250, 250), volume=0.3)
    for _ in range(40):
        x, y = pen.between(0, back.aspect), pen.between(0, shore - 0.1)
        pen.ellipse(x, y, 0.006, 0.003, pen.vary((170, 140, 104), 30), alpha=0.7)
    return shore - 0.08


def sea(back: Backdrop, mood: str) -> float:
    """Open water to the horizon, land far off."""
    horizon = back.pen.between(0.52, 0.62)
    back.sky(mood, horizon)
    if back.pen.chance(0.6):
        back.hills(horizon, mix((98, 116, 136), SKIES[mood][1], 0.35), 0.07)
    near, far = WATERS[mood]
    _water(back, 0, horizon, near, far)
    return horizon - 0.06


def lake(back: Backdrop, mood: str) -> float:
    """A lake before wooded mountains, reeds on the near shore."""
    horizon = back.pen.between(0.5, 0.56)
    back.sky(mood, horizon)
    back.hills(horizon, mix((112, 126, 148), SKIES[mood][1], 0.3), 0.3, 0.6)
    back.hills(horizon, (58, 90, 66), 0.1, 0.8)
    near, far = WATERS[mood]
    _water(back, 0, horizon, mix(near, (40, 84, 76), 0.35), mix(far, (90, 130, 110), 0.3))
    back.pen.polygon(
        [
            (-0.05, horizon),
            (back.aspect + 0.05, horizon),
            (back.aspect + 0.05, horizon - 0.08),
            (-0.05, horizon - 0.08),
        ],
        (40, 66, 56),
        alpha=0.4,
        soft=0.012,
    )
    for _ in range(36):
        x = (
            back.pen.between(0, 0.22)
            if back.pen.chance(0.5)
            else back.aspect - back.pen.between(0, 0.22)
        )
        top = back.pen.between(0.1, 0.26)
        back.pen.stroke(
            [(x, 0), (x + back.pen.between(-0.03, 0.03), top)], 0.005, back.pen.vary((98, 124, 54))
        )
    return horizon - 0.08


def meadow(back: Backdrop, mood: str) -> float:
    """A green pasture with hills and a fence."""
    horizon, pen = back.pen.between(0.5, 0.58), back.pen
    back.sky(mood, horizon)
    back.hills(horizon, mix((84, 122, 92), SKIES[mood][1], 0.25), 0.14)
    _grass(back, horizon)
    if pen.chance(0.6):
        for y in (horizon - 0.02, horizon + 0.02):
            pen.stroke([(0, y), (back.aspect, y)], 0.008, (188, 176, 156))
        for i in range(9):
            x = i * back.aspect / 8
            pen.rect(x - 0.008, horizon - 0.06, x + 0.008, horizon + 0.045, (172, 158, 136), 0.5)
    for _ in range(24):
        bloom = ((250, 250, 246), (250, 214, 70), (236, 120, 150))[int(pen.rng.integers(3))]
        size = pen.between(0.004, 0.008)
        pen.ellipse(pen.between(0, back.aspect), pen.between(0, horizon * 0.8), size, size, bloom)
    return horizon - 0.08


def savanna(back: Backdrop, mood: str) -> float:
    """Dry grassland with flat-topped trees far off."""
    horizon, pen = back.pen.between(0.48, 0.56), back.pen
    back.sky(mood, horizon)
    back.hills(horizon, mix((150, 140, 130), SKIES[mood][1], 0.35), 0.06)
    for _ in range(4):
        x, size = pen.between(0, back.aspect), pen.between(0.05, 0.11)
        pen.stroke([(x, horizon - 0.02), (x + 0.1 * size, horizon + size)], 0.012, (92, 72, 50))
        pen.ellipse(x, horizon + size * 1.15, size, size * 0.28, (98, 108, 56), 0.5, grain=1.0)
    _grass(back, horizon, (190, 162, 92))
    return horizon - 0.08


def park(back: Backdrop, mood: str) -> float:
    """A lawn with a path and a row of trees behind."""
    horizon, pen = back.pen.between(0.46, 0.54), back.pen
    back.sky(mood, horizon)
    for _ in range(17):
        x, size = pen.between(-0.05, back.aspect + 0.05), pen.between(0.1, 0.17)
        pen.ellipse(
            x, horizon + size * 0.7, size, size * 0.9, pen.vary((62, 108, 52), 16), 0.5, grain=1.0
        )
    _grass(back, horizon, (100, 152, 66))
    start, end = pen.between(0.1, 0.5) * back.aspect, pen.between(0.3, 0.8) * back.aspect
    path = [(start - 0.16, 0), (start + 0.3, 0), (end + 0.05, horizon), (end, horizon)]
    pen.polygon(path, (200, 184, 156), grain=0.5)
    return horizon - 0.08


def garden(back: Backdrop, mood: str) -> float:
    """A garden: a hedge or boards behind, beds of flowers, a lawn."""
    horizon, pen = back.pen.between(0.42, 0.5), back.pen
    back.sky(mood, 0.7)
    board = pen.vary((170, 132, 92), 12)
    for i in range(int(back.aspect / 0.07) + 1):
        pen.rect(
            i * 0.07, horizon - 0.02, i * 0.07 + 0.064, 0.84, pen.vary(board, 6), 0.3, grain=0.5
        )
    for _ in range(40):
        x = pen.between(0, back.aspect)
        pen.ellipse(
            x,
            horizon + pen.between(0, 0.1),
            0.05,
            0.045,
            pen.vary((64, 118, 54), 14),
            0.5,
            grain=0.8,
        )
    for _ in range(46):
        bloom = ((232, 60, 80), (250, 210, 60), (240, 150, 190), (250, 250, 246), (150, 100, 200))
        pen.ellipse(
            pen.between(0, back.aspect),
            horizon + pen.between(-0.02, 0.14),
            0.013,
            0.012,
            bloom[int(pen.rng.integers(5))],
            volume=0.5,
        )
    _grass(back, horizon, (92, 148, 62))
    return horizon - 0.08


def forest(back: Backdrop, mood: str) -> float:
    """A forest floor among trunks."""
    horizon, pen = back.pen.between(0.42, 0.5), back.pen
    light = {"sunny": (176, 200, 140), "cloudy": (140, 160, 140), "sunset": (214, 170, 120)}[mood]
    back.gradient(horizon, 1.0, light, (52, 84, 48), noise=0.9, smoothest=64)
    for depth in range(3):
        for _ in range(7 - depth):
            x, width = pen.between(0, back.aspect), 0.02 + 0.022 * depth
            bark = mix(light, (66, 50, 40), 0.45 + 0.25 * depth)
            foot = horizon - 0.02 - 0.04 * depth
            pen.rect(x - width / 2, foot, x + width / 2, 1.0, bark, volume=0.7, grain=0.5)
    back.gradient(0, horizon, (84, 74, 44), (92, 104, 56), noise=1.0)
    back.tufts(horizon - 0.05, (84, 116, 54), 400)
    for _ in range(60):
        pen.ellipse(
            pen.between(0, back.aspect),
            pen.between(0, horizon - 0.08),
            0.012,
            0.006,
            pen.vary((156, 96, 48), 26),
            tilt=pen.between(0, 3),
        )
    return horizon - 0.1


def snow(back: Backdrop, mood: str) -> float:
    """Snow with firs and white mountains."""
    horizon, pen = back.pen.between(0.46, 0.54), back.pen
    back.sky(mood, horizon)
    for _ in range(3):
        x, peak = pen.between(0, back.aspect), horizon + pen.between(0.18, 0.34)
        wide = pen.between(0.3, 0.5)
        pen.polygon(
            [(x - wide, horizon - 0.02), (x, peak), (x + wide, horizon - 0.02)],
            (140, 156, 180),
            volume=0.3,
            grain=0.4,
        )
        pen.polygon(
            [
                (x - wide * 0.45, horizon + (peak - horizon) * 0.55),
                (x, peak),
                (x + wide * 0.45, horizon + (peak - horizon) * 0.55),
                (x + wide * 0.15, horizon + (peak - horizon) * 0.68),
                (x - wide * 0.15, horizon + (peak - horizon) * 0.6),
            ],
            (246, 249, 253),
            volume=0.4,
        )
    white = {"sunny": (240, 246, 253), "cloudy": (226, 231, 238), "sunset": (240, 214, 206)}[mood]
    back.gradient(0, horizon, white, darker(white, 0.1), noise=0.14, smoothest=64)
    for _ in range(7):
        size = pen.between(0.08, 0.15)
        at = pen.pixels([(pen.between(0, back.aspect), horizon - 0.03)])[0]
        pine(Pen(back.canvas, back.rng, (at[0], at[1]), size * back.canvas.height), (40, 84, 56))
    for _ in range(5):
        x, y = pen.between(0, back.aspect), pen.between(0.03, horizon - 0.1)
        pen.ellipse(x, y, 0.3, 0.018, (176, 194, 222), alpha=0.45, soft=0.01)
    return horizon - 0.08


def desert(back: Backdrop, mood: str) -> float:
    """Dunes under a wide sky."""
    horizon, pen = back.pen.between(0.48, 0.56), back.pen
    back.sky(mood, horizon)
    back.hills(horizon, mix((196, 120, 84), SKIES[mood][1], 0.3), 0.2, 0.3)
    sand = pen.vary((222, 172, 112), 8)
    back.gradient(0, horizon, sand, lighter(sand, 0.15), noise=0.4, stretch=(4, 1))
    for y in (horizon * 0.72, horizon * 0.4):
        back.hills(y - 0.05, pen.vary(darker(sand, 0.1), 6), 0.08, 0.2)
        low = pen.vary(sand, 5)
        back.gradient(0, y - 0.04, low, lighter(low, 0.06), noise=0.4, stretch=(4, 1))
    return horizon - 0.1


def airport(back: Backdrop, mood: str) -> float:
    """A runway with grass beside it."""
    horizon, pen = 0.5, back.pen
    back.sky(mood, horizon)
    back.hills(horizon, mix((110, 126, 130), SKIES[mood][1], 0.35), 0.05)
    pen.rect(0.1, horizon - 0.02, 0.46, horizon + 0.06, (198, 202, 206), volume=0.3)
    pen.rect(0.13, horizon + 0.01, 0.43, horizon + 0.035, (84, 106, 128))
    pen.rect(0.49, horizon - 0.02, 0.52, horizon + 0.16, (206, 206, 204), volume=0.6)
    pen.rect(0.465, horizon + 0.14, 0.545, horizon + 0.19, (96, 120, 140), volume=0.5)
    _grass(back, horizon - 0.01, (120, 148, 84))
    back.gradient(0.04, 0.36, (112, 114, 118), (132, 134, 136), noise=0.35)
    for i in range(-1, 7):
        pen.rect(i * 0.3, 0.12, i * 0.3 + 0.17, 0.142, (238, 238, 232))
    return 0.34


def railway(back: Backdrop, mood: str) -> float:
    """A railway line through the country, masts beside it."""
    horizon, pen = back.pen.between(0.5, 0.56), back.pen
    back.sky(mood, horizon)
    back.hills(horizon, mix((84, 118, 84), SKIES[mood][1], 0.2), 0.14)
    _grass(back, horizon, (128, 146, 76))
    back.gradient(0.1, 0.27, (132, 122, 112), (150, 142, 132), noise=1.0)
    for i in range(4):
        x = 0.15 + i * 0.5
        pen.stroke([(x, 0.3), (x, 0.95)], 0.012, (112, 114, 116), volume=0.5)
        pen.stroke([(x, 0.9), (x + 0.12, 0.93)], 0.008, (112, 114, 116))
    pen.stroke([(0, 0.9), (back.aspect, 0.9)], 0.004, (60, 62, 66))
    return 0.25


def open_sky(back: Backdrop, mood: str) -> float:
    """Nothing but sky, and a strip of land at most."""
    back.sky(mood, 0.0)
    if back.pen.chance(0.5):
        back.hills(0.0, mix((74, 104, 84), SKIES[mood][1], 0.15), 0.13)
    return 0.1


def night(back: Backdrop, mood: str) -> float:
    """A night sky with stars over hills or over a town's lit windows."""
    pen, horizon = back.pen, 0.34
    back.gradient(horizon - 0.1, 1.0, (44, 52, 92), (8, 10, 30), noise=0.08, smoothest=64)
    for _ in range(110):
        size = pen.between(0.0012, 0.0036)
        pen.ellipse(
            pen.between(0, back.aspect),
            pen.between(horizon, 1),
            size,
            size,
            (244, 244, 255),
            alpha=pen.between(0.4, 1),
        )
    back.hills(horizon - 0.03, (24, 30, 50), 0.14)
    if mood == "town":
        x = 0.0
        while x < back.aspect:
            width, height = pen.between(0.08, 0.18), pen.between(0.1, 0.3)
            pen.rect(x, horizon - 0.06, x + width, horizon - 0.02 + height, (22, 24, 38))
            for _ in range(int(height * 60)):
                wx, wy = (
                    x + pen.between(0.01, width - 0.02),
                    horizon + pen.between(-0.03, height - 0.05),
                )
                pen.rect(wx, wy, wx + 0.012, wy + 0.018, (250, 214, 120))
            x += width
    ground = (30, 40, 44) if mood == "stars" else (40, 42, 52)
    back.gradient(0, horizon - 0.05, ground, lighter(ground, 0.08), noise=0.4)
    return horizon - 0.1


def underwater(back: Backdrop, mood: str) -> float:
    """Below the surface: rays of light, a sandy bottom, weeds or corals."""
    pen = back.pen
    with back.coarse() as water:
        water.gradient(0, 1.0, (14, 70, 116), (86, 184, 214), noise=0.18, smoothest=64)
        for _ in range(6):
            x = pen.between(0, back.aspect)
            ray = [(x, 1.02), (x + 0.08, 1.02), (x + 0.02, 0.2), (x - 0.2, 0.2)]
            water.pen.polygon(ray, (214, 244, 250), alpha=0.13, soft=0.02)
    back.gradient(0, 0.15, (196, 178, 134), (150, 160, 140), noise=0.5)
    for _ in range(9):
        x, height = pen.between(0, back.aspect), pen.between(0.12, 0.34)
        if mood == "coral":
            tint = ((230, 96, 100), (240, 160, 90), (190, 100, 180))[int(pen.rng.integers(3))]
            for turn in range(30, 160, 24):
                tip = (
                    x + height * 0.5 * math.cos(math.radians(turn)),
                    0.08 + height * 0.6 * math.sin(math.radians(turn)),
                )
                pen.stroke([(x, 0.08), tip], 0.022, tint, volume=0.7)
        else:
            weed = [
                (x, 0.05),
                (x + 0.03, 0.05 + height * 0.4),
                (x - 0.02, 0.05 + height * 0.7),
                (x + 0.03, 0.05 + height),
            ]
            pen.stroke(curve(weed, False), 0.02, pen.vary((50, 116, 74)), volume=0.5)
    for _ in range(16):
        r = pen.between(0.004, 0.011)
        pen.stroke(
            arc(pen.between(0, back.aspect), pen.between(0.2, 0.95), r, r, 0, 360, 12),
            0.002,
            (230, 248, 252),
            alpha=0.7,
        )
    return 0.1
