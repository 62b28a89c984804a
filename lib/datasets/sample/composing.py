"""One image of the sample: what it shows is drawn by lot, then put in place and painted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lib.datasets.sample.kinds import KINDS, PALETTE, Kind
from lib.datasets.sample.pen import Pen, add_noise
from lib.datasets.sample.scenery import Backdrop
from lib.datasets.sample.scenes import SCENES, Scene

SIZES = ((640, 480), (640, 480), (640, 427), (640, 426), (480, 640), (500, 375), (612, 612))
SUPERSAMPLING = 1.5


@dataclass(frozen=True)
class Group:
    """`count` things of one kind, all of one colour (empty where a colour goes without saying)."""

    kind: str
    count: int
    colour: str = ""


@dataclass(frozen=True)
class Description:
    """All that a caption may say of an image: where, in what mood, and which groups of things."""

    scene: str
    mood: str
    groups: tuple[Group, ...]


def generator(seed: int, index: int, purpose: int) -> np.random.Generator:
    """The random numbers of one image; `purpose` keeps picture and wording apart."""
    return np.random.default_rng([seed, index, purpose])


def describe(rng: np.random.Generator) -> Description:
    """Draw by lot what an image shows."""
    scenes = list(SCENES.values())
    weights = np.array([scene.weight for scene in scenes])
    scene = scenes[int(rng.choice(len(scenes), p=weights / weights.sum()))]
    mood = str(rng.choice(list(scene.moods)))
    wanted = int(rng.choice(3, p=(0.45, 0.4, 0.15))) + 1
    chosen: list[str] = []
    for name in rng.permutation(np.array(scene.kinds, dtype=object)):
        if name not in chosen and len(chosen) < wanted:
            chosen.append(str(name))
    groups: list[Group] = []
    things = 0
    for name in chosen:
        kind = KINDS[name]
        room = max(1, min(kind.most, 6 - things - (len(chosen) - len(groups) - 1)))
        shares = np.array((0.55, 0.25, 0.13, 0.07)[:room])
        count = 1 + int(rng.choice(room, p=shares / shares.sum()))
        colour = str(rng.choice(kind.colours)) if kind.colours else ""
        groups.append(Group(name, count, colour))
        things += count
    return Description(scene.name, mood, tuple(groups))


@dataclass(frozen=True)
class _Place:
    """Where one thing goes: its foot in units of the image height, its scale, its turn."""

    kind: Kind
    colour: str
    x: float
    y: float
    scale: float
    angle: float


def _row(
    rng: np.random.Generator, things: list[tuple[Kind, str]], aspect: float
) -> tuple[list[float], float]:
    """Centres of things side by side, and the zoom at which they fill the image nicely."""
    # Four and more may overlap a little, the nearer before the farther, rather than get tiny.
    room = 1.0 if len(things) < 4 else 0.74
    widths = [kind.size * kind.width * room for kind, _ in things]
    total = sum(widths) + 0.05 * len(widths)
    fill = aspect * rng.uniform(0.62, 0.92)
    zoom = float(np.clip(fill / total, 0.3, 1.45))
    tallest = max(kind.size * kind.height for kind, _ in things)
    zoom = min(zoom, 0.86 / tallest)
    free = max(0.0, aspect - zoom * sum(widths))
    gaps = rng.dirichlet(np.full(len(widths) + 1, 3.0)) * free
    centres, left = [], 0.0
    for gap, width in zip(gaps[:-1], widths, strict=True):
        left += float(gap)
        centres.append(left + zoom * width / 2)
        left += zoom * width
    return centres, zoom


def _inside(x: float, width: float, aspect: float) -> float:
    """The centre moved so that a thing of the width stays within the image."""
    return min(max(x, width / 2 + 0.01), max(width / 2, aspect - width / 2 - 0.01))


def _places(
    rng: np.random.Generator, scene: Scene, groups: Sequence[Group], far: float, aspect: float
) -> list[_Place]:
    """Put everything in place: what stands or floats in one row, what flies or hangs above."""
    low: list[tuple[Kind, str]] = []
    high: list[tuple[Kind, str]] = []
    for group in groups:
        above = group.kind in scene.air or group.kind in scene.wall
        things = [(KINDS[group.kind], group.colour)] * group.count
        (high if above else low).extend(things)
    low = [low[i] for i in rng.permutation(len(low))]
    places = []
    limit = 1.0 if not high else 0.7
    if low:
        centres, zoom = _row(rng, low, aspect)
        tallest = max(kind.size * kind.height for kind, _ in low)
        zoom = min(zoom, limit * 0.86 / tallest)
        for (kind, colour), x in zip(low, centres, strict=True):
            depth = float(rng.uniform(0, 1)) ** 1.5
            y = scene.near + (max(far, scene.near + 0.02) - scene.near) * 0.6 * depth
            scale = zoom * kind.size * (1.03 - 0.22 * depth) * rng.uniform(0.92, 1.06)
            scale = min(scale, (0.97 * limit - y) / kind.height)
            x = _inside(x, scale * kind.width, aspect)
            angle = float(rng.normal(0, kind.tilt * 0.5))
            places.append(_Place(kind, colour, x, y, float(scale), angle))
    if high:
        floor = 0.62 if low or scene.wall else 0.45 if scene.ground or scene.water else 0.12
        places += _above(rng, high, aspect, floor, hanging=bool(scene.wall))
    return sorted(places, key=lambda place: -place.y)


def _above(
    rng: np.random.Generator,
    things: list[tuple[Kind, str]],
    aspect: float,
    floor: float,
    hanging: bool,
) -> list[_Place]:
    """Places above the height `floor` for what flies or hangs."""
    centres, zoom = _row(rng, things, aspect)
    ceiling = 0.96
    places = []
    for (kind, colour), x in zip(things, centres, strict=True):
        tall = kind.size * kind.height
        scale = min(zoom, (ceiling - floor) / tall) * rng.uniform(0.78, 1.0)
        slack = max(0.0, ceiling - floor - scale * tall)
        x = _inside(x, float(scale) * kind.size * kind.width, aspect)
        share = rng.uniform(0.5, 1) if hanging else rng.uniform(0, 1)
        angle = float(rng.normal(0, kind.tilt))
        places.append(_Place(kind, colour, x, floor + slack * share, scale * kind.size, angle))
    return places


def paint(description: Description, rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """The picture of a description: an RGB image of the size (width, height)."""
    scene = SCENES[description.scene]
    canvas = Image.new("RGB", (round(size[0] * SUPERSAMPLING), round(size[1] * SUPERSAMPLING)))
    backdrop = Backdrop(canvas, rng)
    far = scene.paint(backdrop, description.mood)
    for place in _places(rng, scene, description.groups, far, backdrop.aspect):
        pen = Pen(
            canvas,
            rng,
            (place.x * canvas.height, (1 - place.y) * canvas.height),
            place.scale * canvas.height,
            angle=place.angle,
            flip=bool(rng.random() < 0.5),
            ambient=(1.0, 1.0, 1.0) if place.kind.name in GLOWING else scene.light,
        )
        colour = PALETTE[place.colour] if place.colour else PALETTE["white"]
        place.kind.draw(pen, pen.vary(colour, 9))
    image = canvas.resize(size, Image.Resampling.BOX)
    return add_noise(_exposed(image, rng), rng, 0.07, smoothest=1)


GLOWING = {"moon", "lamp", "candle"}


def _exposed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """As a camera would take it: a little brighter or darker, warmer or cooler."""
    exposure, warmth = rng.normal(1.0, 0.06), rng.normal(0.0, 0.025)
    gains = np.clip(exposure * np.array([1 + warmth, 1.0, 1 - warmth]), 0.82, 1.16)
    table = [min(255, round(value * gain)) for gain in gains for value in range(256)]
    return image.point(table)


def compose(seed: int, index: int) -> tuple[Description, Image.Image]:
    """Description and picture of the image `index`; nothing else decides them."""
    rng = generator(seed, index, 0)
    description = describe(rng)
    size = SIZES[int(rng.integers(len(SIZES)))]
    return description, paint(description, rng, size)
