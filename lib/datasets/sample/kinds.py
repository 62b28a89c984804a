"""The kinds of things in the sample: how large each is, what it is called, and what it does."""

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
_DRAWINGS = tables(FOOD + ANIMALS + THINGS)


@dataclass(frozen=True)
class Kind:
    """One kind of thing.

    `size` is the length of one of its units as a share of the image's height; `width` and `height`
    are its extent in units; `nouns` are pairs of singular and plural; `colours` are the palette
    names it is painted with, empty where its colour goes without saying; `most` is how many of it
    may stand together; `verbs` say what it does; `tilt` is how far it may lean, in radians.
    """

    name: str
    size: float
    width: float
    height: float
    nouns: tuple[tuple[str, str], ...]
    colours: tuple[str, ...] = ()
    most: int = 3
    verbs: tuple[str, ...] = ("sitting", "placed")
    tilt: float = 0.0

    def draw(self, pen: Pen, colour: str) -> None:
        """Draw it, in a colour of the palette or, where that is empty, in its own."""
        draw(_DRAWINGS[self.name], pen, pen.vary(PALETTE[colour or "white"], 9))


def _kind(
    name: str,
    size: float,
    width: float,
    height: float,
    nouns: str,
    colours: str = "",
    most: int = 3,
    verbs: str = "sitting placed",
    tilt: float = 0.0,
) -> Kind:
    """A kind whose nouns are written "singular/plural, …" and whose colours "red, blue"."""
    pairs = [noun.split("/") for noun in nouns.split(", ")]
    words = tuple((singular, plural) for singular, plural in pairs)
    names = tuple(colours.split(", ")) if colours else ()
    return Kind(name, size, width, height, words, names, most, tuple(verbs.split()), tilt)


_FUR = "brown, black, white, golden"
_PAINT = "red, blue, green, yellow, white, black"
_BRIGHT = "red, blue, green, yellow, pink, purple"
_GRAZING, _PARKED = "standing grazing walking", "parked driving stopped"
# fmt: off
_ALL = [
    _kind("orange", 0.3, 1.1, 1.0, "orange/oranges, ripe orange/ripe oranges", most=4),
    _kind("orange juice", 0.46, 0.75, 1.15,
          "glass of orange juice/glasses of orange juice, glass of juice/glasses of juice, "
          "glass of fresh orange juice/glasses of fresh orange juice"),
    _kind("apple", 0.3, 1.0, 1.0, "apple/apples", "red, green", most=4),
    _kind("banana", 0.34, 1.4, 0.85, "banana/bananas, ripe banana/ripe bananas"),
    _kind("strawberry", 0.3, 0.9, 1.0, "strawberry/strawberries", most=4),
    _kind("broccoli", 0.36, 0.95, 1.0,
          "piece of broccoli/pieces of broccoli, head of broccoli/heads of broccoli", most=2),
    _kind("coffee", 0.34, 1.3, 1.0, "cup of coffee/cups of coffee, mug of coffee/mugs of coffee",
          "white, blue, red, green", most=2),
    _kind("pizza", 0.5, 1.6, 0.8, "pizza/pizzas, cheese pizza/cheese pizzas", most=2),
    _kind("hot dog", 0.38, 1.6, 0.5, "hot dog/hot dogs", most=2),
    _kind("hamburger", 0.42, 1.15, 0.9, "hamburger/hamburgers, burger/burgers", most=2),
    _kind("ice cream", 0.42, 0.7, 1.05, "ice cream cone/ice cream cones, ice cream/ice creams"),
    _kind("dog", 0.46, 1.7, 1.1, "dog/dogs, puppy/puppies", _FUR, verbs="standing playing walking"),
    _kind("cat", 0.44, 1.3, 1.25, "cat/cats, kitten/kittens", "gray, black, white, golden",
          verbs="sitting resting"),
    _kind("cow", 0.48, 1.6, 1.15, "cow/cows, dairy cow/dairy cows",
          "black and white, brown and white", verbs=_GRAZING),
    _kind("sheep", 0.46, 1.2, 0.95, "sheep/sheep, woolly sheep/woolly sheep", "", 4, _GRAZING),
    _kind("zebra", 0.46, 1.7, 1.4, "zebra/zebras", verbs=_GRAZING),
    _kind("elephant", 0.52, 2.0, 1.25, "elephant/elephants, large elephant/large elephants",
          verbs="standing walking"),
    _kind("bear", 0.5, 1.75, 1.1, "bear/bears", "brown, black, white", 2, "standing walking"),
    _kind("seagull", 0.34, 1.3, 0.9, "seagull/seagulls, gull/gulls", "", 4, "flying soaring", 0.15),
    _kind("duck", 0.34, 1.4, 0.65, "duck/ducks, mallard duck/mallard ducks", "", 4,
          "swimming floating"),
    _kind("penguin", 0.46, 0.85, 1.15, "penguin/penguins", "", 4, "standing walking"),
    _kind("car", 0.36, 2.1, 0.82, "car/cars, automobile/automobiles", _PAINT + ", silver",
          verbs=_PARKED),
    _kind("truck", 0.42, 2.45, 1.2, "truck/trucks, cargo truck/cargo trucks",
          "red, blue, green, white", 2, _PARKED),
    _kind("bus", 0.42, 2.4, 1.06, "school bus/school buses, bus/buses", "", 2, _PARKED),
    _kind("bicycle", 0.42, 1.9, 1.06, "bicycle/bicycles, bike/bikes",
          "red, blue, green, black, yellow", verbs="parked standing leaning"),
    _kind("airplane", 0.44, 2.4, 1.1, "airplane/airplanes, plane/planes, jet/jets",
          "red, blue, green", 3, "flying", 0.18),
    _kind("boat", 0.4, 1.6, 1.5, "sailboat/sailboats, boat/boats, sailing boat/sailing boats",
          "white, red, blue, brown", verbs="sailing floating"),
    _kind("bench", 0.42, 2.0, 0.95, "bench/benches, wooden bench/wooden benches", "", 2,
          "standing sitting"),
    _kind("clock", 0.34, 1.05, 1.0, "clock/clocks, wall clock/wall clocks",
          "red, black, white, blue", 2, "hanging"),
    _kind("laptop", 0.44, 1.65, 1.06, "laptop/laptops, laptop computer/laptop computers", "", 1,
          "open sitting"),
    _kind("sofa", 0.46, 2.25, 0.96, "sofa/sofas, couch/couches", "blue, red, green, gray, brown", 1,
          "standing placed"),
    _kind("teddy bear", 0.44, 0.95, 1.25, "teddy bear/teddy bears, stuffed bear/stuffed bears",
          "brown, golden, pink", verbs="sitting"),
    _kind("umbrella", 0.42, 1.6, 1.36, "umbrella/umbrellas", _BRIGHT, verbs="standing open"),
    _kind("soccer ball", 0.28, 1.05, 1.0, "soccer ball/soccer balls, football/footballs", "", 2,
          "lying resting"),
    _kind("beach ball", 0.3, 1.05, 1.0, "beach ball/beach balls, colorful ball/colorful balls", "",
          2, "lying resting"),
    _kind("balloon", 0.34, 0.75, 1.3, "balloon/balloons", _BRIGHT, 4, "floating flying", 0.15),
    _kind("kite", 0.34, 1.0, 1.6, "kite/kites", _BRIGHT, verbs="flying soaring", tilt=0.5),
    _kind("skis", 0.42, 0.95, 1.6, "pair of skis/pairs of skis", "red, blue, yellow, green", 2,
          "standing"),
    _kind("snowman", 0.44, 1.4, 1.8, "snowman/snowmen", most=2, verbs="standing"),
    _kind("tent", 0.5, 2.2, 0.95, "tent/tents, camping tent/camping tents",
          "red, blue, green, yellow", 2, "standing pitched"),
    _kind("hot air balloon", 0.34, 1.2, 1.6, "hot air balloon/hot air balloons",
          "red, blue, green, purple", verbs="flying floating"),
]
# fmt: on
KINDS: dict[str, Kind] = {kind.name: kind for kind in _ALL}
