"""The forms of a network that workers choose among, made once on the driver."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from lib.backbones import graphs
from lib.backbones.engines import Engine, Forms, Sample, choose
from lib.backbones.graphs import compiled, cosines_of, run_each
from lib.backbones.kept import AnyBackbone, NamedGraph, converted, keep_int8, kept_int8
from lib.backbones.quantization import HARD, Quantized, observe, search
from lib.cores import usable_cores
from lib.schemas import Fidelity

# Of the pictures that int8 is made with: those not among them fare a little worse.
_LEAST_OF_SAMPLE = 0.9992
_JUDGES = 32  # pictures by which each worker judges what its own processor computes
_CALIBRATION = 64
# Below the first number of images nothing but float32 pays, up to the second no search for int8,
# which takes as long as some 300 images in float32, or 500 faster ones.
_LEAST, _FEW = 256, 1_000


def prepare_for_gpus(
    backbone: AnyBackbone,
    fidelity: Fidelity,
    images: int,
    pictures: Callable[[int], Sequence[Sample]],
) -> Forms:
    """The forms of a backbone for so many images where every worker has a GPU: PyTorch computes."""
    if fidelity == "float32" or images < _LEAST:
        return Forms(fidelity, None)
    return _judged_by_torch(backbone, fidelity, pictures(_JUDGES))


def prepare_for(
    backbone: AnyBackbone,
    fidelity: Fidelity,
    images: int,
    machines: float,
    pictures: Callable[[int], Sequence[Sample]],
) -> Forms:
    """The forms of a backbone for so many images, prepared with as many of them as pays.

    `machines`: how many times the cores of this one are at work on them; `pictures` gives some.
    """
    needed = pictures_needed(backbone, fidelity, images, machines)
    forms = prepare(backbone, fidelity, pictures(needed) if needed else ())
    if forms.int8 is None and needed and _may_search(images, machines):
        kept = kept_int8(backbone, graphs.has_bfloat16())
        if kept is not None and kept.graph:  # and does not hold for these images
            return prepare(backbone, fidelity, pictures(_CALIBRATION))
    return forms


def _may_search(images: int, machines: float) -> bool:
    return images > _FEW * max(1.0, machines)


def pictures_needed(backbone: AnyBackbone, fidelity: Fidelity, images: int, machines: float) -> int:
    """Pictures that `prepare` is first given of so many images, see `prepare_for`."""
    if fidelity == "float32" or images < _LEAST:
        return 0
    int8 = kept_int8(backbone, graphs.has_bfloat16())
    if int8 is None and _may_search(images, machines):
        return _CALIBRATION
    if int8 is not None and int8.graph:
        return _JUDGES
    # This machine alone computes in float32 where it has no bfloat16: there is nothing to judge.
    alone = machines <= 1 and not graphs.has_bfloat16()
    return 0 if alone else _JUDGES


def prepare(backbone: AnyBackbone, fidelity: Fidelity, pictures: Sequence[Sample]) -> Forms:
    """The forms of a backbone, with convolutions in int8 where these pictures keep the promise.

    What an earlier run computed in int8 is tried first; else, where there are pictures enough, a
    search looks for what can be, which takes about as long as 300 pictures in float32.
    """
    graph = converted(backbone)
    if not pictures:
        return Forms(fidelity, graph)
    if graph is None:
        return _judged_by_torch(backbone, fidelity, pictures)
    bfloat16 = graphs.has_bfloat16()
    model = graphs.unpack(graph)
    form = _kept_form(backbone, model, pictures, bfloat16)
    form = form or _new_form(backbone, model, pictures, bfloat16)
    judges = form.hardest or range(min(len(pictures), _JUDGES))
    reference = form.reference[list(judges)]
    return _judged(Forms(fidelity, graph, *form.int8), [pictures[row] for row in judges], reference)


def _judged(forms: Forms, judges: Sequence[Sample], reference: np.ndarray) -> Forms:
    pictures, jpegs = [each.pixels for each in judges], [each.jpeg for each in judges]
    return replace(forms, pictures=pictures, jpegs=jpegs, reference=reference)


def _judged_by_torch(
    backbone: AnyBackbone, fidelity: Fidelity, pictures: Sequence[Sample]
) -> Forms:
    from lib.backbones.backbone import as_batch

    extract = backbone.loaded().extract
    reference = [extract(as_batch(picture.whole)).numpy() for picture in pictures]
    if not reference:  # none of them could be read
        return Forms(fidelity, None)
    return _judged(Forms(fidelity, None), pictures, np.concatenate(reference))


class _Form(NamedTuple):
    """What pictures say of a network in int8."""

    int8: NamedGraph
    hardest: Sequence[int]  # the pictures that quantising hurts most; empty without int8
    reference: np.ndarray  # (N, D) descriptors of all whole pictures, in float32


def _kept_form(
    backbone: AnyBackbone, model: Any, pictures: Sequence[Sample], bfloat16: bool
) -> _Form | None:
    """What an earlier search came to, where it holds for these pictures, too."""
    kept = kept_int8(backbone, bfloat16)
    if kept is None:
        return None
    reference = run_each(compiled(model, usable_cores()), [each.whole for each in pictures])
    if kept.graph is None:
        return _Form(kept, (), reference)
    int8 = compiled(graphs.unpack(kept.graph), usable_cores(), bfloat16)
    cosines = cosines_of(run_each(int8, [each.pixels for each in pictures]), reference)
    hardest = np.argsort(cosines)[:HARD].tolist()
    return _Form(kept, hardest, reference) if cosines.min() >= _LEAST_OF_SAMPLE else None


def _new_form(
    backbone: AnyBackbone, model: Any, pictures: Sequence[Sample], bfloat16: bool
) -> _Form:
    """What a search comes to, if there are pictures enough for one; it is kept."""
    observed = observe(model, [each.whole for each in pictures])
    nothing = _Form(NamedGraph(None, ""), (), observed.descriptors)
    if len(pictures) <= _JUDGES:
        return nothing
    pixels = [each.pixels for each in pictures]
    quantized = search(model, pixels, observed, _LEAST_OF_SAMPLE, bfloat16)
    if quantized == "hopeless":
        keep_int8(backbone, bfloat16, nothing.int8)
    if not isinstance(quantized, Quantized):
        return nothing
    int8 = NamedGraph(graphs.pack(quantized.model), quantized.name)
    keep_int8(backbone, bfloat16, int8)
    return _Form(int8, quantized.hardest, observed.descriptors)


def float32_engine(backbone: AnyBackbone) -> Engine:
    """Descriptors in float32 on the cores of this machine."""
    return choose(prepare(backbone, "float32", ()), backbone.loaded, "cpu", usable_cores())[0]
