"""What training begins with: the text side, the prior, and captions matched with descriptors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from lib.datasets.captions import Captions, select
from lib.datasets.matching import Matches
from lib.descriptors.store import DescriptorIndex, index_descriptors, read_descriptors
from lib.embedder.closed_form import MIN_JUDGES, Judged, judge
from lib.embedder.dataset import (
    ReadDescriptors,
    Standardisation,
    TrainingData,
    fit_text_side,
    load_share,
    match_captions,
    nothing,
    read_into_memory,
    word_covariance,
)
from lib.embedder.prior import (
    Lesson,
    Prior,
    prior_of_classes,
    prior_of_embedder,
    teach_classes,
)
from lib.embedder.seen import merge_copies
from lib.embedder.space import load_semantic_space
from lib.errors import BadInputError, MissingError
from lib.text.caption_words import caption_words
from lib.text.encoder import TextEncoder

if TYPE_CHECKING:  # gensim brings scipy.stats along, a second that not every process needs
    from gensim.models import KeyedVectors

# Powers of the IDF to choose from; the first is taken where there is nothing to choose by.
POWERS = (0.25, 0.5, 1.0)
MAX_SAMPLE = 20_000  # images that standardise descriptors and teach class names
MAX_POWER_JUDGES = 1500
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Prepared:
    """The text side, fitted, and the captions matched with the database's descriptors."""

    index: DescriptorIndex
    text: TextEncoder
    data: TrainingData
    prior: str  # its source, or why there is none
    copies: int = 0  # validation images that were left out: training has them, too
    judged: Judged | None = None  # the closed form for `data`, where that chose the IDF's power


def prepare(
    db: str,
    training: Captions | None,
    validation: Captions | None,
    vectors: "KeyedVectors",
    rejoin: bool,
    start: str | None = None,
    weights: str | None = None,
) -> Prepared:
    """Fit the text side and the prior, and match captions with images; see `train`.

    The power of the IDF is the one of POWERS with which left-out images rank best in closed form.
    """
    index = index_descriptors(db)
    sample = sample_collection(index)
    if start:
        space = load_semantic_space(start, vectors)
        space.require_fits(index.provenance, start)
        taught: Taught = (space.text, prior_of_embedder(space, start))
        return prepare_from(sample, training, validation, vectors, rejoin, taught)
    try:
        lesson = teach_classes(index, sample.rows, sample.descriptors, weights)
    except MissingError as error:
        if training is None:
            raise MissingError(
                f"{db} can only be trained with --captions FILE, or from an embedder made "
                f"elsewhere (--start DB_OR_FILE): {error}"
            ) from error
        prepared = prepare_from(sample, training, validation, vectors, rejoin, None)
        return replace(prepared, prior=f"none ({error})")
    return prepare_from(sample, training, validation, vectors, rejoin, lesson)


@dataclass(frozen=True)
class Sample:
    """A collection, and the descriptors of MAX_SAMPLE images of it at most, evenly spread."""

    index: DescriptorIndex
    rows: np.ndarray  # (S,) int64
    descriptors: np.ndarray  # (S, D) float32
    standardisation: Standardisation
    read: ReadDescriptors


def sample_collection(index: DescriptorIndex) -> Sample:
    """Read the sample."""
    count = len(index)
    rows = np.unique(np.linspace(0, count - 1, min(count, MAX_SAMPLE)).astype(np.int64))
    descriptors = read_descriptors(index.files, rows)
    return Sample(
        index,
        rows,
        descriptors,
        Standardisation.of(descriptors),
        partial(read_descriptors, index.files),
    )


# What is known before captions: classes, or another embedder with its text side.
Taught = Lesson | tuple[TextEncoder, Prior] | None


def prepare_from(
    sample: Sample,
    training: Captions | None,
    validation: Captions | None,
    vectors: "KeyedVectors",
    rejoin: bool,
    taught: Taught,
    powers: Sequence[float] = POWERS,
) -> Prepared:
    """`prepare` for a collection in memory. With another embedder its text side is taken over."""
    captions = [part for part in (training, validation if rejoin else None) if part]
    texts = [text for part in captions for text in part.texts]

    met, held = (
        part.match(sample.index.images()) if part else Matches() for part in (training, validation)
    )
    shared = {*met.rows.values()} & {*held.rows.values()}
    if shared and not rejoin:
        raise BadInputError(
            f"training and validation captions share {len(shared)} images; give files of different "
            "ones"
        )
    # A photograph that training has under another name, too, is no judge of it.
    met, held = merge_copies(sample.index, met, held)
    taught_rows = {*met.rows.values()}
    copies = {image for image, row in held.rows.items() if row in taught_rows}
    if training and validation and copies:
        if rejoin:
            training = training + select(validation, copies)
            met = replace(met, rows=met.rows | {image: held.rows[image] for image in copies})
        validation = select(validation, {*validation.images} - copies)

    def prepared(power: float) -> Prepared:
        prior = None
        if isinstance(taught, tuple):
            text, prior = taught
        else:
            text = fit_text_side(texts, vectors, power, caption_words())
        if isinstance(taught, Lesson):
            prior = prior_of_classes(
                taught, sample.descriptors, sample.standardisation, text, caption_words()
            )
        matched, unseen = (
            match_captions(part, sample.index, text, matches, required)
            if part
            else nothing(text.dimension)
            for part, matches, required in (
                # What was held out by a hash may all be of images that this collection has not.
                (training, met, True),
                (validation, held, not rejoin),
            )
        )
        data = TrainingData(
            matched,
            unseen,
            sample.read,
            sample.standardisation,
            rejoin,
            prior.matrix if prior else None,
            word_covariance(text),
        )
        source = prior.source if prior else ""
        return Prepared(sample.index, text, data, source, copies=0 if rejoin else len(copies))

    first = prepared(powers[0])
    if training is None:
        return first
    _require_usable(first.data, training)
    if isinstance(taught, tuple) or len(first.data.training.images) < MIN_JUDGES:
        return first
    candidates = (first, *map(prepared, powers[1:]))
    images = first.data.training.images
    judges = images[:: max(1, -(-len(images) // MAX_POWER_JUDGES))]
    judged = _judge_on([candidate.data for candidate in candidates], judges)
    best = int(np.argmax([closed.best.gain for closed in judged]))
    of_all = len(judges) == len(images)
    return replace(candidates[best], judged=judged[best] if of_all else None)


def _judge_on(candidates: Sequence[TrainingData], images: np.ndarray) -> list[Judged]:
    """The closed form of candidates that differ in their texts alone, on some of their images."""
    read = read_into_memory(candidates[0].read, images)
    judged: list[Judged] = []
    for data in candidates:
        part = data.training.of_images(images)
        share = load_share(part, read, data.standardisation, CPU)
        basis = judged[0].path.basis if judged else None
        judged.append(judge(share, replace(data, training=part), basis))
    return judged


def _require_usable(data: TrainingData, captions: Captions) -> None:
    training = data.training
    if not len(training.rows):
        raise BadInputError(
            f"no captions for any image: none of the {len(captions)} training captions of "
            f"{captions.source or 'the captions'} names an image that has a descriptor"
        )
    if len(training.images) < 2:
        raise BadInputError(
            "training needs captions of two images or more; there is one. Without --captions the "
            "network's class names do alone"
        )
    if np.ptp(training.texts, axis=0).max() < 1e-6:
        raise BadInputError(
            f"all {len(training.rows)} captions of {captions.source or 'the captions'} say the "
            "same: nothing can be learnt from them. Train without --captions, by class names"
        )
