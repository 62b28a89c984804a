"""What is kept of networks: the same as was loaded, and made again where it no longer holds."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lib.backbones import conversion
from lib.backbones.backbone import Backbone, as_batch
from lib.backbones.graphs import cosines_of
from lib.backbones.kept import LazyBackbone, converted, open_backbone
from lib.datasets.pretrained import RESNET18_URL
from lib.errors import BadInputError, MismatchError
from lib.images.preprocessing import decode
from tests.backbones.test_backbone import SMALL, state_of
from tests.images.odd_images import encoded, scene

pytestmark = pytest.mark.slow
WITHOUT_TORCH = """
import sys
import numpy as np
from lib.backbones.image_encoder import ImageEncoder
from lib.schemas import Provenance

encoder = ImageEncoder(Provenance(**eval(sys.argv[1])), sys.argv[2])
content = open(sys.argv[3], "rb").read()
np.savez(sys.argv[4], descriptor=encoder.extract(content), map=encoder.see(content).feature_map)
assert "torch" not in sys.modules
"""


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of weights, and a cache that is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_weights(tmp_path / "weights.pth", 1)


def write_weights(file: Path, seed: int, name: str = SMALL) -> Path:
    torch.save(state_of(name, seed), file)
    return file


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def test_a_second_run_needs_no_torch_and_gives_the_same_descriptors(
    weights: Path, tmp_path: Path
) -> None:
    write_weights(weights, 1, "resnet18")
    first = open_backbone("resnet18", str(weights))
    assert isinstance(first, Backbone)
    assert converted(first) is not None
    provenance = first.provenance("float32")
    (tmp_path / "a.jpg").write_bytes(encoded(scene()))
    arguments = [repr(vars(provenance)), weights, tmp_path / "a.jpg", tmp_path / "a.npz"]
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, arguments)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    again = open_backbone("resnet18", str(weights))
    assert isinstance(again, LazyBackbone)
    assert again.provenance("float32") == provenance
    assert again.preprocessing == first.preprocessing
    without = np.load(tmp_path / "a.npz")
    pixels = decode((tmp_path / "a.jpg").read_bytes(), first.preprocessing).pixels
    descriptor, seen = (f(as_batch(pixels))[0] for f in (first.extract, first.feature_map))
    # Pillow resizes there, PyTorch here: one value in some 300 differs by 1.
    assert cosines_of(without["descriptor"][None], descriptor.numpy()[None]) > 0.9999
    assert without["map"].shape == seen.shape
    np.testing.assert_allclose(without["map"].mean((1, 2)), without["descriptor"], rtol=1e-4)
    np.testing.assert_allclose(without["map"], seen.numpy(), atol=0.02 * float(seen.max()))


def test_weights_that_change_are_loaded(weights: Path) -> None:
    first = open_backbone(SMALL, str(weights))
    lazy = open_backbone(SMALL, str(weights))
    assert isinstance(lazy, LazyBackbone)
    write_weights(weights, 2)
    with pytest.raises(MismatchError, match="leave the file of weights as it is"):
        lazy.loaded()
    changed = open_backbone(SMALL, str(weights))
    assert changed.weights_digest != first.weights_digest
    weights.write_bytes(b"junk")
    with pytest.raises(BadInputError, match="cannot be read as weights"):
        open_backbone(SMALL, str(weights))


def test_what_is_damaged_is_made_again(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "convert", partial(_once, conversion.convert, []))
    first = open_backbone(SMALL, str(weights))
    (kept,) = tmp_path.rglob("backbones/*.npz")
    kept.write_bytes(flipped(kept.read_bytes()))
    assert isinstance(open_backbone(SMALL, str(weights)), Backbone)
    assert isinstance(open_backbone(SMALL, str(weights)), LazyBackbone)
    graph, again = converted(first), converted(first)
    assert graph is not None
    assert again is not None
    assert again.xml == graph.xml
    assert (again.weights == graph.weights).all()
    (kept,) = tmp_path.rglob("graphs/*.npz")
    content = kept.read_bytes()
    half = len(content) // 2
    for damaged in (flipped(content), content[:half], content[:50], b""):
        kept.write_bytes(damaged)
        with pytest.raises(RuntimeError, match="converted again"):
            converted(first)


def _once(convert: Callable[[Backbone], Any], done: list[Backbone], backbone: Backbone) -> Any:
    if done:
        raise RuntimeError("converted again")
    done.append(backbone)
    return convert(backbone)


def test_a_home_that_cannot_be_written_does_no_harm(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        assert isinstance(open_backbone(SMALL, str(weights)), Backbone)


def test_the_address_of_resnet18s_weights_is_torchvisions() -> None:
    import torchvision

    assert torchvision.models.ResNet18_Weights.DEFAULT.url == RESNET18_URL
