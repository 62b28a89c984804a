"""The pen: shaded, anti-aliased shapes in an object's own coordinates, on a Pillow canvas."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Rgb = tuple[int, int, int]
Point = tuple[float, float]

LIGHT = (0.55, 0.83)  # into the picture from the upper left, as (right, down)
GRAIN_SIZE = 1408  # wider than any canvas, so that noise need not repeat


def mix(first: Sequence[float], second: Sequence[float], share: float) -> Rgb:
    """The colour `share` (0 to 1) of the way from the first to the second."""
    r, g, b = (round(a + (z - a) * share) for a, z in zip(first, second, strict=True))
    return (r, g, b)


def darker(colour: Rgb, share: float = 0.3) -> Rgb:
    """The colour mixed with a cool near-black."""
    return mix(colour, (12, 12, 24), share)


def lighter(colour: Rgb, share: float = 0.3) -> Rgb:
    """The colour mixed with white."""
    return mix(colour, (255, 255, 255), share)


@cache
def _noise(smoothest: int) -> Image.Image:
    """A grey tile of noise around 128: octaves from one pixel to `smoothest` pixels wide."""
    rng = np.random.default_rng(smoothest)
    total = np.zeros((GRAIN_SIZE, GRAIN_SIZE), np.float32)
    step = 1
    while step <= smoothest:
        side = -(-GRAIN_SIZE // step)
        octave = Image.fromarray(rng.random((side, side), np.float32) - 0.5)
        wide = octave.resize((GRAIN_SIZE, GRAIN_SIZE), Image.Resampling.BICUBIC)
        total += np.asarray(wide) * step**0.2
        step *= 2
    total *= 30 / total.std()
    return Image.fromarray(np.clip(total + 128, 0, 255).astype(np.uint8))


@cache
def _noise_of(amount: float, stretch: tuple[float, float], smoothest: int) -> Image.Image:
    """The tile scaled to `amount` (1 keeps its contrast) and widened by `stretch` (x, y)."""
    tile = _noise(smoothest).point([round(128 + (v - 128) * amount) for v in range(256)])
    if stretch == (1, 1):
        return tile
    part = (0, 0, GRAIN_SIZE / stretch[0], GRAIN_SIZE / stretch[1])
    return tile.resize(tile.size, Image.Resampling.BILINEAR, box=part)


def add_noise(
    image: Image.Image, rng: np.random.Generator, amount: float,
    stretch: tuple[float, float] = (1, 1), smoothest: int = 16,
) -> Image.Image:  # fmt: skip
    """The RGB image with noise added to its brightness; `stretch` widens the noise (x, y)."""
    width, height = image.size
    left = int(rng.integers(0, max(1, GRAIN_SIZE - width)))
    top = int(rng.integers(0, max(1, GRAIN_SIZE - height)))
    tile = _noise_of(amount, stretch, smoothest).crop((left, top, left + width, top + height))
    return ImageChops.add(image, Image.merge("RGB", (tile, tile, tile)), 1, -128)


def _lit(mask: Image.Image, colour: Rgb, volume: float) -> Image.Image:
    """A picture of the mask's size: the colour as on a rounded body with the mask's outline.

    The blurred mask serves as a height map, its slope against the light gives the shade.
    """
    width, height = mask.size
    factor = max(1.0, max(width, height) / 40)
    low = (max(2, round(width / factor)), max(2, round(height / factor)))
    padded = Image.new("L", (low[0] + 4, low[1] + 4))
    padded.paste(mask.resize(low, Image.Resampling.BOX, reducing_gap=1.5), (2, 2))
    radius = 1 + 0.22 * min(low)
    relief = np.asarray(padded.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255
    slope_y = np.gradient(relief, axis=0)
    slope_x = np.gradient(relief, axis=1)
    slope = (slope_x * LIGHT[0] + slope_y * LIGHT[1])[2:-2, 2:-2] * radius * 1.7 * volume
    base = np.asarray(colour, np.float32)
    bright = np.clip(slope, 0, 1)[..., None] * 0.62
    dark = np.clip(-slope, 0, 0.8)[..., None] * 0.8
    shaded = (base + (255 - base) * bright) * (1 - dark)
    picture = Image.fromarray(np.clip(shaded, 0, 255).astype(np.uint8))
    return picture.resize(mask.size, Image.Resampling.BILINEAR)


def _mask(
    size: tuple[int, int], outline: list[list[float]], alpha: float, blur: float
) -> Image.Image:
    """Where a polygon covers; a blurred one is made small first, for speed."""
    factor = max(1, int(blur / 2))
    low = (-(-size[0] // factor), -(-size[1] // factor))
    mask = Image.new("L", low)
    points = [(x / factor, y / factor) for x, y in outline]
    ImageDraw.Draw(mask).polygon(points, fill=round(255 * alpha))
    if not blur:
        return mask
    mask = mask.filter(ImageFilter.GaussianBlur(blur / factor))
    return mask.resize(size, Image.Resampling.BILINEAR) if factor > 1 else mask


class Pen:
    """Draws in an object's coordinates: the origin where it stands, x right, y up.

    `scale` is the number of canvas pixels a unit, `angle` (radians) turns counter-clockwise about
    the origin, `flip` mirrors left and right.
    """

    def __init__(
        self, canvas: Image.Image, rng: np.random.Generator, at: Point, scale: float,
        angle: float = 0.0, flip: bool = False,
    ) -> None:  # fmt: skip
        self.canvas, self.rng, self.at, self.scale, self.flip = canvas, rng, at, scale, flip
        self._cos, self._sin = math.cos(angle), math.sin(angle)
        self._clip: np.ndarray | None = None

    def chance(self, probability: float) -> bool:
        """True with the probability."""
        return bool(self.rng.random() < probability)

    def between(self, low: float, high: float) -> float:
        """A uniform draw."""
        return float(self.rng.uniform(low, high))

    def pick(self, *colours: Rgb) -> Rgb:
        """One of the colours, varied."""
        return self.vary(colours[int(self.rng.integers(len(colours)))])

    def vary(self, colour: Rgb, amount: float = 14) -> Rgb:
        """The colour, a little lighter, darker or otherwise tinted each time."""
        shift = self.rng.normal(0, amount * 0.8) + self.rng.normal(0, amount * 0.4, 3)
        r, g, b = (int(v) for v in np.clip(np.asarray(colour) + shift, 0, 255))
        return (r, g, b)

    def pixels(self, points: Sequence[Point] | np.ndarray) -> np.ndarray:
        """Canvas pixels (N, 2) of points in the object's coordinates."""
        xy = np.asarray(points, np.float64).reshape(-1, 2)
        x = -xy[:, 0] if self.flip else xy[:, 0]
        y = xy[:, 1]
        right = x * self._cos - y * self._sin
        up = x * self._sin + y * self._cos
        return np.stack([self.at[0] + right * self.scale, self.at[1] - up * self.scale], axis=1)

    @contextmanager
    def within(self, outline: np.ndarray | None) -> Iterator[None]:
        """What is drawn inside the block shows only inside the outline (patches on a hide)."""
        self._clip = None if outline is None else self.pixels(outline)
        try:
            yield
        finally:
            self._clip = None

    def polygon(
        self, points: Sequence[Point] | np.ndarray, colour: Rgb, volume: float = 0.0,
        alpha: float = 1.0, grain: float = 0.0, soft: float = 0.0,
    ) -> None:  # fmt: skip
        """Fill a polygon; `volume` rounds it, `alpha` < 1 lets through, `soft` blurs its edge."""
        outline = self.pixels(points)
        margin = 2 + 3 * soft * self.scale
        box = self._box(outline, margin)
        if box is None:
            return
        local = (outline - box[:2]).tolist()
        mask = _mask((box[2] - box[0], box[3] - box[1]), local, alpha, soft * self.scale)
        self._paint(mask, box, colour, volume, grain)

    def stroke(
        self, points: Sequence[Point] | np.ndarray, width: float, colour: Rgb,
        volume: float = 0.0, alpha: float = 1.0,
    ) -> None:  # fmt: skip
        """A line of the width with round ends and joints."""
        line = self.pixels(points)
        thick = max(1.0, width * self.scale)
        box = self._box(line, thick / 2 + 2)
        if box is None:
            return
        mask = Image.new("L", (box[2] - box[0], box[3] - box[1]))
        draw = ImageDraw.Draw(mask)
        level = round(255 * alpha)
        local = [(x - box[0], y - box[1]) for x, y in line]
        draw.line(local, fill=level, width=max(1, round(thick)), joint="curve")
        half = thick / 2
        if thick > 2:
            for x, y in (local[0], local[-1]):
                draw.ellipse((x - half, y - half, x + half, y + half), fill=level)
        self._paint(mask, box, colour, volume, 0)

    def _box(self, outline: np.ndarray, margin: float) -> tuple[int, int, int, int] | None:
        left, top = np.floor(outline.min(axis=0) - margin).astype(int)
        right, bottom = np.ceil(outline.max(axis=0) + margin).astype(int)
        left, top = max(0, int(left)), max(0, int(top))
        right = min(self.canvas.width, int(right))
        bottom = min(self.canvas.height, int(bottom))
        return (left, top, right, bottom) if right > left and bottom > top else None

    def _paint(
        self, mask: Image.Image, box: tuple[int, int, int, int], colour: Rgb, volume: float,
        grain: float,
    ) -> None:  # fmt: skip
        if self._clip is not None:
            clip = Image.new("L", mask.size)
            local = [(x - box[0], y - box[1]) for x, y in self._clip]
            ImageDraw.Draw(clip).polygon(local, fill=255)
            mask = ImageChops.multiply(mask, clip)
        if not volume and not grain:
            self.canvas.paste(colour, box, mask)
            return
        picture = _lit(mask, colour, volume) if volume else Image.new("RGB", mask.size, colour)
        if grain:
            picture = add_noise(picture, self.rng, grain)
        self.canvas.paste(picture, box, mask)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, colour: Rgb, **style: float
    ) -> None:
        """Fill an ellipse about (x, y); `style` as in `polygon`."""
        self.polygon(oval(x, y, rx, ry), colour, **style)

    def rect(
        self, left: float, bottom: float, right: float, top: float, colour: Rgb, **style: float
    ) -> None:
        """Fill a rectangle; `style` as in `polygon`, and the `radius` of its corners."""
        self.polygon(box(left, bottom, right, top, style.pop("radius", 0.0)), colour, **style)


def oval(x: float, y: float, rx: float, ry: float, tilt: float = 0.0) -> np.ndarray:
    """Points (N, 2) on an ellipse about (x, y)."""
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    dx, dy = rx * np.cos(turn), ry * np.sin(turn)
    cos, sin = math.cos(tilt), math.sin(tilt)
    return np.stack([x + dx * cos - dy * sin, y + dx * sin + dy * cos], axis=1)


def arc(
    x: float, y: float, rx: float, ry: float, start: float, stop: float, count: int = 16
) -> list[Point]:
    """Points on an ellipse from the angle `start` to `stop`, in degrees, counter-clockwise."""
    turn = np.radians(np.linspace(start, stop, count))
    return [(x + rx * math.cos(t), y + ry * math.sin(t)) for t in turn]


def box(left: float, bottom: float, right: float, top: float, radius: float = 0.0) -> np.ndarray:
    """Outline (N, 2) of a rectangle with rounded corners."""
    if not radius:
        return np.array([(left, bottom), (right, bottom), (right, top), (left, top)])
    r = min(radius, (right - left) / 2, (top - bottom) / 2)
    corners = [
        (right - r, top - r, 0),
        (left + r, top - r, 90),
        (left + r, bottom + r, 180),
        (right - r, bottom + r, 270),
    ]
    return np.array([p for x, y, a in corners for p in arc(x, y, r, r, a, a + 90, 6)])


def curve(points: Sequence[Point], closed: bool = True, steps: int = 8) -> np.ndarray:
    """Points (N, 2) on the Catmull-Rom spline through the points."""
    p = np.asarray(points, np.float64)
    p = np.concatenate([p[-1:], p, p[:2]]) if closed else np.concatenate([p[:1], p, p[-1:]])
    a, b, c, d = p[:-3, None], p[1:-2, None], p[2:-1, None], p[3:, None]
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    spline = 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    )
    flat = spline.reshape(-1, 2)
    return flat if closed else np.concatenate([flat, p[-1:]])
