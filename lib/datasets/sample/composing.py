"""One image of the sample: what it shows is drawn by lot, then put in place and painted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lib.datasets.sample.kinds import KINDS, Kind
from lib.datasets.sample.pen import Pen, add_noise
from lib.datasets.sample.scenes import SCENES, Backdrop, Scene

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
    kinds = list(dict.fromkeys(rng.permutation(np.array(scene.kinds, dtype=object)).tolist()))
    kinds = kinds[: int(rng.choice(3, p=(0.45, 0.4, 0.15))) + 1]
    groups: list[Group] = []
    things = 0
    for name in kinds:
        kind = KINDS[name]
        room = max(1, min(kind.most, 6 - things - (len(kinds) - len(groups) - 1)))
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
    rng: np.random.Generator, things: list[tuple[Kind, str]], aspect: float, tall: float
) -> tuple[list[float], float]:
    """Centres of things side by side, and the zoom at which they fill the image nicely."""
    # Four and more may overlap a little, the nearer before the farther, rather than get tiny.
    room = 1.0 if len(things) < 4 else 0.74
    widths = np.array([kind.size * kind.width * room for kind, _ in things])
    fill = aspect * rng.uniform(0.62, 0.92)
    tallest = max(kind.size * kind.height for kind, _ in things)
    zoom = min(float(np.clip(fill / (widths + 0.05).sum(), 0.3, 1.45)), tall / tallest)
    free = max(0.0, aspect - zoom * widths.sum())
    gaps = rng.dirichlet(np.full(len(widths) + 1, 3.0))[:-1] * free
    return list(np.cumsum(gaps + zoom * widths) - zoom * widths / 2), zoom


def _places(
    rng: np.random.Generator, scene: Scene, groups: Sequence[Group], far: float, aspect: float
) -> list[_Place]:
    """Put everything in place: what stands or floats in one row, what flies or hangs above."""
    rows: dict[bool, list[tuple[Kind, str]]] = {False: [], True: []}
    for group in groups:
        rows[group.kind in scene.high] += [(KINDS[group.kind], group.colour)] * group.count
    limit = 0.7 if rows[True] else 1.0
    floor = 0.62 if rows[False] or scene.hanging else 0.45 if scene.low else 0.12
    places = []
    for above, things in rows.items():
        if not things:
            continue
        things = [things[i] for i in rng.permutation(len(things))]
        centres, zoom = _row(rng, things, aspect, 0.96 - floor if above else 0.86 * limit)
        for (kind, colour), x in zip(things, centres, strict=True):
            scale = zoom * kind.size * rng.uniform(0.85, 1.0)
            depth = float(rng.uniform(0, 1)) ** 1.5
            if above:
                slack = max(0.0, 0.96 - floor - scale * kind.height)
                y = floor + slack * (1 - depth / 2 if scene.hanging else depth)
            else:
                y = scene.near + (max(far, scene.near + 0.02) - scene.near) * 0.6 * depth
                scale = min(scale * (1.1 - 0.22 * depth), (0.97 * limit - y) / kind.height)
            half = scale * kind.width / 2 + 0.01
            x = min(max(x, half), max(half - 0.01, aspect - half))
            angle = float(rng.normal(0, kind.tilt))
            places.append(_Place(kind, colour, x, y, float(scale), angle))
    return sorted(places, key=lambda place: -place.y)


def paint(description: Description, rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """The picture of a description: an RGB image of the size (width, height)."""
    scene = SCENES[description.scene]
    canvas = Image.new("RGB", (round(size[0] * SUPERSAMPLING), round(size[1] * SUPERSAMPLING)))
    backdrop = Backdrop(canvas, rng)
    far = scene.paint(backdrop, description.mood)
    for place in _places(rng, scene, description.groups, far, backdrop.aspect):
        at = (place.x * canvas.height, (1 - place.y) * canvas.height)
        flip = bool(rng.random() < 0.5)
        pen = Pen(canvas, rng, at, place.scale * canvas.height, place.angle, flip)
        place.kind.draw(pen, place.colour)
    image = canvas.resize(size, Image.Resampling.BOX)
    return add_noise(_exposed(image, rng), rng, 0.07, smoothest=1)


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
