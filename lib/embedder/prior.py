"""A first embedder without any caption: the names of the classes that a network knows teach it.

The classifier's last layer gives each image probabilities p = softmax(logits / T) of its classes; y,
the p-weighted sum of the class names' text embeddings, is where the image belongs in the text space
(ConSE; Norouzi et al., ICLR 2014). Ridge regression from the descriptors onto y, over images that
need no captions, distils that into one matrix. Captions then fit only what is left; an embedder from
elsewhere takes the same place.
"""

from dataclasses import dataclass

import numpy as np
import torch

from lib.descriptors.classes import ClassifierHead
from lib.embedder.space import SemanticSpace
from lib.text.caption_words import CaptionWords
from lib.text.encoder import TextEncoder, tokenize

TEMPERATURE = 1.5  # T: an image shows more than its most probable class
RIDGE_LAMBDA = 1.0  # per image, of standardised descriptors
CLOSENESS = 15.0  # weight exp(CLOSENESS · cosine) of a caption word in explaining a class's name
# What fits a class goes by W^-γ like what captions fit (see lib.embedder.ridge): whitened.
POWER = 0.5


@dataclass(frozen=True)
class Standardisation:
    """Mean and 1 / standard deviation (0 where that is 0) of descriptor values; (D,) float32."""

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, descriptors: np.ndarray) -> "Standardisation":
        """That of (N, D) descriptors."""
        mean = descriptors.mean(axis=0, dtype=np.float64)
        deviation = descriptors.std(axis=0, dtype=np.float64)
        scale = np.zeros_like(deviation)
        np.divide(1, deviation, out=scale, where=deviation > 1e-6 * np.abs(mean))
        return cls(mean.astype(np.float32), scale.astype(np.float32))

    def __call__(self, descriptors: np.ndarray) -> np.ndarray:
        """(N, D) float32: mean 0, deviation 1."""
        return (descriptors - self.mean) * self.scale


@dataclass(frozen=True)
class Prior:
    """What is known before captions; predictions are (x - mean)·matrix, not whitened."""

    matrix: np.ndarray  # (D, d) float32
    source: str  # in words


def class_targets(embeddings: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Where images belong by their classes; (N, d) float32 unit, centred before.

    embeddings: (C, d) of the classes' names; logits: (N, C).
    """
    directions = _unit(embeddings - embeddings.mean(axis=0))
    shares = np.exp((logits - logits.max(axis=1, keepdims=True)) / TEMPERATURE)
    targets = (shares / shares.sum(axis=1, keepdims=True)) @ directions
    return _unit(targets - targets.mean(axis=0)).astype(np.float32)


def class_embeddings(names: list[str], text: TextEncoder, table: CaptionWords) -> np.ndarray:
    """(C, d) float64 unit: half what a class's names say, half the company of words like them.

    A name is a list of synonyms, parted by commas. Those that captions use count; the others
    (Canis lupus) only where there is none. `golden retriever` is never in a caption that lacks
    the words of the scene, so the caption words nearest to it lend theirs.
    """
    known = {word: row for row, word in enumerate(table.words)}
    own = np.stack([_name_embedding(name, text, known) for name in names])
    held = [row for row in range(len(table.company)) if text.knows(table.words[row])]
    if not held:
        return own
    vectors = np.zeros((len(table.words), text.dimension))
    for row, word in enumerate(table.words):
        if text.knows(word):
            vectors[row] = text.word_embedding(word)
    company = np.einsum("ck,ckd->cd", table.together[held], vectors[table.company[held]])
    company = _unit(company + table.counts[held, None] * vectors[held])
    cosines = own @ _unit(vectors[held]).T
    weights = np.exp(CLOSENESS * (cosines - cosines.max(axis=1, keepdims=True)))
    return _unit(own + _unit(weights @ company))


def _name_embedding(name: str, text: TextEncoder, known: dict[str, int]) -> np.ndarray:
    synonyms = [
        [word for word in tokenize(synonym) if word in known and text.knows(word)]
        for synonym in name.split(",")
    ]
    sums = [sum(map(text.word_embedding, words)) for words in synonyms if words]
    if not sums:
        sums = [sum(map(text.word_embedding, filter(text.knows, tokenize(name))))]
    return _unit(_unit(np.array(sums, np.float64).reshape(len(sums), -1)).mean(axis=0))


def distil(standardised: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(D, d) float32 ridge solution of standardised descriptors (N, D) onto targets (N, d)."""
    inputs = torch.from_numpy(standardised).double()
    size = inputs.shape[1]
    penalty = RIDGE_LAMBDA * len(inputs) * torch.eye(size, dtype=torch.float64)
    cross = inputs.T @ torch.from_numpy(targets).double()
    return torch.linalg.solve(inputs.T @ inputs + penalty, cross).float().numpy()


def prior_of_classes(
    descriptors: np.ndarray,
    logits: np.ndarray,
    embeddings: np.ndarray,
    standardisation: Standardisation,
    source: str,
) -> Prior:
    """Distil class names into a matrix, on (N, D) descriptors with (N, C) logits."""
    matrix = distil(standardisation(descriptors), class_targets(embeddings, logits))
    return Prior(matrix * standardisation.scale[:, None], source)


def prior_of_embedder(space: SemanticSpace, source: str) -> Prior:
    """Another collection's embedder, its whitening undone."""
    matrix = space.embedder.matrix
    if space.whitening is not None:
        matrix = matrix @ np.linalg.inv(space.whitening)
    return Prior(matrix.astype(np.float32), source)


def head_logits(descriptors: np.ndarray, head: ClassifierHead) -> np.ndarray:
    """(N, C) float32 logits of a backbone's own classes."""
    return descriptors @ head.weight + head.bias


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
