"""What training sees: captions matched with descriptors, and each worker's share of them."""

import posixpath
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from gensim.models import KeyedVectors

from lib.datasets.captions import Captions
from lib.descriptors.store import DescriptorIndex
from lib.embedder.collectives import sum_over_workers, world
from lib.errors import BadInputError
from lib.text.encoder import TextEncoder, fit_idf

# Descriptors (len(rows), descriptor_size) float32 of sorted rows of a collection.
ReadDescriptors = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Examples:
    """Captions matched with rows of a collection of descriptors."""

    texts: np.ndarray  # (C, d) float32 unit embeddings
    rows: np.ndarray  # (C,) int64
    captions: np.ndarray  # (C,) int64, where in their file the captions stand
    absent: int = 0  # captions left out: their image has no descriptor
    wordless: int = 0  # captions left out: none of their words is known

    @property
    def images(self) -> np.ndarray:
        """Rows of the images that have captions, sorted, each once."""
        return np.unique(self.rows)

    def __add__(self, other: "Examples") -> "Examples":
        return Examples(
            np.concatenate([self.texts, other.texts]),
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.captions, other.captions]),
            self.absent + other.absent,
            self.wordless + other.wordless,
        )


def fit_text_side(texts: list[str], vectors: KeyedVectors) -> TextEncoder:
    """Text encoder whose IDF and common direction come from these captions alone."""
    idf = fit_idf(texts)
    mean = TextEncoder(vectors, idf).embed(texts).mean(axis=0)
    norm = np.linalg.norm(mean)
    return TextEncoder(vectors, idf, (mean / norm).astype(np.float32) if norm > 0 else None)


def match_captions(captions: Captions, index: DescriptorIndex, text: TextEncoder) -> Examples:
    """The captions whose image has a descriptor and of which a word is known, embedded.

    Raises BadInputError where no caption names an image, or none has a known word.
    """
    matches = captions.match(zip(index.image_ids, index.paths, strict=True))
    captions.require_a_match(matches, posixpath.dirname(index.files[0]))
    rows = np.array([matches.rows.get(image, -1) for image in captions.image_ids], np.int64)
    present = np.flatnonzero(rows >= 0)
    embeddings = text.embed([captions.texts[i] for i in present])
    known = embeddings.any(axis=1)
    if len(present) and not known.any():
        raise BadInputError(
            f"no word of the {len(present)} captions of {captions.source} is known, as in "
            f"{captions.texts[present[0]]!r:.100}; are the captions in the language of the word "
            "vectors? Another language's: --word-vectors FILE"
        )
    return Examples(
        embeddings[known],
        rows[present][known],
        present[known],
        len(rows) - len(present),
        int((~known).sum()),
    )


@dataclass(frozen=True)
class Share:
    """One worker's part of the training images, standardised over those of all workers."""

    inputs: torch.Tensor  # (n, descriptor_size) float32: (descriptor - mean) * scale
    texts: torch.Tensor  # (c, d) float32 unit, grouped by image
    image: torch.Tensor  # (c,) int64, the row of `inputs` that each caption describes, ascending
    mean: torch.Tensor  # (descriptor_size,)
    scale: torch.Tensor  # (descriptor_size,) 1 / standard deviation; 0 where that is 0

    def caption_means(self) -> torch.Tensor:
        """(n, d): each image's mean caption embedding."""
        sums = torch.zeros(len(self.inputs), self.texts.shape[1], device=self.texts.device)
        counts = torch.bincount(self.image, minlength=len(self.inputs))
        return sums.index_add_(0, self.image, self.texts) / counts[:, None]


def load_share(examples: Examples, read: ReadDescriptors, device: torch.device) -> Share:
    """Read this worker's images: of W workers, every W-th image that has captions."""
    rank, size = world()
    mine = examples.images[rank::size]
    kept = np.flatnonzero(np.isin(examples.rows, mine))
    kept = kept[np.argsort(examples.rows[kept], kind="stable")]
    inputs = torch.from_numpy(read(mine)).to(device)
    mean, scale = _mean_and_scale(inputs)
    return Share(
        inputs.sub_(mean).mul_(scale),
        torch.from_numpy(examples.texts[kept]).to(device),
        torch.from_numpy(np.searchsorted(mine, examples.rows[kept])).to(device),
        mean,
        scale,
    )


def _mean_and_scale(inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    count = sum_over_workers(torch.tensor(float(len(inputs)), device=inputs.device))
    mean = sum_over_workers(inputs.sum(dim=0, dtype=torch.float64)) / count
    squares = torch.zeros_like(mean)
    for part in inputs.split(8192):
        squares += (part - mean).square().sum(dim=0)
    deviation = (sum_over_workers(squares) / count).sqrt()
    scale = torch.where(deviation > 1e-6 * mean.abs(), 1 / deviation, 0.0)
    return mean.float(), scale.nan_to_num(posinf=0.0).float()
