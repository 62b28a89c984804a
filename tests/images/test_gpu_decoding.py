"""What a GPU decodes: the same code runs here on a CPU, with libjpeg in the place of nvJPEG."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lib.backbones import engines, torch_engine
from lib.backbones.backbone import Backbone, as_batch, load_backbone
from lib.backbones.engines import Forms, choose
from lib.backbones.graphs import cosines_of
from lib.backbones.torch_engine import TorchEngine, torch_engines
from lib.descriptors.extractor import DescriptorExtractor
from lib.errors import ImageSearchError
from lib.images.gpu_decoding import GpuDecoder, windows
from lib.images.listed import ListedImage
from lib.images.preprocessing import EncodedJpeg, Preprocessing, decode, for_gpu
from lib.schemas import Computation, column_to_vectors, descriptor_schema
from tests.images.odd_images import SRGB, encoded, exif, rgb_profile, scene

pytestmark = pytest.mark.slow

USUAL: dict[str, Callable[[], bytes]] = {
    "4:2:0": lambda: encoded(scene()),
    "4:4:4": lambda: encoded(scene(), subsampling=0),
    "grey": lambda: encoded(scene().convert("L")),
    "restarts": lambda: encoded(scene(), restart_marker_blocks=4),
    "sRGB": lambda: encoded(scene(), icc_profile=SRGB),
    "Adobe RGB": lambda: encoded(scene(), icc_profile=rgb_profile("adobe", 2.2)),
    "Display P3": lambda: encoded(scene(), icc_profile=rgb_profile("p3", 2.2)),
    **{f"turned {n}": partial(encoded, scene(), exif=exif(n)) for n in range(2, 9)},
}
OTHERS: dict[str, Callable[[], bytes]] = {
    "progressive": lambda: encoded(scene(), progressive=True),
    "RGB without YCbCr": lambda: encoded(scene(), keep_rgb=True),
    "CMYK": lambda: encoded(scene().convert("CMYK")),
    "tiny": lambda: encoded(scene(63, 100)),
    "long": lambda: encoded(Image.new("RGB", (9_000, 1_000))),
    "25 megapixels and more": lambda: encoded(Image.new("RGB", (5_001, 5_000))),
    "PNG": lambda: encoded(scene(), "PNG"),
    "half": lambda: encoded(scene())[:1_000],
}
CROPPED = Preprocessing(256, 224, (0.0,) * 3, (1.0,) * 3, "bicubic")
WHOLE = Preprocessing(256, 224, (0.0,) * 3, (1.0,) * 3, whole=True)


def left_to_gpu(content: bytes) -> EncodedJpeg:
    jpeg = for_gpu(content)
    assert jpeg is not None
    return jpeg


def without_huffman_table(jpeg: bytes) -> bytes:
    start = jpeg.index(b"\xff\xc4") + 5
    return jpeg[:start] + b"\xff" * 16 + jpeg[start + 16 :]


@pytest.mark.parametrize("kind", OTHERS)
def test_what_hardware_may_read_otherwise_is_left_to_the_cpu(kind: str) -> None:
    assert for_gpu(OTHERS[kind]()) is None


@pytest.mark.parametrize("preprocessing", [CROPPED, WHOLE], ids=["cropped", "whole"])
def test_pictures_are_those_that_a_cpu_decodes(preprocessing: Preprocessing) -> None:
    contents = [make() for make in USUAL.values()]
    contents += [encoded(scene(480, 640)), encoded(scene(700, 300)), encoded(scene())]
    jpegs = [left_to_gpu(content) for content in contents]
    pictures = GpuDecoder(preprocessing, "cpu")(jpegs)
    for jpeg, pixels in zip(jpegs, pictures, strict=True):
        expected = decode(jpeg.content, preprocessing)
        image = jpeg.decoded(pixels)
        assert (image.width, image.height) == (expected.width, expected.height)
        assert (image.bytes, image.digest) == (expected.bytes, expected.digest)
        apart = np.abs(pixels.numpy().astype(int) - expected.pixels)
        assert apart.mean() < (2.5 if jpeg.colors else 0.5)


def test_a_profile_of_few_colours_is_kept_for_the_next_picture() -> None:
    contents = [encoded(scene(w), icc_profile=rgb_profile("p3", 2.2)) for w in (320, 300)]
    one, other = (left_to_gpu(content).colors for content in contents)
    assert one is not None
    assert one is other


def test_windows_hold_so_many_images_and_so_many_pixels() -> None:
    small = EncodedJpeg(b"", 640, 480, 1, "", None)
    large = EncodedJpeg(b"", 6_000, 4_000, 1, "", None)
    assert [len(each) for each in windows([small] * 600)] == [256, 256, 88]
    assert [len(each) for each in windows([large] * 7)] == [3, 3, 1]
    assert [len(each) for each in windows([None, large] * 4)] == [7, 1]
    assert list(windows([])) == []


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of one: to fill them up takes longer, and says no more."""
    monkeypatch.setattr(torch_engine, "CPU_BATCH", 1)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("test_resnet", "random")


def test_a_shard_is_described_as_without_a_gpu_also_where_a_jpeg_is_damaged(
    tmp_path: Path, backbone: Backbone
) -> None:
    contents = {
        "a.jpg": encoded(scene()),
        "b.png": encoded(scene(), "PNG"),
        "c.jpg": b"no image",
        "d.jpg": encoded(scene(480, 320)),
        "e.jpg": without_huffman_table(encoded(scene())),
        "f.jpg": encoded(scene(300, 300)),
    }
    images = []
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        images.append(ListedImage(name, str(tmp_path / name), len(content), "", name))
    assert for_gpu(contents["e.jpg"])
    shards = []
    for decodes in (False, True):
        engine = TorchEngine(backbone, "cpu", False, decodes)
        computation = Computation("fast", engine.name)
        schema = descriptor_schema(backbone.provenance("float32"), computation)
        extractor = DescriptorExtractor(engine, backbone.preprocessing, schema, 2, overlap=True)
        shards.append(extractor.extract(images))
        assert ("nvJPEG" in engine.name) == decodes
    alone, together = shards
    assert together.failures.to_pylist() == alone.failures.to_pylist()
    assert [row["path"] for row in alone.failures.to_pylist()] == ["c.jpg", "e.jpg"]
    columns = [name for name in alone.descriptors.column_names if name != "descriptor"]
    assert together.descriptors.select(columns).equals(alone.descriptors.select(columns))
    vectors = (column_to_vectors(shard.descriptors["descriptor"]) for shard in shards)
    assert cosines_of(*vectors).min() > 0.999


def test_only_a_decoder_that_keeps_the_promise_is_chosen(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = [encoded(scene()), encoded(scene(), progressive=True), encoded(scene(480, 320))]
    pictures = [decode(content, backbone.preprocessing).pixels for content in contents]
    reference = np.concatenate([backbone.extract(as_batch(each)).numpy() for each in pictures])
    jpegs = [for_gpu(content) for content in contents]
    forms = Forms("fast", None, pictures=pictures, reference=reference, jpegs=jpegs)
    decodes = TorchEngine(backbone, "cpu", False, True)
    plain = TorchEngine(backbone, "cpu", False)
    monkeypatch.setattr(
        engines, "_in_order_of_speed", lambda *_: iter([lambda: decodes, lambda: plain])
    )
    engine, computation = choose(forms, lambda: backbone, "cuda", 1)
    assert engine is decodes
    assert (computation.engine, computation.pictures) == ("PyTorch float32, nvJPEG", 3)
    assert 0.999 < computation.least_cosine <= 1
    dark = [torch.zeros_like(torch.from_numpy(picture)) for picture in pictures]
    monkeypatch.setattr(decodes, "decoder", lambda jpegs: dark[: len(jpegs)])
    assert choose(forms, lambda: backbone, "cuda", 1)[0] is plain

    def refuse(_: object) -> None:
        raise RuntimeError("nvJPEG is not there")

    monkeypatch.setattr(decodes, "decoder", refuse)
    assert choose(forms, lambda: backbone, "cuda", 1)[0] is plain


@pytest.mark.parametrize(
    ("bfloat16", "fast", "decodes", "names"),
    [
        (True, True, True, ["bfloat16, nvJPEG", "bfloat16", "float32, nvJPEG", "float32"]),
        (True, True, False, ["bfloat16", "float32"]),
        (False, True, True, ["float32, nvJPEG", "float32"]),  # a GPU before Ampere
        (True, False, True, ["float32"]),
    ],
)
def test_engines_come_in_order_of_speed(
    bfloat16: bool,
    fast: bool,
    decodes: bool,
    names: list[str],
    backbone: Backbone,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch_engine, "has_fast_bfloat16", lambda _: bfloat16)
    built = [build() for build in torch_engines(backbone, "cpu", fast, decodes)]
    assert [engine.name for engine in built] == [f"PyTorch {name}" for name in names]


class OfItsPicturesSize(torch.nn.Module):
    """A network whose trace holds how large its pictures are."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3)) * images.shape[3] + images.amax((2, 3))


@pytest.mark.parametrize("alike", [True, False])
def test_a_network_is_rewritten_anew_only_for_shapes_that_it_heeds(
    alike: bool, backbone: Backbone
) -> None:
    if not alike:
        backbone = replace(backbone, network=OfItsPicturesSize())
    engine = TorchEngine(backbone, "cpu", False)
    random = np.random.default_rng(0)
    shapes = (224, 288), (224, 320), (288, 224)
    for shape in shapes:
        picture = random.integers(0, 256, (*shape, 3), dtype=np.uint8)
        expected = backbone.extract(as_batch(picture)).numpy()
        np.testing.assert_allclose(engine([picture]), expected, rtol=1e-3, atol=1e-3)
    assert len(engine._networks) == (1 if alike else 3)


def test_a_gpu_without_memory_is_named(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TorchEngine(backbone, "cpu", False)

    def full(_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engine, "_on_device", full)
    with pytest.raises(ImageSearchError, match="--gpus-per-worker 1"):
        engine([np.zeros((224, 224, 3), np.uint8)])
