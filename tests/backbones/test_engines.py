"""Engines: converted, quantised and judged, they give the backbone's own descriptors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lib.backbones import engines, graphs, preparation
from lib.backbones.backbone import Backbone, load_backbone
from lib.backbones.conversion import convert
from lib.backbones.engines import LEAST_COSINE, Forms, OpenVinoEngine, Sample, choose
from lib.backbones.graphs import cosines_of, has_bfloat16, pack
from lib.backbones.kept import NamedGraph, converted, keep_int8, kept_int8
from lib.backbones.origin import PACKAGED
from lib.backbones.preparation import pictures_needed, prepare, prepare_for
from lib.backbones.quantization import convolutions, observe, quantize
from lib.backbones.torch_engine import TorchEngine
from lib.images.preprocessing import decode
from tests.conftest import REAL_DATA

pytestmark = pytest.mark.slow

TRAINED = REAL_DATA.parent / "resnet18" / "resnet18.pth"
PHOTOGRAPHS = sorted((REAL_DATA / "images").glob("*.jpg"))
SMALL, SMALL_VIT = "test_resnet", "test_vit"  # a few layers, which timm has for its own tests


def backbone_of(name: str) -> Backbone:
    return load_backbone(name, None if name == PACKAGED else "random")


def blobs(width: int, height: int, count: int = 3) -> list[np.ndarray]:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 14, 14, generator=generator) * 255
    size = (height, width)
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 255).byte()
    return [picture.permute(1, 2, 0).numpy() for picture in smooth]


def reference(backbone: Backbone, pictures: list[np.ndarray]) -> np.ndarray:
    images = (torch.from_numpy(picture).permute(2, 0, 1)[None] for picture in pictures)
    return np.concatenate([backbone.extract(image).numpy() for image in images])


def too_low(model: Any) -> list[float]:
    """Limits of a graph's convolutions above which nearly all is cut off."""
    return [0.01] * len(convolutions(model))


def samples(pictures: list[np.ndarray]) -> list[Sample]:
    return [Sample(picture, picture) for picture in pictures]


def photographs(backbone: Backbone, files: list[Path]) -> list[np.ndarray]:
    decoded = [decode(file.read_bytes(), backbone.preprocessing).pixels for file in files]
    return [np.ascontiguousarray(pixels) for pixels in decoded]


@pytest.mark.parametrize("name", ["resnet18", PACKAGED, SMALL_VIT])
def test_the_graph_agrees_with_the_network_for_all_shapes(name: str) -> None:
    backbone = backbone_of(name)
    model = convert(backbone)  # anew: `float32_engine` would take one that is kept
    assert model is not None
    forms = Forms("float32", pack(model))
    engine, _ = choose(forms, lambda: backbone, "cpu", 2)
    assert engine.name == "OpenVINO float32"
    crop = backbone.preprocessing.crop
    others = [(672, 224), (224, 320)] if backbone.preprocessing.whole else []
    for shape in [(crop, crop), *others]:
        pictures = blobs(*shape, 2)
        together = np.concatenate([engine([picture]) for picture in pictures])
        expected = reference(backbone, pictures)
        np.testing.assert_allclose(together, expected, rtol=1e-3, atol=1e-3)
        assert cosines_of(together, expected).min() > 0.999999


@pytest.mark.parametrize("name", [SMALL, pytest.param(SMALL_VIT, marks=pytest.mark.long)])
def test_without_openvino_pytorch_computes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "openvino", None)
    backbone = backbone_of(name)
    crop = backbone.preprocessing.crop
    pictures = blobs(crop, crop, 1)
    forms = prepare(backbone, "fast", samples(pictures))
    engine, computation = choose(forms, lambda: backbone, "cpu", 1)
    assert isinstance(engine, TorchEngine)
    assert computation.least_cosine >= LEAST_COSINE
    for bfloat16, least in ((False, 0.999999), (True, 0.999)):
        engine = TorchEngine(backbone, "cpu", bfloat16)
        engine.batch_size = 2  # of which one fills the batch up
        assert cosines_of(engine(pictures), reference(backbone, pictures)).min() > least


@pytest.mark.parametrize("own", ["the same", "another", "none"])
def test_a_picture_has_one_descriptor_however_common_its_shape_is(
    own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_WORTH_COMPILING", 0)
    compiled: list[tuple[int, ...] | None] = []
    compile_graph = engines._compiled

    def compile_for(*of: Any) -> Any:
        compiled.append(of[-1])
        run = compile_graph(*of)
        if of[-1] is None or own == "the same":
            return run
        if own == "none":
            raise RuntimeError("this shape cannot be")
        return lambda batch: [run(batch)[0] + 1]

    monkeypatch.setattr(engines, "_compiled", compile_for)
    model = convert(backbone_of(SMALL))
    pictures = blobs(288, 224, 8)
    engine = OpenVinoEngine(pack(model), "any", 1, has_bfloat16())
    expected = np.concatenate([engine._run(picture[None])[0] for picture in pictures])
    for _ in range(3):
        np.testing.assert_array_equal(engine(pictures), expected)
        np.testing.assert_array_equal(engine(pictures[:3]), expected[:3])
    shapes = {8 if has_bfloat16() else 1, 1}  # of a whole batch, and of one that is not full
    assert len(compiled) == 1 + (len(shapes) if own == "the same" else 1)
    assert {shape for shape in compiled if shape} <= {(many, 224, 288, 3) for many in shapes}


def test_a_form_that_breaks_the_promise_is_not_used() -> None:
    backbone = backbone_of(SMALL)
    pictures = blobs(224, 224, 4)
    model = convert(backbone)
    expected = observe(model, pictures).descriptors
    spoilt = quantize(model, too_low(model), 0)
    forms = Forms("fast", pack(model), pack(spoilt), "int8", pictures, expected)
    engine, computation = choose(forms, lambda: backbone, "cpu", 1)
    assert "int8" not in engine.name
    assert computation.fidelity == "fast"
    assert computation.least_cosine > LEAST_COSINE


@pytest.mark.parametrize("form", ["searched", "kept", "torch"])
def test_descriptors_are_judged_by_those_of_whole_pictures(
    form: str, empty_cache: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What workers decode at a smaller scale loses a little there, too."""
    if form == "torch":
        monkeypatch.setattr(preparation, "converted", lambda _: None)
    pixels, whole = blobs(224, 224, 4), blobs(224, 224, 5)[1:]
    if form == "kept":
        keep_int8(empty_cache, has_bfloat16(), NamedGraph(None, ""))
    pictures = [Sample(*pair) for pair in zip(pixels, whole, strict=True)]
    forms = prepare(empty_cache, "fast", pictures)
    expected = reference(empty_cache, whole)
    assert forms.reference is not None
    np.testing.assert_allclose(forms.reference, expected, rtol=1e-3, atol=1e-3)
    assert forms.pictures == pixels
    _, computation = choose(forms, lambda: empty_cache, "cpu", 1)
    lost = cosines_of(reference(empty_cache, pixels), expected).min()
    assert computation.least_cosine == pytest.approx(lost, abs=5e-4)
    assert lost < LEAST_COSINE


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backbone:
    """A backbone of which nothing is kept but its graph in float32."""
    backbone = backbone_of(SMALL)
    graph = converted(backbone)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(preparation, "converted", lambda _: graph)
    return backbone


def test_int8_of_an_earlier_run_is_taken_where_it_keeps_the_promise(empty_cache: Backbone) -> None:
    pictures = blobs(224, 224, 6)
    model = convert(empty_cache)
    assert pictures_needed(empty_cache, "fast", 500, 1) == (32 if has_bfloat16() else 0)
    for limits, kept in ((too_low(model), ""), (observe(model, pictures[:3]).limits, "int8")):
        earlier = NamedGraph(pack(quantize(model, limits, 0)), "int8")
        keep_int8(empty_cache, has_bfloat16(), earlier)
        assert pictures_needed(empty_cache, "fast", 500, 1) == 32
        forms = prepare(empty_cache, "fast", samples(pictures[3:]))
        assert forms.int8_name == kept
        assert forms.reference is not None
        assert len(forms.reference) == len(forms.pictures) == 3


def test_int8_of_an_earlier_run_that_does_not_hold_is_searched_anew(
    empty_cache: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lib.backbones.preparation._JUDGES", 2)
    monkeypatch.setattr("lib.backbones.preparation._CALIBRATION", 4)
    monkeypatch.setattr("lib.backbones.quantization._WORTH_IT", float("inf"))  # on a busy machine
    model = convert(empty_cache)
    spoilt = NamedGraph(pack(quantize(model, too_low(model), 0)), "spoilt")
    asked: list[int] = []

    def pictures(count: int) -> list[Sample]:
        asked.append(count)
        return samples(blobs(224, 224, count))

    for images, expected in ((1_000, [2]), (1_001, [2, 4])):
        keep_int8(empty_cache, has_bfloat16(), spoilt)
        asked.clear()
        forms = prepare_for(empty_cache, "fast", images, 1, pictures)
        assert asked == expected
        assert forms.int8_name != "spoilt"
    kept = kept_int8(empty_cache, has_bfloat16())
    assert kept is not None
    assert kept.name == forms.int8_name != ""


def test_a_network_that_int8_spoils_is_known_from_then_on(
    empty_cache: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lib.backbones.preparation._JUDGES", 3)
    monkeypatch.setattr("lib.backbones.quantization._HOPELESS", 1.1)
    assert pictures_needed(empty_cache, "fast", 2000, 1) == 64
    for _ in range(2):
        forms = prepare(empty_cache, "fast", samples(blobs(224, 224, 4)))
        assert forms.int8 is None
        assert len(forms.pictures) == 3
        monkeypatch.setattr(preparation, "search", lambda *_: pytest.fail("searched again"))
    assert pictures_needed(empty_cache, "fast", 2000, 1) == (3 if has_bfloat16() else 0)
    assert pictures_needed(empty_cache, "fast", 2000, 4) == 3


@pytest.mark.photos
@pytest.mark.long
def test_int8_keeps_the_promise_on_photographs_it_was_not_made_with(
    coco_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With trained weights: random ones flatter."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # that of an earlier run is not looked at
    if not TRAINED.exists():
        pytest.skip(f"no trained weights at {TRAINED}")
    backbone = load_backbone("resnet18", str(TRAINED))
    made_with, others = PHOTOGRAPHS[::10], PHOTOGRAPHS[1::20]
    forms = prepare(backbone, "fast", samples(photographs(backbone, made_with)))
    engine, computation = choose(forms, lambda: backbone, "cpu", 2)
    assert "int8" in engine.name
    assert computation.least_cosine >= LEAST_COSINE
    unseen = photographs(backbone, others)
    found = np.concatenate([engine([picture]) for picture in unseen])
    assert cosines_of(found, reference(backbone, unseen)).min() >= LEAST_COSINE
