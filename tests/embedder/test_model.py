"""The dense layer, the closed form, and the file that keeps both sides."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lib.database.embed import embed_database
from lib.embedder.dataset import fit_text_side
from lib.embedder.layer import EmbedderLayer
from lib.embedder.model import Embedder
from lib.embedder.ridge import RidgePath, moments, whitening_powers
from lib.embedder.space import (
    adopt_embedder,
    embedder_file,
    load_semantic_space,
    save_semantic_space,
)
from lib.errors import BadInputError, MismatchError, MissingError
from lib.text.encoder import TextEncoder
from tests import toy_world


def test_se_image_by_hand() -> None:
    embedder = Embedder(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([2.0, 0.0]))
    embeddings = embedder.se_image(np.array([[1.0, 2.0], [-2.0, 0.0]]))
    assert embeddings.dtype == np.float32
    # (1·1 + 2, 2·2) = (3, 4); the second lands on zero, which has no direction.
    assert embeddings == pytest.approx(np.array([[0.6, 0.8], [0.0, 0.0]]))
    assert embedder.se_image(np.array([1.0, 2.0])) == pytest.approx(np.array([0.6, 0.8]))


def test_se_image_is_the_modules_forward() -> None:
    torch.manual_seed(0)
    layer, descriptors = EmbedderLayer(20, 5), torch.randn(7, 20)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 20 * 5 + 5
    weight, bias = (parameter.detach().numpy() for parameter in layer.parameters())
    embedder = Embedder(weight.T, bias)
    forward = layer(descriptors).detach().numpy()
    assert embedder.se_image(descriptors.numpy()) == pytest.approx(forward, abs=1e-6)
    assert embedder.se_image(descriptors.numpy().astype(np.float16)) == pytest.approx(
        forward, abs=2e-3
    )


def test_se_image_refuses_descriptors_of_another_size() -> None:
    with pytest.raises(ValueError, match="descriptors have 4 values; the embedder takes 3"):
        Embedder(np.eye(3, 2), np.zeros(2)).se_image(np.zeros((1, 4)))


@pytest.mark.parametrize("count", [30, 200])  # fewer images than values, and more
def test_ridge_and_left_out_predictions_are_those_of_fitting_again(count: int) -> None:
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.normal(size=(count, 50)).astype(np.float32))
    targets = inputs[:, :3] + torch.from_numpy(rng.normal(size=(count, 3)).astype(np.float32))
    path = RidgePath(moments(inputs, targets))
    z, y = inputs.double(), targets.double()
    penalty = 0.01 * count * 50 * torch.eye(50, dtype=torch.float64)

    def fitted(rows: torch.Tensor) -> torch.Tensor:
        return torch.linalg.solve(z[rows].T @ z[rows] + penalty, z[rows].T @ y[rows])

    everything = torch.arange(count)
    torch.testing.assert_close(path.solve(0.01).double(), fitted(everything), atol=1e-5, rtol=1e-4)
    folds = [torch.tensor([3]), torch.arange(5, 17), torch.arange(0, count, 2)]
    _, left_out = path.left_out(inputs, targets, (1.0, 0.01), folds)
    for fold, predicted in zip(folds, left_out, strict=True):
        rest = everything[~torch.isin(everything, fold)]
        torch.testing.assert_close(predicted.double(), z[fold] @ fitted(rest), atol=1e-4, rtol=1e-3)


def test_a_mix_is_the_sum_of_solutions_each_over_the_spread_of_what_it_says() -> None:
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.normal(size=(80, 20)).astype(np.float32))
    prior = torch.from_numpy(rng.normal(size=(20, 3)).astype(np.float32))
    targets = inputs[:, :3] + torch.from_numpy(rng.normal(size=(80, 3)).astype(np.float32))
    said = inputs @ prior
    path = RidgePath(moments(inputs, torch.cat([targets, said], dim=1)))
    weights: dict[tuple[float | None, float], float] = {
        (0.01, 0.0): 0.2,
        (0.01, 0.4): 0.3,
        (0.1, 0.4): 0.1,
        (None, 0.4): 0.4,
    }
    expected = torch.zeros(20, 3)
    for (ridge_lambda, scale), weight in weights.items():
        solution = prior
        if ridge_lambda is not None:
            onto_rest = RidgePath(moments(inputs, targets - scale * said), path.basis)
            solution = scale * prior + onto_rest.solve(ridge_lambda)
        expected += weight * solution / (inputs @ solution).square().mean().sqrt()
    torch.testing.assert_close(path.mix(prior, weights), expected, atol=1e-5, rtol=1e-4)


def test_wccn_whitens_the_variation_within_an_image() -> None:
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.normal(size=(5000, 4)) * [1.0, 0.8, 0.6, 0.5])
    powers = whitening_powers(noise.T @ noise / len(noise))
    whitened = noise.float() @ powers[0.5]
    covariance = whitened.T @ whitened / len(whitened)
    torch.testing.assert_close(covariance / covariance[0, 0], torch.eye(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(powers[0.0], torch.eye(4), atol=1e-5, rtol=0)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[str, TextEncoder, Embedder]:
    """A database that holds an embedder with random weights."""
    text = fit_text_side(["the thing1 thing2", "the thing3"], toy_world.word_vectors())
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(toy_world.SIZE, toy_world.DIMENSION))
    embedder = Embedder(matrix, rng.normal(size=toy_world.DIMENSION))
    metadata = {
        "descriptors": vars(toy_world.provenance()),
        "word_vectors": {
            "source": "toy.txt",
            "digest": _digest(toy_world.word_vectors()),
            "dimension": toy_world.DIMENSION,
        },
    }
    save_semantic_space(str(tmp_path), text, embedder, metadata)
    return str(tmp_path), text, embedder


def _digest(vectors: object) -> str:
    from lib.text.word_vectors import word_vectors_digest

    return word_vectors_digest(vectors)  # type: ignore[arg-type]


def test_a_saved_space_embeds_as_before(saved: tuple[str, TextEncoder, Embedder]) -> None:
    db, text, embedder = saved
    space = load_semantic_space(db, toy_world.word_vectors())
    descriptors = np.random.default_rng(0).normal(size=(5, toy_world.SIZE)).astype(np.float32)
    assert np.array_equal(space.se_image(descriptors), embedder.se_image(descriptors))
    for query in ("thing1 the", "thing7"):
        assert np.array_equal(space.se_text(query), text.se_text(query))
    assert space.provenance == toy_world.provenance()


def test_other_word_vectors_are_refused(saved: tuple[str, TextEncoder, Embedder]) -> None:
    db, _, _ = saved
    with pytest.raises(MismatchError, match=r"12 dimensions, they have 5.*jobs\.train_embedder"):
        load_semantic_space(db, toy_world.word_vectors(dimension=5))
    with pytest.raises(MismatchError, match="other values"):
        load_semantic_space(db, toy_world.word_vectors(seed=1))


def test_a_missing_or_damaged_embedder_is_named(
    saved: tuple[str, TextEncoder, Embedder], tmp_path: Path
) -> None:
    db, _, _ = saved
    with pytest.raises(MissingError, match=r"run jobs\.train_embedder first"):
        load_semantic_space(str(tmp_path / "other"))
    file = Path(embedder_file(db))
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(BadInputError, match=r"embedder\.npz is damaged, or no embedder"):
        load_semantic_space(db, toy_world.word_vectors())
    file.write_bytes(b"<html>a page of errors</html>")
    with pytest.raises(BadInputError, match=r"no embedder \(ValueError\('not a \.npz file'\)\)"):
        load_semantic_space(db)
    (tmp_path / "embedder.txt").write_text("M")
    with pytest.raises(BadInputError, match=r"embedder\.txt is neither a database nor an embedder"):
        load_semantic_space(str(tmp_path / "embedder.txt"))


def test_an_embedder_travels_as_a_file_to_descriptors_of_the_same_origin(
    saved: tuple[str, TextEncoder, Embedder], tmp_path: Path
) -> None:
    db, _, embedder = saved
    vectors = toy_world.word_vectors()
    digest = load_semantic_space(db, vectors).digest
    descriptors = np.ones((4, toy_world.SIZE), np.float32)
    other = toy_world.write_database(tmp_path / "other", descriptors, shards=1)
    file = tmp_path / "travels.npz"
    file.write_bytes(Path(embedder_file(db)).read_bytes())
    for source in (db, str(file), f"file://{file}"):
        assert adopt_embedder(other, source, vectors).digest == digest
        space = load_semantic_space(other, vectors)
        assert space.digest == digest
        assert np.array_equal(space.se_image(descriptors), embedder.se_image(descriptors))
    # Images are embedded where the word vectors of training are not; texts want them.
    assert adopt_embedder(other, str(file)).digest == digest
    assert embed_database(other).images == 4
    with pytest.raises(
        MissingError, match=r"toy\.txt, with which .* name them with --word-vectors"
    ):
        load_semantic_space(other)
    stranger = toy_world.write_database(tmp_path / "stranger", np.ones((4, 7), np.float32), 1)
    with pytest.raises(MismatchError, match=r"travels\.npz does not fit.*size is 48, theirs 7"):
        adopt_embedder(stranger, str(file), vectors)
    assert not Path(embedder_file(stranger)).exists()
    with pytest.raises(MissingError, match=r"none\.npz is not there; name an embedder's file"):
        adopt_embedder(other, str(tmp_path / "none.npz"), vectors)


def test_the_digest_covers_what_decides_an_embedding_and_nothing_else(
    saved: tuple[str, TextEncoder, Embedder], tmp_path: Path
) -> None:
    db, text, embedder = saved
    vectors = toy_world.word_vectors()
    space = load_semantic_space(db, vectors)
    metadata = space.metadata | {"captions": {"training_captions": 9}, "time": 7}
    assert save_semantic_space(str(tmp_path / "again"), text, embedder, metadata) == space.digest
    powered = TextEncoder(vectors, replace(text.idf, power=0.5), text.common_direction)
    moved = Embedder(embedder.matrix, embedder.bias + 1)
    for number, (side, layer) in enumerate(((powered, embedder), (text, moved))):
        changed = str(tmp_path / str(number))
        digest = save_semantic_space(changed, side, layer, metadata)
        assert digest != space.digest
        assert load_semantic_space(changed, vectors).digest == digest
        assert load_semantic_space(changed, vectors).text.idf == side.idf
