"""The kinds of things in the sample: how each is drawn, how large, and what it is called."""

from collections.abc import Callable
from dataclasses import dataclass

from lib.datasets.sample import animals, food, outdoors, things, vehicles
from lib.datasets.sample.pen import Pen, Rgb

PALETTE: dict[str, Rgb] = {
    "red": (204, 36, 40),
    "green": (84, 156, 66),
    "blue": (42, 96, 184),
    "yellow": (244, 202, 44),
    "white": (238, 238, 234),
    "black": (44, 44, 48),
    "brown": (138, 88, 50),
    "gray": (140, 142, 146),
    "pink": (238, 140, 174),
    "purple": (120, 66, 156),
    "silver": (190, 194, 200),
    "golden": (214, 160, 84),
    "black and white": (44, 44, 48),
    "brown and white": (138, 88, 50),
}
PAINTS = ("red", "blue", "green", "yellow", "white", "black")
BRIGHT = ("red", "blue", "green", "yellow", "pink", "purple")


@dataclass(frozen=True)
class Kind:
    """One kind of thing.

    `draw(pen, colour)` draws it; `size` is the length of one of its units as a share of the
    image's height; `width` and `height` are its extent in units; `nouns` are pairs of singular
    and plural; `colours` are the palette names it is painted with, empty where its colour goes
    without saying; `most` is how many of it may stand together; `verbs` say what it does.
    """

    name: str
    draw: Callable[[Pen, Rgb], None]
    size: float
    width: float
    height: float
    nouns: tuple[tuple[str, str], ...]
    colours: tuple[str, ...] = ()
    most: int = 3
    verbs: tuple[str, ...] = ("sitting", "placed")
    tilt: float = 0.0


def _kind(
    name: str,
    draw: Callable[[Pen, Rgb], None],
    size: float,
    width: float,
    height: float,
    nouns: str,
    colours: tuple[str, ...] = (),
    most: int = 3,
    verbs: str = "sitting placed",
    tilt: float = 0.0,
) -> Kind:
    """A kind whose nouns are written "singular/plural, singular/plural"."""
    pairs = [noun.strip().split("/") for noun in nouns.split(",")]
    words = tuple((singular, plural) for singular, plural in pairs)
    return Kind(name, draw, size, width, height, words, colours, most, tuple(verbs.split()), tilt)


_FUR = ("brown", "black", "white", "golden")
_STANDING = "standing walking"
_GRAZING = "standing grazing walking"
_PARKED = "parked driving stopped"
# fmt: off
_ALL = [
    # food and drink
    _kind("orange", food.orange, 0.3, 1.1, 1.0, "orange/oranges, ripe orange/ripe oranges", most=4),
    _kind("orange juice", food.orange_juice, 0.46, 0.75, 1.15,
          "glass of orange juice/glasses of orange juice, glass of juice/glasses of juice, "
          "glass of fresh orange juice/glasses of fresh orange juice"),
    _kind("lemon", food.lemon, 0.26, 1.25, 0.8, "lemon/lemons, fresh lemon/fresh lemons", most=4),
    _kind("apple", food.apple, 0.3, 1.0, 1.0, "apple/apples", colours=("red", "green"), most=4),
    _kind("pear", food.pear, 0.34, 0.8, 1.1, "pear/pears, ripe pear/ripe pears", most=4),
    _kind("banana", food.banana, 0.34, 1.4, 0.85, "banana/bananas, ripe banana/ripe bananas"),
    _kind("strawberry", food.strawberry, 0.3, 0.9, 1.0, "strawberry/strawberries", most=4),
    _kind("watermelon", food.watermelon, 0.36, 1.4, 0.7, "slice of watermelon/slices of watermelon",
          most=2),
    _kind("pizza", food.pizza, 0.5, 1.6, 0.8, "pizza/pizzas, cheese pizza/cheese pizzas", most=2),
    _kind("hot dog", food.hot_dog, 0.38, 1.6, 0.5, "hot dog/hot dogs", most=2),
    _kind("hamburger", food.hamburger, 0.42, 1.15, 0.9, "hamburger/hamburgers, burger/burgers",
          most=2),
    _kind("donut", food.donut, 0.38, 1.15, 0.7, "donut/donuts, glazed donut/glazed donuts"),
    _kind("cake", food.cake, 0.46, 1.35, 1.0, "cake/cakes, birthday cake/birthday cakes",
          colours=("white", "pink", "brown"), most=1),
    _kind("ice cream", food.ice_cream, 0.42, 0.7, 1.05,
          "ice cream cone/ice cream cones, ice cream/ice creams"),
    _kind("carrot", food.carrot, 0.36, 2.0, 0.4, "carrot/carrots, fresh carrot/fresh carrots"),
    _kind("broccoli", food.broccoli, 0.36, 0.95, 1.0,
          "piece of broccoli/pieces of broccoli, head of broccoli/heads of broccoli", most=2),
    _kind("bread", food.bread, 0.4, 1.5, 0.55, "loaf of bread/loaves of bread", most=2),
    _kind("sandwich", food.sandwich, 0.4, 1.25, 0.7, "sandwich/sandwiches", most=2),
    _kind("milk", food.milk, 0.46, 0.7, 1.05,
          "glass of milk/glasses of milk, glass of cold milk/glasses of cold milk", most=2),
    _kind("coffee", food.coffee, 0.34, 1.3, 1.0,
          "cup of coffee/cups of coffee, coffee cup/coffee cups, mug of coffee/mugs of coffee",
          colours=("white", "blue", "red", "green"), most=2),
    _kind("wine glass", food.wine_glass, 0.5, 0.6, 1.0,
          "glass of red wine/glasses of red wine, wine glass/wine glasses"),
    _kind("bottle", food.bottle, 0.56, 0.5, 1.08,
          "bottle of wine/bottles of wine, wine bottle/wine bottles", colours=("green", "black")),
    _kind("soup", food.bowl_of_soup, 0.4, 1.25, 0.75,
          "bowl of soup/bowls of soup, bowl of tomato soup/bowls of tomato soup",
          colours=("white", "blue", "brown"), most=2),
    _kind("mushroom", food.mushroom, 0.34, 1.0, 1.0, "mushroom/mushrooms", colours=("red", "brown"),
          most=4, verbs="growing standing"),
    # vehicles and the street
    _kind("car", vehicles.car, 0.36, 2.1, 0.82, "car/cars, automobile/automobiles",
          colours=(*PAINTS, "silver"), verbs="parked driving stopped"),
    _kind("truck", vehicles.truck, 0.42, 2.45, 1.2, "truck/trucks, cargo truck/cargo trucks",
          colours=("red", "blue", "green", "white"), most=2, verbs="parked driving stopped"),
    _kind("bus", vehicles.bus, 0.42, 2.4, 1.06, "school bus/school buses, bus/buses", most=2,
          verbs="parked driving stopped"),
    _kind("bicycle", vehicles.bicycle, 0.42, 1.9, 1.06, "bicycle/bicycles, bike/bikes",
          colours=("red", "blue", "green", "black", "yellow"), verbs="parked standing leaning"),
    _kind("motorcycle", vehicles.motorcycle, 0.44, 2.0, 1.05,
          "motorcycle/motorcycles, motorbike/motorbikes",
          colours=("red", "blue", "black", "yellow"), most=2, verbs="parked standing"),
    _kind("train", vehicles.train, 0.36, 4.2, 1.05,
          "train/trains, passenger train/passenger trains",
          colours=("red", "blue", "green", "yellow"), most=1, verbs="passing traveling stopped"),
    _kind("tractor", vehicles.tractor, 0.5, 1.8, 1.2,
          "tractor/tractors, farm tractor/farm tractors", colours=("red", "green", "blue"), most=1,
          verbs="parked driving working"),
    _kind("airplane", vehicles.airplane, 0.44, 2.4, 1.1,
          "airplane/airplanes, plane/planes, jet/jets", colours=("red", "blue", "green"),
          verbs="flying", tilt=0.18),
    _kind("boat", vehicles.boat, 0.4, 1.6, 1.5,
          "sailboat/sailboats, boat/boats, sailing boat/sailing boats",
          colours=("white", "red", "blue", "brown"), verbs="sailing floating"),
    _kind("traffic light", vehicles.traffic_light, 0.44, 0.6, 1.82,
          "traffic light/traffic lights, traffic signal/traffic signals", most=2,
          verbs="standing hanging"),
    _kind("stop sign", vehicles.stop_sign, 0.46, 1.0, 1.8, "stop sign/stop signs", most=1,
          verbs="standing posted"),
    _kind("fire hydrant", vehicles.fire_hydrant, 0.48, 0.9, 1.08, "fire hydrant/fire hydrants",
          colours=("red", "yellow", "blue"), most=1, verbs="standing sitting"),
    _kind("bench", vehicles.bench, 0.42, 2.0, 0.95, "bench/benches, wooden bench/wooden benches",
          most=2, verbs="standing sitting"),
    _kind("mailbox", vehicles.mailbox, 0.42, 1.0, 1.3, "mailbox/mailboxes",
          colours=("red", "blue", "white"), most=1, verbs="standing sitting"),
    # animals
    _kind("dog", animals.dog, 0.46, 1.7, 1.1, "dog/dogs, puppy/puppies", colours=_FUR,
          verbs="standing playing walking"),
    _kind("cat", animals.cat, 0.44, 1.3, 1.25, "cat/cats, kitten/kittens",
          colours=("gray", "black", "white", "golden"), verbs="sitting resting"),
    _kind("horse", animals.horse, 0.46, 1.7, 1.5, "horse/horses", colours=_FUR,
          verbs="standing grazing walking"),
    _kind("cow", animals.cow, 0.48, 1.6, 1.15, "cow/cows, dairy cow/dairy cows",
          colours=("black and white", "brown and white"), verbs="standing grazing walking"),
    _kind("sheep", animals.sheep, 0.46, 1.2, 0.95, "sheep/sheep, woolly sheep/woolly sheep", most=4,
          verbs="standing grazing walking"),
    _kind("zebra", animals.zebra, 0.46, 1.7, 1.4, "zebra/zebras", verbs="standing grazing walking"),
    _kind("elephant", animals.elephant, 0.52, 2.0, 1.25,
          "elephant/elephants, large elephant/large elephants", verbs="standing walking"),
    _kind("giraffe", animals.giraffe, 0.4, 1.5, 2.2, "giraffe/giraffes, tall giraffe/tall giraffes",
          verbs="standing walking"),
    _kind("bear", animals.bear, 0.5, 1.75, 1.1, "bear/bears", colours=("brown", "black", "white"),
          most=2, verbs="standing walking"),
    _kind("bird", animals.bird, 0.36, 1.6, 0.95, "bird/birds, songbird/songbirds",
          colours=("blue", "red", "brown", "yellow"), verbs="perched sitting standing"),
    _kind("seagull", animals.flying_bird, 0.34, 1.3, 0.9, "seagull/seagulls, gull/gulls", most=4,
          verbs="flying soaring", tilt=0.15),
    _kind("duck", animals.duck, 0.34, 1.4, 0.65, "duck/ducks, mallard duck/mallard ducks", most=4,
          verbs="swimming floating"),
    _kind("fish", animals.fish, 0.34, 1.5, 0.8, "fish/fish",
          colours=("red", "blue", "yellow", "golden"), most=4, verbs="swimming"),
    _kind("penguin", animals.penguin, 0.46, 0.85, 1.15, "penguin/penguins", most=4,
          verbs="standing walking"),
    _kind("rabbit", animals.rabbit, 0.4, 1.1, 1.1, "rabbit/rabbits, bunny/bunnies",
          colours=("white", "brown", "gray"), verbs="sitting resting"),
    _kind("butterfly", animals.butterfly, 0.24, 1.2, 0.95, "butterfly/butterflies",
          colours=("yellow", "blue", "red", "purple"), verbs="flying fluttering", tilt=0.5),
    # the house and leisure
    _kind("clock", things.clock, 0.34, 1.05, 1.0, "clock/clocks, wall clock/wall clocks",
          colours=("red", "black", "white", "blue"), most=2, verbs="hanging"),
    _kind("laptop", things.laptop, 0.44, 1.65, 1.06,
          "laptop/laptops, laptop computer/laptop computers", most=1, verbs="open sitting"),
    _kind("keyboard", things.keyboard, 0.42, 2.0, 0.42,
          "keyboard/keyboards, computer keyboard/computer keyboards", colours=("black", "white"),
          most=1),
    _kind("computer mouse", things.computer_mouse, 0.22, 1.3, 0.5, "computer mouse/computer mice",
          colours=("black", "white"), most=1),
    _kind("book", things.book, 0.4, 1.2, 1.0, "book/books, hardcover book/hardcover books",
          colours=("red", "blue", "green", "brown"), most=2, verbs="lying placed"),
    _kind("phone", things.phone, 0.36, 0.62, 1.14, "cell phone/cell phones, smartphone/smartphones",
          most=2, verbs="placed standing"),
    _kind("scissors", things.scissors, 0.36, 1.45, 0.5, "pair of scissors/pairs of scissors",
          colours=("red", "blue", "black"), most=1, verbs="lying placed"),
    _kind("chair", things.chair, 0.46, 0.9, 1.42, "chair/chairs, wooden chair/wooden chairs",
          colours=("brown", "white", "black", "red"), verbs="standing placed"),
    _kind("sofa", things.sofa, 0.46, 2.25, 0.96, "sofa/sofas, couch/couches",
          colours=("blue", "red", "green", "gray", "brown"), most=1, verbs="standing placed"),
    _kind("bed", things.bed, 0.5, 2.4, 1.0, "bed/beds",
          colours=("blue", "red", "white", "purple", "green"), most=1, verbs="standing placed"),
    _kind("vase", things.vase, 0.46, 0.95, 1.3,
          "vase of flowers/vases of flowers, flower vase/flower vases",
          colours=("blue", "white", "green", "purple"), most=2),
    _kind("potted plant", things.potted_plant, 0.46, 1.3, 1.2,
          "potted plant/potted plants, house plant/house plants", most=2),
    _kind("lamp", things.lamp, 0.46, 0.95, 1.12, "lamp/lamps, table lamp/table lamps",
          colours=("blue", "red", "green", "golden"), most=2, verbs="glowing shining"),
    _kind("candle", things.candle, 0.36, 0.65, 1.35, "candle/candles",
          colours=("white", "red", "green"), most=4, verbs="burning glowing"),
    _kind("television", things.television, 0.46, 1.75, 1.1,
          "television/televisions, flat screen tv/flat screen tvs", most=1,
          verbs="playing standing"),
    _kind("teddy bear", things.teddy_bear, 0.44, 0.95, 1.25,
          "teddy bear/teddy bears, stuffed bear/stuffed bears", colours=("brown", "golden", "pink"),
          verbs="sitting"),
    _kind("umbrella", things.umbrella, 0.42, 1.6, 1.36, "umbrella/umbrellas", colours=BRIGHT,
          verbs="standing open"),
    _kind("soccer ball", things.soccer_ball, 0.28, 1.05, 1.0,
          "soccer ball/soccer balls, football/footballs", most=2, verbs="lying resting"),
    _kind("beach ball", things.beach_ball, 0.3, 1.05, 1.0,
          "beach ball/beach balls, colorful ball/colorful balls", most=2, verbs="lying resting"),
    _kind("balloon", things.balloon, 0.34, 0.75, 1.3, "balloon/balloons", colours=BRIGHT, most=4,
          verbs="floating flying", tilt=0.15),
    _kind("kite", things.kite, 0.34, 1.0, 1.6, "kite/kites", colours=BRIGHT, verbs="flying soaring",
          tilt=0.5),
    _kind("surfboard", things.surfboard, 0.42, 0.65, 1.6, "surfboard/surfboards",
          colours=("red", "blue", "yellow", "green", "white"), verbs="standing", tilt=0.15),
    _kind("skis", things.skis, 0.42, 0.95, 1.6, "pair of skis/pairs of skis",
          colours=("red", "blue", "yellow", "green"), most=2, verbs="standing"),
    _kind("backpack", things.backpack, 0.44, 1.0, 1.1, "backpack/backpacks",
          colours=("red", "blue", "green", "black", "purple"), most=2),
    _kind("suitcase", things.suitcase, 0.42, 0.85, 1.45,
          "suitcase/suitcases, rolling suitcase/rolling suitcases",
          colours=("red", "blue", "black", "silver", "green"), most=2, verbs="standing placed"),
    _kind("guitar", things.guitar, 0.42, 0.8, 1.75,
          "guitar/guitars, acoustic guitar/acoustic guitars", most=1, verbs="standing leaning",
          tilt=0.15),
    # outdoors
    _kind("tree", outdoors.tree, 0.42, 1.25, 1.65, "tree/trees, leafy tree/leafy trees",
          colours=("green",), most=2, verbs="standing growing"),
    _kind("pine tree", outdoors.pine, 0.42, 0.95, 1.8, "pine tree/pine trees, fir tree/fir trees",
          verbs="standing growing"),
    _kind("palm tree", outdoors.palm, 0.44, 1.7, 1.7, "palm tree/palm trees",
          verbs="standing growing"),
    _kind("cactus", outdoors.cactus, 0.42, 1.0, 1.55, "cactus/cacti", verbs="standing growing"),
    _kind("sunflower", outdoors.sunflower, 0.46, 0.85, 1.5, "sunflower/sunflowers", most=4,
          verbs="standing blooming"),
    _kind("snowman", outdoors.snowman, 0.44, 1.4, 1.8, "snowman/snowmen", most=2, verbs="standing"),
    _kind("tent", outdoors.tent, 0.5, 2.2, 0.95, "tent/tents, camping tent/camping tents",
          colours=("red", "blue", "green", "yellow"), most=2, verbs="standing pitched"),
    _kind("lighthouse", outdoors.lighthouse, 0.42, 1.2, 1.85,
          "lighthouse/lighthouses, tall lighthouse/tall lighthouses", most=1, verbs="standing"),
    _kind("windmill", outdoors.windmill, 0.4, 1.5, 2.0, "windmill/windmills", most=2,
          verbs="standing"),
    _kind("hot air balloon", outdoors.hot_air_balloon, 0.34, 1.2, 1.6,
          "hot air balloon/hot air balloons", colours=("red", "blue", "green", "purple"),
          verbs="flying floating"),
    _kind("moon", outdoors.moon, 0.34, 1.1, 1.0, "moon/moons, full moon/full moons", most=1,
          verbs="shining glowing"),
    _kind("house", outdoors.house, 0.5, 1.4, 1.15, "house/houses, small house/small houses",
          colours=("white", "yellow", "blue", "brown"), most=2, verbs="standing"),
]
# fmt: on
KINDS: dict[str, Kind] = {kind.name: kind for kind in _ALL}
