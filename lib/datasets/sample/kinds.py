"""The kinds of things in the sample: how large each is, what it is called, and what it does.

The table of a kind begins with a line that says so; NUMBERS are those of `Kind`, from `size` on:

    NAME | NUMBERS | NOUNS | COLOURS | VERBS
"""

from ast import literal_eval
from dataclasses import dataclass

from lib.datasets.sample.animals import DRAWINGS as ANIMALS
from lib.datasets.sample.food import DRAWINGS as FOOD
from lib.datasets.sample.pen import Pen, Rgb
from lib.datasets.sample.shapes import draw, tables
from lib.datasets.sample.things import DRAWINGS as THINGS

# fmt: off
PALETTE: dict[str, Rgb] = {
    "red": (204, 36, 40), "green": (84, 156, 66), "blue": (42, 96, 184), "yellow": (244, 202, 44),
    "white": (238, 238, 234), "black": (44, 44, 48), "brown": (138, 88, 50),
    "gray": (140, 142, 146), "pink": (238, 140, 174), "purple": (120, 66, 156),
    "silver": (190, 194, 200), "golden": (214, 160, 84), "black and white": (44, 44, 48),
    "brown and white": (138, 88, 50),
}
# fmt: on
_PLURALS = (("sheep", "sheep"), ("man", "men"), ("y", "ies"), ("s", "ses"), ("ch", "ches"))


@dataclass(frozen=True)
class Kind:
    """One kind of thing.

    `nouns` are pairs of singular and plural; `colours` are the palette names it is painted with,
    empty where its colour goes without saying; `verbs` say what it does; `size` is the length of
    one of its units as a share of the image's height; `width` and `height` are its extent in units;
    `most` is how many of it may stand together; `tilt` is how far it may lean, in radians.
    """

    table: str  # of its shapes
    nouns: list[tuple[str, str]]
    colours: list[str]
    verbs: tuple[str, ...]
    size: float
    width: float
    height: float
    most: int = 3
    tilt: float = 0.0

    def draw(self, pen: Pen, colour: str) -> None:
        """Draw it, in a colour of the palette or, where that is empty, in its own."""
        draw(self.table, pen, pen.vary(PALETTE[colour or "white"], 9))


def _plural(noun: str) -> str:
    """The plural of a noun: "glasses of juice", "puppies"."""
    head, of, rest = noun.partition(" of ")
    ending, plural = next((p for p in _PLURALS if head.endswith(p[0])), ("", "s"))
    return head.removesuffix(ending) + plural + of + rest


def _parsed(line: str, table: str) -> tuple[str, Kind]:
    name, numbers, nouns, colours, verbs = (*line.split(" | "), "", "", "")[:5]
    pairs = [(noun, _plural(noun)) for noun in nouns.split(", ")]
    doing = tuple((verbs or "sitting, placed").split(", "))
    listed = colours.split(", ") if colours else []
    return name, Kind(table, pairs, listed, doing, *map(literal_eval, numbers.split()))


KINDS = dict(_parsed(line, table) for line, table in tables(FOOD + ANIMALS + THINGS).items())
