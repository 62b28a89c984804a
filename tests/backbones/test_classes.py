import pytest

from lib.backbones.classes import class_names
from lib.errors import MissingError


@pytest.mark.parametrize(
    ("index", "names"),
    [
        (0, "tench, fish"),
        (151, "Chihuahua, dog"),
        (268, "Mexican hairless, dog"),
        (285, "Egyptian cat, cat"),
        (339, "sorrel, horse"),
        (867, "trailer truck, truck"),
        (861, "toilet seat, bathroom, toilet"),
        (957, "pomegranate, fruit"),
        (999, "toilet tissue, bathroom"),
    ],
)
def test_a_class_is_also_called_by_its_kind(index: int, names: str) -> None:
    first, *rest = names.split(", ")
    all_names = class_names(1000)[index].split(", ")
    assert all_names[0] == first
    assert all_names[len(all_names) - len(rest) :] == rest


def test_classes_without_names_are_refused() -> None:
    assert not class_names(21843)[151].endswith(", dog")  # another order: ImageNet-21k's own
    with pytest.raises(MissingError, match="7 classes"):
        class_names(7)
