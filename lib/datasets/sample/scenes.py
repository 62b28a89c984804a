"""The places of the sample: what belongs in each and what people call it."""

from collections.abc import Callable
from dataclasses import dataclass

from lib.datasets.sample import scenery
from lib.datasets.sample.scenery import Backdrop


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
        "checkered": (
            f"on a {table} with a checkered cloth",
            f"on a red and white checkered {table}",
        ),
    }


def _kinds(text: str) -> tuple[str, ...]:
    """Kinds written "orange x2, lemon": one that is named twice is drawn more often."""
    names: list[str] = []
    for entry in text.split(", "):
        name, _, times = entry.partition(" x")
        names += [name] * int(times or 1)
    return tuple(names)


_ALL = (
    Scene(
        "kitchen",
        scenery.kitchen,
        places=("on a kitchen table", "in the kitchen", "on a kitchen counter"),
        settings=("kitchen table", "kitchen counter"),
        moods=_surfaces("kitchen table"),
        ground=_kinds(
            "orange x2, lemon, apple, pear, banana, strawberry, orange juice x5, milk, bread, "
            "carrot, broccoli, coffee, bottle, soup, cake, vase, sandwich"
        ),
        wall=_kinds("clock"),
        weight=3.8,
    ),
    Scene(
        "restaurant",
        scenery.restaurant,
        places=("on a restaurant table", "in a restaurant", "on a table in a cafe"),
        settings=("restaurant table", "cafe table"),
        moods=_surfaces("restaurant table"),
        ground=_kinds(
            "pizza x2, hot dog, hamburger, donut, sandwich, wine glass, bottle, coffee, cake, "
            "ice cream, soup, orange juice x3, candle, watermelon"
        ),
        weight=2.2,
    ),
    Scene(
        "desk",
        scenery.desk,
        places=("on a desk", "on an office desk", "in an office"),
        settings=("desk", "office desk"),
        moods={
            "wooden": ("on a wooden desk", "on top of a brown wooden desk"),
            "white": ("on a white desk", "on top of a clean white desk"),
        },
        ground=_kinds(
            "laptop x2, keyboard, computer mouse, book, phone, scissors, lamp, coffee, potted "
            "plant, orange juice x2, teddy bear"
        ),
        wall=_kinds("clock"),
        weight=1.8,
    ),
    Scene(
        "living room",
        scenery.living_room,
        places=("in a living room", "in the living room"),
        settings=("living room", "cozy living room"),
        moods={
            "window": ("in a living room with a window", "near the window of a living room"),
            "picture": (
                "in a living room with a picture on the wall",
                "under a picture in a living room",
            ),
        },
        ground=_kinds(
            "sofa, chair, television, potted plant, dog, cat, teddy bear, guitar, lamp, balloon"
        ),
        wall=_kinds("clock"),
        weight=1.8,
    ),
    Scene(
        "bedroom",
        scenery.bedroom,
        places=("in a bedroom", "in the bedroom"),
        settings=("bedroom", "bright bedroom"),
        moods={
            "window": ("in a bedroom on a sunny day", "in a bright bedroom by the window"),
            "gray": ("in a bedroom on a gray day", "in a bedroom under a cloudy window"),
        },
        ground=_kinds("bed x2, teddy bear, lamp, cat, suitcase, backpack, chair, rabbit"),
        wall=_kinds("clock"),
        weight=1.3,
    ),
    Scene(
        "street",
        scenery.street,
        places=("on a city street", "on the street", "in the city", "in front of some buildings"),
        settings=("city street", "street"),
        moods=_weather("on a city street"),
        ground=_kinds(
            "car, truck x2, bus x2, bicycle, motorcycle, traffic light, stop sign, fire "
            "hydrant, mailbox, dog, umbrella, bench"
        ),
        near=0.08,
        weight=3.0,
    ),
    Scene(
        "beach",
        scenery.beach,
        places=("on a beach", "on the sand by the ocean", "at the beach", "on a sandy beach"),
        settings=("beach", "sandy beach"),
        moods=_weather("on the beach"),
        ground=_kinds("surfboard, umbrella, beach ball, palm tree, dog, ice cream, chair, horse"),
        air=_kinds("kite, seagull"),
        weight=2.0,
    ),
    Scene(
        "sea",
        scenery.sea,
        places=("on the ocean", "on the sea", "out at sea", "in the ocean water"),
        settings=("ocean", "sea"),
        moods=_weather("on the ocean"),
        water=_kinds("boat x3, lighthouse"),
        air=_kinds("seagull, hot air balloon, airplane"),
        near=0.16,
        weight=1.2,
    ),
    Scene(
        "lake",
        scenery.lake,
        places=("on a lake", "on a mountain lake", "on the calm water of a lake"),
        settings=("lake", "mountain lake"),
        moods=_weather("on a lake"),
        water=_kinds("duck x2, boat"),
        air=_kinds("hot air balloon, seagull"),
        near=0.14,
        weight=1.2,
    ),
    Scene(
        "meadow",
        scenery.meadow,
        places=("in a green field", "in a grassy field", "on a pasture", "in a meadow"),
        settings=("green field", "grassy meadow"),
        moods=_weather("in a green field"),
        ground=_kinds("horse, cow, sheep, tractor, windmill, house, tree, sunflower"),
        air=_kinds("hot air balloon, kite"),
        weight=2.2,
    ),
    Scene(
        "savanna",
        scenery.savanna,
        places=("on the savanna", "in the dry grass", "on an african plain", "in the wild"),
        settings=("savanna", "dry grassland"),
        moods=_weather("on the savanna"),
        ground=_kinds("zebra x2, elephant x2, giraffe x2, tree"),
        weight=1.6,
    ),
    Scene(
        "park",
        scenery.park,
        places=("in a park", "on the grass in a park", "in a city park"),
        settings=("park", "city park"),
        moods=_weather("in a park"),
        ground=_kinds("bench, dog, bicycle, soccer ball, tree, bird, umbrella, backpack, rabbit"),
        air=_kinds("balloon, kite, butterfly"),
        weight=2.2,
    ),
    Scene(
        "garden",
        scenery.garden,
        places=("in a garden", "in a flower garden", "on a lawn in a garden", "in the backyard"),
        settings=("garden", "flower garden"),
        moods=_weather("in a garden"),
        ground=_kinds(
            "cat, rabbit, bird, chair, sunflower, mushroom, potted plant, watermelon, soccer ball"
        ),
        air=_kinds("butterfly x2"),
        weight=1.5,
    ),
    Scene(
        "forest",
        scenery.forest,
        places=("in a forest", "in the woods", "among the trees"),
        settings=("forest", "wood"),
        moods=_weather("in a forest"),
        ground=_kinds("bear, mushroom x2, tent, rabbit, backpack, pine tree, bird"),
        weight=1.4,
    ),
    Scene(
        "snow",
        scenery.snow,
        places=("in the snow", "on a snowy hill", "in the snowy mountains"),
        settings=("snowy landscape", "snow field"),
        moods=_weather("in the snow"),
        ground=_kinds("snowman x2, skis x2, penguin, bear, pine tree, dog, house"),
        weight=2.0,
    ),
    Scene(
        "desert",
        scenery.desert,
        places=("in the desert", "on the desert sand", "in a sandy desert"),
        settings=("desert", "hot desert"),
        moods=_weather("in the desert"),
        ground=_kinds("cactus x2, truck, tent, motorcycle"),
        air=_kinds("hot air balloon"),
        weight=0.8,
    ),
    Scene(
        "airport",
        scenery.airport,
        places=("at an airport", "on a runway", "at the airport"),
        settings=("airport", "airport runway"),
        moods=_weather("at an airport"),
        ground=_kinds("airplane x2, truck, bus, suitcase"),
    ),
    Scene(
        "railway",
        scenery.railway,
        places=("on the railroad tracks", "on the tracks", "on a railway line"),
        settings=("railroad track", "railway line"),
        moods=_weather("on the railroad tracks"),
        ground=_kinds("train x3, traffic light"),
        near=0.17,
    ),
    Scene(
        "sky",
        scenery.open_sky,
        places=("in the sky", "high in the sky", "up in the air"),
        settings=("sky", "wide sky"),
        moods={
            "sunny": ("in a blue sky", "in the clear blue sky"),
            "cloudy": ("in a cloudy sky", "in a gray sky"),
            "sunset": ("in the sky at sunset", "in an evening sky"),
        },
        air=_kinds("airplane x2, kite, hot air balloon, balloon, seagull"),
        weight=1.6,
    ),
    Scene(
        "night",
        scenery.night,
        places=("at night", "under the night sky", "in the dark at night"),
        settings=("night sky", "dark night"),
        moods={
            "stars": ("under the stars at night", "under a starry night sky"),
            "town": ("in front of a city at night", "under a night sky above a town"),
        },
        ground=_kinds("tent, tree, house, car, windmill"),
        air=_kinds("moon x3"),
        light=(0.5, 0.54, 0.72),
        weight=1.2,
    ),
    Scene(
        "underwater",
        scenery.underwater,
        places=("under water", "in the ocean", "in a fish tank"),
        settings=("fish tank", "blue ocean"),
        moods={
            "coral": ("under water near a coral reef", "above a coral reef"),
            "weeds": ("under water among green plants", "above green sea plants"),
        },
        air=_kinds("fish x2"),
        weight=0.8,
    ),
)
SCENES: dict[str, Scene] = {scene.name: scene for scene in _ALL}
