"""The places of the sample: how each is painted, what belongs there, what people call it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image, ImageDraw

from lib.datasets.sample.pen import Pen, Rgb, add_noise, curve, darker, lighter, mix
from lib.datasets.sample.shapes import draw

# fmt: off
SKIES: dict[str, tuple[Rgb, Rgb, Rgb]] = {  # above, at the horizon, clouds
    "sunny": ((74, 142, 218), (196, 224, 244), (252, 253, 255)),
    "cloudy": ((148, 160, 174), (212, 218, 224), (226, 229, 233)),
    "sunset": ((72, 78, 138), (250, 168, 98), (250, 190, 150)),
}
WATERS: dict[str, tuple[Rgb, Rgb]] = {
    "sunny": ((28, 92, 134), (92, 164, 196)), "cloudy": ((70, 92, 106), (150, 168, 178)),
    "sunset": ((54, 60, 104), (224, 150, 112)),
}
SURFACES: dict[str, Rgb] = {
    "wooden": (164, 112, 66), "white": (232, 230, 224), "blue": (74, 118, 172),
    "checkered": (226, 224, 220),
}
# fmt: on


class Backdrop:
    """A canvas to paint a place on: unit 1 is the canvas height, the origin is bottom left."""

    def __init__(self, canvas: Image.Image, rng: np.random.Generator) -> None:
        self.canvas = canvas
        self.rng = rng
        self.aspect = canvas.width / canvas.height
        self.pen = Pen(canvas, rng, (0, canvas.height), canvas.height)

    def put(self, table: str, x: float, y: float, size: float = 1.0) -> None:
        """Draw a table of shapes, its origin at (x, y)."""
        height = self.canvas.height
        pen = Pen(self.canvas, self.rng, (x * height, (1 - y) * height), size * height)
        draw(table, pen, (255, 255, 255))

    def gradient(
        self, bottom: float, top: float, low: Rgb, high: Rgb, noise: float = 0.0,
        stretch: tuple[float, float] = (1, 1), smoothest: int = 16,
    ) -> None:  # fmt: skip
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
        high, low, cloud = SKIES[mood]
        with self.coarse() as back:
            pen = back.pen
            back.gradient(0, 1, low, low)
            back.gradient(horizon, 1.0, pen.vary(low, 8), pen.vary(high, 10))
            if mood == "sunset":
                x, y = pen.between(0.1, self.aspect - 0.1), horizon + pen.between(0.02, 0.14)
                pen.ellipse(x, y, 0.24, 0.2, (255, 214, 140), alpha=0.55, soft=0.09)
                pen.ellipse(x, y, 0.055, 0.055, (255, 244, 206), soft=0.006)
            for _ in range(7 if mood == "cloudy" else 3):
                x, y = pen.between(0, self.aspect), pen.between(horizon + 0.12, 1.0)
                size = pen.between(0.05, 0.12)
                for _ in range(7):
                    dx, dy = pen.between(-1.6, 1.6) * size, pen.between(-0.3, 0.5) * size
                    style = {"alpha": 0.5, "soft": size * 0.18}
                    pen.ellipse(x + dx, y + dy, size, size / 2, cloud, **style)

    def hills(self, horizon: float, colour: Rgb, height: float = 0.12, rough: float = 0.5) -> None:
        """A range of hills that stands on the horizon."""
        xs = np.linspace(-0.05, self.aspect + 0.05, 40)
        ys = np.zeros_like(xs)
        for octave in range(4):
            phase, period = self.pen.between(0, 6.3), 1.1 / 2**octave
            ys += np.sin(xs * 6.28 / period + phase) * rough**octave
        ys = horizon + height * (0.35 + 0.65 * (ys - np.min(ys)) / (np.ptp(ys) + 1e-6))
        foot = [(xs[-1], horizon - 0.02), (xs[0], horizon - 0.02)]
        self.pen.polygon([*zip(xs, ys, strict=True), *foot], colour, volume=0.3, grain=0.35)

    def grass(self, top: float, colour: Rgb) -> None:
        """A lawn up to the height, with blades that are longer towards the viewer."""
        near = self.pen.vary(darker(colour, 0.12), 9)
        self.gradient(0, top, near, lighter(colour, 0.18), noise=0.75, stretch=(1, 2.4))
        drawing, rng, count = ImageDraw.Draw(self.canvas), self.rng, 600
        x, y = rng.uniform(0, self.aspect, count), top * rng.uniform(0, 0.97, count)
        length = 0.012 + 0.035 * (1 - y / top)
        tip_x, tip_y = x + rng.uniform(-0.5, 0.5, count) * length, y + length
        lines = np.stack([x, 1 - y, tip_x, 1 - tip_y], axis=1) * self.canvas.height
        for line in lines.tolist():
            drawing.line(line, fill=self.pen.vary(colour, 18), width=2)

    def water(self, bottom: float, top: float, near: Rgb, far: Rgb) -> None:
        """A band of water with ripples."""
        self.gradient(bottom, top, near, far, noise=0.55, stretch=(7, 1.2))
        for _ in range(26):
            depth = self.pen.between(0, 1) ** 0.7
            y, x = bottom + (top - bottom) * depth, self.pen.between(0, self.aspect)
            length = 0.14 * (1.15 - depth)
            ripple = [(x, y), (x + length / 2, y + 0.006 * (1.2 - depth)), (x + length, y)]
            self.pen.stroke(curve(ripple, False), 0.003, (240, 247, 250), alpha=0.5)

    def table(self, mood: str, top: float) -> None:
        """A table top up to the height: of boards, plain, or with a checkered cloth."""
        pen, colour = self.pen, self.pen.vary(SURFACES[mood], 9)
        if mood == "wooden":
            self.boards(top, colour)
        else:
            self.gradient(0, top, colour, darker(colour, 0.08), noise=0.14)
        if mood == "checkered":
            red = pen.vary((196, 40, 44), 8)
            for i in range(-6, 18):
                near, far = (self.aspect * (0.5 + (i - 5) * width) for width in (0.16, 0.09))
                wide = self.aspect * 0.08
                cloth = [(near, 0), (near + wide, 0), (far + wide * 0.56, top), (far, top)]
                pen.polygon(cloth, red, alpha=0.55)
            for i in range(6):
                low, high = top * (1 - 0.80**i), top * (1 - 0.80 ** (i + 0.5))
                pen.rect(0, low, self.aspect, high, red, alpha=0.55)
        glow = pen.between(0.2, 0.8) * self.aspect
        pen.ellipse(glow, top * 0.6, 0.5, top * 0.3, (255, 250, 235), alpha=0.2, soft=0.12)
        pen.rect(0, top - 0.006, self.aspect, top, darker(colour, 0.3), alpha=0.5)

    def boards(self, top: float, colour: Rgb) -> None:
        """Boards that run across, up to the height."""
        self.gradient(0, top, colour, darker(colour, 0.14), noise=0.6, stretch=(14, 1))
        for i in range(7):
            y = top * (1 - 0.72**i)
            self.pen.stroke([(0, y), (self.aspect, y)], 0.004, darker(colour, 0.38))

    def wall(self, bottom: float) -> None:
        """A wall down to the height."""
        wall = self.pen.pick((222, 212, 192), (196, 206, 196), (186, 200, 214), (214, 190, 172))
        low, high = darker(wall, 0.1), lighter(wall, 0.12)
        self.gradient(bottom, 1.0, low, high, noise=0.16, smoothest=64)


_WINDOW = """
    rect #fff -2,-2 36,44
    rect #9cf v30 0,0 34,42
    rect #7a6 v30 g60 0,0 34,13
    line #fff w1.2 17,0 17,42
    line #fff w1.2 0,21 34,21
    rect #eee v40 -4,-5 38,-1
"""
_SHELF = """
    rect #964 v40 0,20 62,22
    rect ~#d74|#eee|#699|#ab7 v90 r2 n4 d14,0 3,22 9,36
    rect ~#d74|#eee|#699|#ab7 v90 r2 n4 d14,0 10,22 16,30
"""
_BOOKS = """
    rect #853 v40 g30 0,22 60,24
    rect ~#a33|#358|#475|#db7 v50 n7 d8,0 2,24 5.5,40
    rect ~#a33|#358|#475|#db7 v50 n7 d8,0 6,24 9.5,44
"""
_PICTURE = """
    rect #642 v40 0,10 36,38
    rect #9bc v20 3,13 33,35
    poly #576 3,13 13,26 20,19 25,24 33,13
"""
_HOUSE = """
    let d ~#954|#ba8|#889|#b86
    rect d v12 g40 0,-2 28,40
    rect #eed n3 d9,0 2.4,3.4 7.6,10.6
    rect #456 n3 d9,0 3,4 7,10
    rect #eed n3 d9,0 2.4,15.4 7.6,22.6
    rect #456|#456|#fd9 n3 d9,0 3,16 7,22
    rect #eed n3 d9,0 2.4,27.4 7.6,34.6
    rect #456 n3 d9,0 3,28 7,34
"""
_BUSH = "oval ~#463 v50 g80 n6 d5,0 j3,2 0,4 6,5"
_FIR = """
    rect #643 v70 -6,0 6,30
    poly ~#253 v70 g90 -46,18 -28,24 -9,18 9,24 28,18 46,20 2,70
    poly ~#253 v70 g90 -36,50 -22,56 -8,50 8,56 22,50 36,52 2,104
    poly ~#253 v70 g90 -26,84 -14,90 -4,84 4,90 14,84 26,86 1,150
"""
_ACACIA = """
    line #543 w4 0,0 6,60
    oval #673 v50 g99 6,66 60,16
"""


def _behind_a_table(decorations: tuple[str, ...], back: Backdrop, mood: str) -> float:
    """A table; behind it, out of focus, a wall with one of the decorations, or a dim room."""
    top = back.pen.between(0.48, 0.56)
    with back.coarse() as room:
        pen = room.pen
        if decorations:
            room.wall(top)
            decoration = decorations[int(pen.rng.integers(len(decorations)))]
            room.put(decoration, pen.between(0.05, back.aspect - 0.65), top + 0.05)
        else:
            room.gradient(0, 1.0, (92, 62, 44), (44, 30, 26), noise=0.1, smoothest=64)
            for _ in range(18):
                x, y = pen.between(0, back.aspect), pen.between(top + 0.05, 1)
                radius, alpha = pen.between(0.02, 0.06), pen.between(0.2, 0.55)
                pen.ellipse(x, y, radius, radius, (255, 216, 150), alpha=alpha)
    back.table(mood, top)
    return top


def _living_room(back: Backdrop, mood: str) -> float:
    horizon, pen = back.pen.between(0.36, 0.44), back.pen
    back.wall(horizon)
    x = pen.between(0.08, back.aspect - 0.45)
    back.put(_WINDOW if mood == "window" else _PICTURE, x, 0.54)
    back.boards(horizon, pen.vary((156, 112, 72), 14))
    pen.rect(0, horizon - 0.005, back.aspect, horizon + 0.035, (238, 234, 226), volume=0.3)
    if pen.chance(0.6):
        rug = pen.pick((160, 60, 56), (70, 96, 130), (190, 172, 140))
        for share, tint in ((1.0, rug), (0.82, lighter(rug, 0.4)), (0.7, rug)):
            pen.ellipse(back.aspect / 2, 0.16, 0.62 * share, 0.13 * share, tint, grain=0.7)
    return horizon


def _street(back: Backdrop, mood: str) -> float:
    horizon, pen, x = 0.44, back.pen, -0.05
    back.sky(mood, horizon)
    while x < back.aspect:
        size = pen.between(0.8, 1.2)
        back.put(_HOUSE, x, horizon, size)
        x += 0.28 * size
    back.gradient(0.36, horizon, (172, 168, 160), (156, 152, 146), noise=0.35)
    asphalt = pen.vary((92, 93, 97), 7)
    back.gradient(0, 0.354, asphalt, lighter(asphalt, 0.12), noise=0.5)
    pen.rect(0, 0.352, back.aspect, 0.366, (206, 202, 194), volume=0.4)
    back.put("poly #eed n7 d34,0 -28,4.5 -9,4.5 -8,7 -26,7", 0, 0)
    return horizon


def _beach(back: Backdrop, mood: str) -> float:
    horizon, shore, pen = 0.6, 0.42, back.pen
    back.sky(mood, horizon)
    near, far = WATERS[mood]
    back.water(shore - 0.06, horizon, lighter(near, 0.12), far)
    sand = pen.vary((226, 198, 150), 8) if mood != "sunset" else (196, 152, 118)
    back.gradient(0, shore - 0.05, darker(sand, 0.05), lighter(sand, 0.1), noise=0.5)
    xs = np.linspace(-0.05, back.aspect + 0.05, 24)
    ys = shore - 0.04 + 0.014 * np.sin(xs * 9 + near[0])
    edge = np.stack([xs, ys], axis=1)
    pen.polygon(np.concatenate([edge, edge[::-1] - (0, 0.03)]), darker(sand, 0.25))
    pen.stroke(edge, 0.022, (248, 250, 250), volume=0.3)
    return shore - 0.08


def _lake(back: Backdrop, mood: str) -> float:
    horizon = back.pen.between(0.5, 0.56)
    back.sky(mood, horizon)
    back.hills(horizon, mix((112, 126, 148), SKIES[mood][1], 0.3), 0.3, 0.6)
    back.hills(horizon, (58, 90, 66), 0.1, 0.8)
    near, far = WATERS[mood]
    back.water(0, horizon, mix(near, (40, 84, 76), 0.35), mix(far, (90, 130, 110), 0.3))
    back.put("line ~#683 w.6 n20 j11,6 11,0 12,18", back.aspect * back.rng.integers(2), 0)
    return horizon - 0.08


def _field(
    hills: Rgb, height: float, grass: Rgb, plant: str, count: int, size: float,
    back: Backdrop, mood: str,
) -> float:  # fmt: skip
    """Grass before hills, with plants along the horizon."""
    horizon, pen = back.pen.between(0.48, 0.56), back.pen
    back.sky(mood, horizon)
    back.hills(horizon, mix(hills, SKIES[mood][1], 0.3), height)
    for _ in range(count):
        at = pen.between(-0.1, back.aspect)
        back.put(plant, at, horizon - 0.02, size * pen.between(0.8, 1.3))
    back.grass(horizon, grass)
    return horizon - 0.08


def _meadow(back: Backdrop, mood: str) -> float:
    far = _field((84, 122, 92), 0.14, (96, 144, 60), _BUSH, 2, 0.5, back, mood)
    horizon = far + 0.08
    for y in (horizon - 0.02, horizon + 0.02):
        back.pen.stroke([(0, y), (back.aspect, y)], 0.008, (188, 176, 156))
    back.put("rect #ba9 v50 n14 d16,0 -1,-6 1,4.5", 0, horizon)
    back.put("oval #fff|#fd4|#e78 n24 j90,18 90,20 .6,.6", 0, 0)
    return far


def _snow(back: Backdrop, mood: str) -> float:
    horizon, pen = back.pen.between(0.46, 0.54), back.pen
    back.sky(mood, horizon)
    back.hills(horizon, (150, 166, 190), 0.3, 0.6)
    back.hills(horizon, (238, 242, 248), 0.16, 0.5)
    white = {"sunny": (240, 246, 253), "cloudy": (226, 231, 238), "sunset": (240, 214, 206)}[mood]
    back.gradient(0, horizon, white, darker(white, 0.1), noise=0.14, smoothest=64)
    for _ in range(7):
        back.put(_FIR, pen.between(0, back.aspect), horizon - 0.03, pen.between(0.08, 0.15))
    back.put("oval #bcd a45 s1 n5 j90,20 90,22 30,1.8", 0, 0)
    return horizon - 0.08


def _sky(back: Backdrop, mood: str) -> float:
    back.sky(mood, 0.0)
    if back.pen.chance(0.5):
        back.hills(0.0, mix((74, 104, 84), SKIES[mood][1], 0.15), 0.13)
    return 0.1


@dataclass(frozen=True)
class Scene:
    """One place.

    `paint(backdrop, mood)` paints it and returns the height of its ground's far edge; `places` are
    phrases that tell the place alone, `settings` nouns that name it, `moods` maps a mood to phrases
    that tell place and mood. `low` lists the kinds that stand or swim there, `high` those that fly
    or, where `hanging`, hang; one named twice is drawn more often. `near` is the height where the
    nearest things stand.
    """

    name: str
    paint: Callable[[Backdrop, str], float]
    places: tuple[str, ...]
    settings: tuple[str, ...]
    moods: dict[str, tuple[str, ...]]
    low: tuple[str, ...]
    high: tuple[str, ...] = ()
    hanging: bool = False
    near: float = 0.06
    weight: float = 2.0

    @property
    def kinds(self) -> tuple[str, ...]:
        """All kinds that belong here."""
        return (*self.low, *self.high)


def _weather(place: str) -> dict[str, tuple[str, ...]]:
    return {
        "sunny": (f"{place} on a sunny day", f"{place} under a clear blue sky"),
        "cloudy": (f"{place} on a cloudy day", f"{place} under a gray sky"),
        "sunset": (f"{place} at sunset", f"{place} in the evening light"),
    }


def _surfaces(table: str) -> dict[str, tuple[str, ...]]:
    return {
        "wooden": (f"on a wooden {table}", f"on top of a brown wooden {table}"),
        "white": (f"on a white {table}", f"on top of a clean white {table}"),
        "blue": (f"on a blue {table}", f"on a {table} with a blue cloth"),
        "checkered": (f"on a {table} with a checkered cloth", f"on a checkered {table}"),
    }


# fmt: off
_ALL = (
    Scene("kitchen", partial(_behind_a_table, (_WINDOW, _SHELF)),
          ("on a kitchen table", "in the kitchen", "on a kitchen counter"),
          ("kitchen table", "kitchen counter"), _surfaces("kitchen table"),
          ("orange", "orange", "apple", "banana", "strawberry", "broccoli", "coffee",
           *["orange juice"] * 3), ("clock",), hanging=True, weight=3.0),
    Scene("restaurant", partial(_behind_a_table, ()),
          ("on a restaurant table", "in a restaurant", "on a table in a cafe"),
          ("restaurant table", "cafe table"), _surfaces("restaurant table"),
          ("pizza", "pizza", "hot dog", "hamburger", "coffee", "ice cream",
           "orange juice", "orange juice")),
    Scene("desk", partial(_behind_a_table, (_BOOKS,)),
          ("on a desk", "on an office desk", "in an office"), ("desk", "office desk"),
          _surfaces("desk"), ("laptop", "laptop", "coffee", "orange juice",
                              "teddy bear", "apple"), ("clock",), hanging=True),
    Scene("living room", _living_room, ("in a living room", "in the living room"),
          ("living room", "cozy living room"),
          {"window": ("in a living room with a window", "near the window of a living room"),
           "picture": ("in a living room with a picture", "under a picture in a living room")},
          ("sofa", "dog", "cat", "teddy bear", "balloon"), ("clock",),
          hanging=True),
    Scene("street", _street, ("on a city street", "on the street", "in the city",
                              "in front of some buildings"), ("city street", "street"),
          _weather("on a city street"),
          ("car", "truck", "bus", "bus", "bicycle", "umbrella", "bench"), near=0.08,
          weight=3.0),
    Scene("beach", _beach, ("on a beach", "on the sand by the ocean", "at the beach"),
          ("beach", "sandy beach"), _weather("on the beach"),
          ("soccer ball", "beach ball", "dog"),
          ("kite", "seagull")),
    Scene("lake", _lake, ("on a lake", "on a mountain lake", "on the calm water of a lake"),
          ("lake", "mountain lake"), _weather("on a lake"), ("duck", "boat", "boat"),
          ("hot air balloon", "seagull"), near=0.14),
    Scene("meadow", _meadow, ("in a green field", "in a grassy field", "in a meadow"),
          ("green field", "grassy meadow"), _weather("in a green field"),
          ("cow", "sheep", "tent"), ("hot air balloon", "kite")),
    Scene("savanna", partial(_field, (150, 140, 130), 0.06, (190, 162, 92), _ACACIA, 4, 0.2),
          ("on the savanna", "in the dry grass", "on an african plain", "in the wild"),
          ("savanna", "dry grassland"), _weather("on the savanna"), ("zebra", "elephant")),
    Scene("park", partial(_field, (62, 108, 52), 0.1, (100, 152, 66), _BUSH, 8, 1.4),
          ("in a park", "on the grass in a park", "in a city park"), ("park", "city park"),
          _weather("in a park"), ("bench", "cat", "bicycle", "umbrella"),
          ("balloon", "kite")),
    Scene("snow", _snow, ("in the snow", "on a snowy hill", "in the snowy mountains"),
          ("snowy landscape", "snow field"), _weather("in the snow"),
          ("snowman", "skis", "penguin", "bear", "dog", "tent")),
    Scene("sky", _sky, ("in the sky", "high in the sky", "up in the air"), ("sky", "wide sky"),
          {"sunny": ("in a blue sky", "in the clear blue sky"),
           "cloudy": ("in a cloudy sky", "in a gray sky"),
           "sunset": ("in the sky at sunset", "in an evening sky")},
          (), ("airplane", "airplane", "kite", "hot air balloon", "balloon", "seagull")),
)
# fmt: on
SCENES: dict[str, Scene] = {scene.name: scene for scene in _ALL}
