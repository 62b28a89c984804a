from pathlib import Path

import numpy as np
import pytest
import torch

from lib.backbones import classes
from lib.backbones.classes import class_names, classifier_head
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


def test_a_layer_is_read_once_from_a_file_that_stays_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    network = torchvision.models.resnet18()
    torch.save(network.state_dict(), file := tmp_path / "weights.pth")
    head = classifier_head("resnet18", str(file))
    assert head.weight.shape == (512, 1000)
    np.testing.assert_array_equal(head.weight.T, network.fc.weight.detach())
    monkeypatch.setattr(classes, "_read_head", lambda *_: pytest.fail("read again"))
    again = classifier_head("resnet18", str(file))
    np.testing.assert_array_equal(again.weight, head.weight)
    np.testing.assert_array_equal(again.bias, head.bias)
    assert (again.names, again.weights_digest) == (head.names, head.weights_digest)
    assert again.names[151] == "Chihuahua, dog"
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    network.fc.weight.data += 1
    torch.save(network.state_dict(), file)
    changed = classifier_head("resnet18", str(file))
    np.testing.assert_array_equal(changed.weight.T, network.fc.weight.detach())
    (kept,) = (tmp_path / "cache").rglob("heads/*.npz")
    kept.write_bytes(kept.read_bytes()[:-100_000])  # damaged: read again
    np.testing.assert_array_equal(classifier_head("resnet18", str(file)).bias, changed.bias)
