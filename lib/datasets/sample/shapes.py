"""A notation for drawings: one shape a line, so that a kind of thing is a short table.

    WORD [COLOUR] [OPTIONS] POINTS

Points are `x,y` in hundredths of a unit, x to the right and y up from where the thing stands.

words of a filled shape
    blob    the smooth closed curve through the points
    poly    the polygon of the points
    arch    the smooth open curve through the points, closed by a straight line
    oval    centre, radii
    rect    lower left corner, upper right corner
    cap     centre, radii, angles `from,to` in degrees: an arc, closed by a straight line
    shadow, gloss   centre, radii: a soft dark or white spot
words of a line
    line, bend      straight, or smooth, through the points
    arc     centre, radii, angles `from,to` in degrees
words of several shapes
    eye     centre, `size,0`
    wheel   centre, `radius,0`
    legs    `back,front` x, `hip,0` height, `thick,thin`: four of them, the far pair darker
other words
    let     NAME COLOUR: names a colour for the lines that follow
    in      WORD POINTS: what follows shows only inside this shape, until `out`

A colour is `c` (the thing's own), a name that `let` gave, or `#rgb`; `+30` and `-30` behind it make
it lighter or darker by a share of 30 %; `~` before it varies it each time; `#rgb|#rgb` picks one.
A second colour is that of a pupil, a rim or a hoof.

options, in hundredths where they are lengths or shares
    v volume, g grain, a alpha, s softness of the edge, w width of a line, r radius of corners
    t tilt of an oval, in degrees      p probability that it is drawn
    spin    turned by chance about the point at`x,y`
    n number of copies, each a step d`x,y` on and turned by o degrees about the point at`x,y`,
    or scattered by up to j`x,y`       m also mirrored left and right        sym: so is the outline
"""

import re
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

from lib.datasets.sample.pen import Pen, Point, Rgb, arc, box, curve, darker, lighter, oval

_PAIR = re.compile(r"(d|at|j|)(-?[\d.]+),(-?[\d.]+)")
_OPTION = re.compile(r"([vgaswrtpno])(-?[\d.]+)")
_COLOUR = re.compile(r"(~?)([a-z]|#[0-9a-f|#]+)([+-]\d+)?")
_STYLE = {"v": "volume", "g": "grain", "a": "alpha", "s": "soft"}
_SPOTS = {"shadow": ("#112", 0.42, 0.55), "gloss": ("#fff", 0.55, 0.5)}


@dataclass(frozen=True)
class _Shape:
    """One line of a table, its points (N, 2) in units; `pairs` are the options with two numbers."""

    word: str
    points: np.ndarray
    colours: tuple[str, ...] = ()
    options: dict[str, float] = field(default_factory=dict)
    pairs: dict[str, Point] = field(default_factory=dict)
    name: str = ""


def draw(table: str, pen: Pen, colour: Rgb) -> None:
    """Draw a table of shapes with a pen, in a colour of its own."""
    colours = {"c": colour}
    clip: np.ndarray | None = None
    for shape in parse(table):
        if shape.word == "let":
            colours[shape.name] = _colour(shape.colours[0], colours, pen)
        elif shape.word in ("in", "out"):
            clip = shape.points if shape.word == "in" else None
        elif pen.chance(shape.options.get("p", 1)):
            with pen.within(clip):
                _draw_copies(shape, pen, colours)


def _draw_copies(shape: _Shape, pen: Pen, colours: dict[str, Rgb]) -> None:
    step, middle, reach = (np.array(shape.pairs.get(name, (0.0, 0.0))) for name in ("d", "at", "j"))
    options = shape.options
    style = {_STYLE[name]: value for name, value in options.items() if name in _STYLE}
    for copy in range(round(options.get("n", 0.01) * 100)):
        angle = np.radians(copy * options.get("o", 0) * 100)
        angle += options.get("spin", 0) * pen.between(0, 2 * np.pi)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        scatter = pen.rng.uniform(-1, 1, 2) * reach
        points = (shape.points - middle) @ turn + middle + copy * step + scatter
        for side in (1, -1) if "m" in options else (1,):
            colour = _colour(shape.colours[0], colours, pen)
            if shape.word in ("line", "bend", "arc"):
                pen.stroke(points * (side, 1), options.get("w", 0.02), colour, **style)
            else:
                pen.polygon(points * (side, 1), colour, **style)


def _colour(text: str, colours: dict[str, Rgb], pen: Pen) -> Rgb:
    varied, base, shift = _COLOUR.fullmatch(text).groups()  # type: ignore[union-attr]
    options = base.split("|")
    base = options[int(pen.rng.integers(len(options)))] if len(options) > 1 else base
    red, green, blue = colours.get(base) or (int(digit, 16) * 17 for digit in base[1:])
    colour = (red, green, blue)
    if shift:
        colour = (lighter if shift[0] == "+" else darker)(colour, int(shift[1:]) / 100)
    return pen.vary(colour, 10) if varied else colour


def tables(text: str) -> dict[str, str]:
    """Tables by their names: a line that is not indented names the table below it."""
    parts = re.split(r"^(\w.*)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@cache
def parse(table: str) -> tuple[_Shape, ...]:
    """The shapes of a table. Raises ValueError for a line that is none, naming it."""
    return tuple(shape for line in table.strip().splitlines() for shape in _parsed(line.strip()))


def _parsed(line: str) -> list[_Shape]:
    word, *tokens = line.split()
    name = tokens.pop(0) if word in ("let", "in") else word
    shape = _Shape(word, np.zeros((0, 2)), name=name)
    points: list[Point] = []
    for token in tokens:
        if match := _PAIR.fullmatch(token):
            pair = (float(match[2]) / 100, float(match[3]) / 100)
            if match[1]:
                shape.pairs[match[1]] = pair
            else:
                points.append(pair)
        elif match := _OPTION.fullmatch(token):
            shape.options[match[1]] = float(match[2]) / 100
        elif token in ("m", "sym", "spin"):
            shape.options[token] = 1
        elif _COLOUR.fullmatch(token):
            shape = replace(shape, colours=(*shape.colours, token))
        else:
            raise ValueError(f"{token!r} in {line!r} is no point, option or colour")
    if word in _SEVERAL:
        return _SEVERAL[word](shape, points)
    if word in _SPOTS:
        colour, alpha, softness = _SPOTS[word]
        options = {"a": alpha, "s": softness * min(points[1]), **shape.options}
        return [_fill(colour, oval(*points[0], *points[1]), **options)]
    if word in ("let", "out"):
        return [shape]
    return [replace(shape, points=_outline(name, points, shape.options))]


def _outline(word: str, points: list[Point], options: dict[str, float]) -> np.ndarray:
    if "sym" in options:
        points = [*points, *[(-x, y) for x, y in reversed(points) if x]]
    match word:
        case "poly" | "line":
            return np.array(points)
        case "blob" | "arch" | "bend":
            return curve(points, closed=word == "blob")
        case "oval":
            return oval(*points[0], *points[1], np.radians(options.get("t", 0) * 100))
        case "rect":
            return box(*points[0], *points[1], options.get("r", 0))
        case "arc" | "cap":
            start, stop = points[2]
            return np.array(arc(*points[0], *points[1], start * 100, stop * 100, 30))
    raise ValueError(f"{word!r} is no shape")


def _fill(colour: str, points: np.ndarray, **options: float) -> _Shape:
    return _Shape("poly", points, (colour,), options)


def _eye(shape: _Shape, points: list[Point]) -> list[_Shape]:
    (x, y), (size, _) = points
    shine = oval(x + size * 0.3, y + size * 0.35, size * 0.32, size * 0.32)
    return [_fill("#211", oval(x, y, size, size * 1.1)), _fill("#fff", shine)]


def _wheel(shape: _Shape, points: list[Point]) -> list[_Shape]:
    (x, y), (radius, _) = points
    rings = ((1.15, "#223"), (1.0, "#222"), (0.6, (*shape.colours, "#bbc")[0]), (0.2, "#445"))
    return [_fill(tint, oval(x, y, radius * r, radius * r), v=0.6) for r, tint in rings]


def _legs(shape: _Shape, points: list[Point]) -> list[_Shape]:
    (back, front), (hip, _), (thick, thin) = points
    colour, hoof = (*shape.colours, "")[:2]
    far = ((back + 0.1, 0.02, f"{colour}-28"), (front - 0.1, -0.03, f"{colour}-28"))
    shapes = []
    for x, stride, tint in (*far, (back, -0.03, colour), (front, 0.02, colour)):
        foot = x + stride
        knee, middle = (x + foot) / 2 + 0.015, (thick + thin) * 0.425
        side = [(x - thick / 2, hip), (knee - middle / 2, hip / 2), (foot - thin / 2, 0.0)]
        other = [(foot + thin / 2, 0.0), (knee + middle / 2, hip / 2), (x + thick / 2, hip)]
        shapes.append(_fill(tint, curve([*side, *other]), v=0.7))
        end = oval(foot + thin * 0.25, thin * 0.25, thin * 0.75, thin * 0.38)
        if hoof:
            end = box(foot - thin * 0.6, -0.02, foot + thin * 0.7, thin * 0.55)
        shapes.append(_fill(hoof or tint, end, v=0.5))
    return shapes


_SEVERAL = {"eye": _eye, "wheel": _wheel, "legs": _legs}
