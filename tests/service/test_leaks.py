"""Nothing of the test captions and images reaches training when they are given apart."""

from pathlib import Path

import numpy as np
import torch

from jobs.train_embedder import load_parts
from lib.datasets.captions import Captions, select
from lib.embedder.dataset import Standardisation, TrainingData
from lib.embedder.fitting import FitSettings, FitState, fit
from lib.embedder.preparation import Prepared, prepare
from lib.embedder.triples import uniform_triples
from tests import toy_world

TEST_IMAGES = {str(image) for image in range(120, 160)}


def _prepared(db: Path, descriptors: np.ndarray, captions: Captions) -> Prepared:
    """What training gets: 100 images to train on, 20 to validate; the test's are not given."""
    toy_world.write_database(db, descriptors)
    searchable = select(captions, set(captions.images) - TEST_IMAGES)
    validation = select(searchable, {str(image) for image in range(100, 120)})
    training = select(searchable, set(searchable.images) - set(validation.images))
    return prepare(str(db), training, validation, toy_world.word_vectors(), rejoin=False)


def _fitted(prepared: Prepared, descriptors: np.ndarray) -> tuple[FitState, set[int]]:
    """The fitted embedder, and the rows of descriptors that fitting has read."""
    read: set[int] = set()

    def reading(rows: np.ndarray) -> np.ndarray:
        read.update(rows.tolist())
        return descriptors[rows]

    known = Standardisation.of(descriptors[:120])
    data = TrainingData(prepared.data.training, prepared.data.validation, reading, known)
    settings = FitSettings(epochs=3, batch_size=32, learning_rate=0.05)
    return fit(data, settings, torch.device("cpu")), read


def test_other_test_images_and_captions_train_the_same_embedder(tmp_path: Path) -> None:
    descriptors, captions = toy_world.world(160)
    first = _prepared(tmp_path / "first", descriptors, captions)
    state, read = _fitted(first, descriptors)
    changed = descriptors.copy()
    changed[120:] = 1e4
    told = [
        "thing0 thing0 secret" if image in TEST_IMAGES else text
        for image, text in zip(captions.image_ids, captions.texts, strict=True)
    ]
    others = Captions(captions.image_ids, told, captions.images, captions.source)
    second = _prepared(tmp_path / "second", changed, others)
    again, _ = _fitted(second, changed)
    assert first.text.idf == second.text.idf
    assert np.array_equal(first.text.common_direction, second.text.common_direction)  # type: ignore[arg-type]
    assert torch.equal(state["M"], again["M"])
    assert torch.equal(state["b"], again["b"])
    assert read == set(range(120))


def test_the_vocabulary_is_that_of_the_training_captions_alone(tmp_path: Path) -> None:
    descriptors, captions = toy_world.world(160)
    told = [
        text
        + (" onlyintest" if image in TEST_IMAGES else "")
        + (" onlyinvalidation" if 100 <= int(image) < 120 else "")
        for image, text in zip(captions.image_ids, captions.texts, strict=True)
    ]
    others = Captions(captions.image_ids, told, captions.images, captions.source)
    prepared = _prepared(tmp_path / "db", descriptors, others)
    assert prepared.text.idf.document_count == 300
    assert not {"onlyintest", "onlyinvalidation"} & set(prepared.text.idf.weights)


def test_triples_of_the_training_part_hold_training_images_only(tmp_path: Path) -> None:
    prepared = _prepared(tmp_path / "db", *toy_world.world(160))
    examples = prepared.data.training
    rows = np.searchsorted(examples.images, examples.rows)
    triples = uniform_triples(rows, len(examples.images), 20, np.random.default_rng(0))
    drawn = set(examples.images[np.concatenate([triples.good, triples.bad])].tolist())
    assert drawn == set(range(100))


def test_held_out_images_are_those_of_no_training_caption(tmp_path: Path) -> None:
    lines = ["image,caption", *(f"{i}.jpg,the thing{i % 40}" for i in range(500))]
    (tmp_path / "captions.csv").write_text("\n".join(lines))
    training, validation = load_parts(str(tmp_path / "captions.csv"), None)
    assert training is not None
    assert validation is not None
    assert not set(training.image_ids) & set(validation.image_ids)
    assert len(training) + len(validation) == 500
    assert 25 <= len(validation) <= 75
