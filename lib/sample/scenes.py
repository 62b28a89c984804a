"""The places of the sample: what belongs in each and what people call it."""

from collections.abc import Callable
from dataclasses import dataclass

from lib.sample import scenery
from lib.sample.scenery import Backdrop


@dataclass(frozen=True)
class Scene:
    """One place.

    `paint(backdrop, mood)` paints it and returns the height of its ground's far edge; `moods` maps
    a mood to phrases that tell place and mood; `places` are phrases that tell the place alone;
    `settings` name it as a noun. `ground`, `water`, `air` and `wall` list the kinds that stand
    there, float, fly or hang. `near` is the height where the nearest things stand.
    """

    name: str
    paint: Callable[[Backdrop, str], float]
    places: tuple[str, ...]
    settings: tuple[str, ...]
    moods: dict[str, tuple[str, ...]]
    ground: tuple[str, ...] = ()
    water: tuple[str, ...] = ()
    air: tuple[str, ...] = ()
    wall: tuple[str, ...] = ()
    near: float = 0.06
    light: tuple[float, float, float] = (1.0, 1.0, 1.0)
    weight: float = 1.0

    @property
    def kinds(self) -> tuple[str, ...]:
        """All kinds that belong here."""
        return (*self.ground, *self.water, *self.air, *self.wall)


def _weather(place: str, water: bool = False) -> dict[str, tuple[str, ...]]:
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
        "checkered": (
            f"on a {table} with a checkered cloth",
            f"on a red and white checkered {table}",
        ),
    }


_FRUIT = ("orange", "lemon", "apple", "pear", "banana", "strawberry")
_SNACKS = ("hot dog", "hamburger", "donut", "sandwich")
SCENES: dict[str, Scene] = {
    scene.name: scene
    for scene in (
        Scene(
            "kitchen",
            scenery.kitchen,
            ("on a kitchen table", "in the kitchen", "on a kitchen counter"),
            ("kitchen table", "kitchen counter"),
            _surfaces("kitchen table"),
            (
                *_FRUIT,
                "orange",
                "orange juice",
                "orange juice",
                "orange juice",
                "milk",
                "bread",
                "carrot",
                "broccoli",
                "coffee",
                "bottle",
                "soup",
                "cake",
                "vase",
                "sandwich",
            ),
            wall=("clock",),
            weight=3.2,
        ),
        Scene(
            "restaurant",
            scenery.restaurant,
            ("on a restaurant table", "in a restaurant", "on a table in a cafe"),
            ("restaurant table", "cafe table"),
            _surfaces("restaurant table"),
            (
                "pizza",
                "pizza",
                *_SNACKS,
                "wine glass",
                "bottle",
                "coffee",
                "cake",
                "ice cream",
                "soup",
                "orange juice",
                "candle",
                "watermelon",
            ),
            weight=2.2,
        ),
        Scene(
            "desk",
            scenery.desk,
            ("on a desk", "on an office desk", "in an office"),
            ("desk", "office desk"),
            {k: v for k, v in _surfaces("desk").items() if k in ("wooden", "white")},
            (
                "laptop",
                "laptop",
                "keyboard",
                "computer mouse",
                "book",
                "phone",
                "scissors",
                "lamp",
                "coffee",
                "potted plant",
                "orange juice",
                "teddy bear",
            ),
            wall=("clock",),
            weight=1.8,
        ),
        Scene(
            "living room",
            scenery.living_room,
            ("in a living room", "in the living room"),
            ("living room", "cozy living room"),
            {
                "window": ("in a living room with a window", "near the window of a living room"),
                "picture": (
                    "in a living room with a picture on the wall",
                    "under a picture in a living room",
                ),
            },
            (
                "sofa",
                "chair",
                "television",
                "potted plant",
                "dog",
                "cat",
                "teddy bear",
                "guitar",
                "lamp",
                "balloon",
            ),
            wall=("clock",),
            weight=1.8,
        ),
        Scene(
            "bedroom",
            scenery.bedroom,
            ("in a bedroom", "in the bedroom"),
            ("bedroom", "bright bedroom"),
            {
                "window": ("in a bedroom on a sunny day", "in a bright bedroom by the window"),
                "gray": ("in a bedroom on a gray day", "in a bedroom under a cloudy window"),
            },
            ("bed", "bed", "teddy bear", "lamp", "cat", "suitcase", "backpack", "chair", "rabbit"),
            wall=("clock",),
            weight=1.3,
        ),
        Scene(
            "street",
            scenery.street,
            ("on a city street", "on the street", "in the city", "in front of some buildings"),
            ("city street", "street"),
            _weather("on a city street"),
            (
                "car",
                "truck",
                "truck",
                "bus",
                "bus",
                "bicycle",
                "motorcycle",
                "traffic light",
                "stop sign",
                "fire hydrant",
                "mailbox",
                "dog",
                "umbrella",
                "bench",
            ),
            near=0.08,
            weight=3.0,
        ),
        Scene(
            "beach",
            scenery.beach,
            ("on a beach", "on the sand by the ocean", "at the beach", "on a sandy beach"),
            ("beach", "sandy beach"),
            _weather("on the beach"),
            (
                "surfboard",
                "umbrella",
                "beach ball",
                "palm tree",
                "dog",
                "ice cream",
                "chair",
                "horse",
            ),
            air=("kite", "seagull"),
            weight=2.0,
        ),
        Scene(
            "sea",
            scenery.sea,
            ("on the ocean", "on the sea", "out at sea", "in the ocean water"),
            ("ocean", "sea"),
            _weather("on the ocean"),
            water=("boat", "boat", "boat", "lighthouse"),
            air=("seagull", "hot air balloon", "airplane"),
            near=0.16,
            weight=1.2,
        ),
        Scene(
            "lake",
            scenery.lake,
            ("on a lake", "on a mountain lake", "on the calm water of a lake"),
            ("lake", "mountain lake"),
            _weather("on a lake"),
            water=("duck", "duck", "boat"),
            air=("hot air balloon", "seagull"),
            near=0.14,
            weight=1.2,
        ),
        Scene(
            "meadow",
            scenery.meadow,
            ("in a green field", "in a grassy field", "on a pasture", "in a meadow"),
            ("green field", "grassy meadow"),
            _weather("in a green field"),
            ("horse", "cow", "sheep", "tractor", "windmill", "house", "tree", "sunflower"),
            air=("hot air balloon", "kite"),
            weight=2.2,
        ),
        Scene(
            "savanna",
            scenery.savanna,
            ("on the savanna", "in the dry grass", "on an african plain", "in the wild"),
            ("savanna", "dry grassland"),
            _weather("on the savanna"),
            ("zebra", "elephant", "giraffe", "zebra", "elephant", "giraffe", "tree"),
            weight=1.6,
        ),
        Scene(
            "park",
            scenery.park,
            ("in a park", "on the grass in a park", "in a city park"),
            ("park", "city park"),
            _weather("in a park"),
            (
                "bench",
                "dog",
                "bicycle",
                "soccer ball",
                "tree",
                "bird",
                "umbrella",
                "backpack",
                "rabbit",
            ),
            air=("balloon", "kite", "butterfly"),
            weight=2.2,
        ),
        Scene(
            "garden",
            scenery.garden,
            ("in a garden", "in a flower garden", "on a lawn in a garden", "in the backyard"),
            ("garden", "flower garden"),
            _weather("in a garden"),
            (
                "cat",
                "rabbit",
                "bird",
                "chair",
                "sunflower",
                "mushroom",
                "potted plant",
                "watermelon",
                "soccer ball",
            ),
            air=("butterfly", "butterfly"),
            weight=1.5,
        ),
        Scene(
            "forest",
            scenery.forest,
            ("in a forest", "in the woods", "among the trees"),
            ("forest", "wood"),
            _weather("in a forest"),
            ("bear", "mushroom", "mushroom", "tent", "rabbit", "backpack", "pine tree", "bird"),
            weight=1.4,
        ),
        Scene(
            "snow",
            scenery.snow,
            ("in the snow", "on a snowy hill", "in the snowy mountains"),
            ("snowy landscape", "snow field"),
            _weather("in the snow"),
            ("snowman", "snowman", "skis", "skis", "penguin", "bear", "pine tree", "dog", "house"),
            weight=2.0,
        ),
        Scene(
            "desert",
            scenery.desert,
            ("in the desert", "on the desert sand", "in a sandy desert"),
            ("desert", "hot desert"),
            _weather("in the desert"),
            ("cactus", "cactus", "truck", "tent", "motorcycle"),
            air=("hot air balloon",),
            weight=0.8,
        ),
        Scene(
            "airport",
            scenery.airport,
            ("at an airport", "on a runway", "at the airport"),
            ("airport", "airport runway"),
            _weather("at an airport"),
            ("airplane", "airplane", "truck", "bus", "suitcase"),
            weight=1.0,
        ),
        Scene(
            "railway",
            scenery.railway,
            ("on the railroad tracks", "on the tracks", "on a railway line"),
            ("railroad track", "railway line"),
            _weather("on the railroad tracks"),
            ("train", "train", "train", "traffic light"),
            near=0.17,
            weight=1.0,
        ),
        Scene(
            "sky",
            scenery.open_sky,
            ("in the sky", "high in the sky", "up in the air"),
            ("sky", "wide sky"),
            {
                "sunny": ("in a blue sky", "in the clear blue sky"),
                "cloudy": ("in a cloudy sky", "in a gray sky"),
                "sunset": ("in the sky at sunset", "in an evening sky"),
            },
            air=("airplane", "airplane", "kite", "hot air balloon", "balloon", "seagull"),
            weight=1.6,
        ),
        Scene(
            "night",
            scenery.night,
            ("at night", "under the night sky", "in the dark at night"),
            ("night sky", "dark night"),
            {
                "stars": ("under the stars at night", "under a starry night sky"),
                "town": ("in front of a city at night", "under a night sky above a town"),
            },
            ("tent", "tree", "house", "car", "windmill"),
            air=("moon", "moon", "moon"),
            light=(0.5, 0.54, 0.72),
            weight=1.2,
        ),
        Scene(
            "underwater",
            scenery.underwater,
            ("under water", "in the ocean", "in a fish tank"),
            ("fish tank", "blue ocean"),
            {
                "coral": ("under water near a coral reef", "above a coral reef"),
                "weeds": ("under water among green plants", "above green sea plants"),
            },
            air=("fish", "fish"),
            weight=0.8,
        ),
    )
}
