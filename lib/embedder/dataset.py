"""What training sees: captions matched with descriptors, and each worker's share of them."""

import posixpath
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from lib.datasets.captions import Captions
from lib.datasets.matching import Matches
from lib.descriptors.store import DescriptorIndex
from lib.embedder.collectives import world
from lib.embedder.seen import merge_copies
from lib.errors import BadInputError
from lib.text.caption_words import CaptionWords
from lib.text.encoder import Idf, TextEncoder, count_documents, inverse_frequency

if TYPE_CHECKING:  # gensim brings scipy.stats along, a second that not every process needs
    from gensim.models import KeyedVectors

# Captions that the packaged table of words counts for beside a collection's own.
TABLE_CAPTIONS = 1000
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
    repeated: int = 0  # captions left out: their image has the same one already

    @property
    def images(self) -> np.ndarray:
        """Rows of the images that have captions, sorted, each once."""
        return np.unique(self.rows)

    def of_images(self, images: np.ndarray) -> "Examples":
        """Those of some images."""
        kept = np.isin(self.rows, images)
        return replace(
            self, texts=self.texts[kept], rows=self.rows[kept], captions=self.captions[kept]
        )

    def __add__(self, other: "Examples") -> "Examples":
        return Examples(
            np.concatenate([self.texts, other.texts]),
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.captions, other.captions]),
            self.absent + other.absent,
            self.wordless + other.wordless,
            self.repeated + other.repeated,
        )


def nothing(dimension: int) -> Examples:
    """No captions."""
    rows = np.zeros(0, np.int64)
    return Examples(np.zeros((0, dimension), np.float32), rows, rows)


def fit_text_side(
    texts: list[str], vectors: "KeyedVectors", power: float = 1.0, table: CaptionWords | None = None
) -> TextEncoder:
    """Text encoder whose IDF and common direction come from these captions and from a table.

    The table counts as TABLE_CAPTIONS captions: it decides where there are few or none, and fades
    where there are many. One in another language than the word vectors' does not count. The common
    direction is that of the mean caption, summed over the words' counts.
    """
    frequencies: dict[str, float] = dict(count_documents(texts))
    total: float = len(texts)
    if table is not None and _speaks_of(table, vectors):
        share = TABLE_CAPTIONS / table.captions
        total += TABLE_CAPTIONS
        for word, count in zip(table.words, table.counts.tolist(), strict=True):
            frequencies[word] = frequencies.get(word, 0.0) + count * share
    weights = {word: inverse_frequency(total, n) for word, n in frequencies.items()}
    plain = TextEncoder(vectors, Idf(weights, total, power))
    mean = np.array([*frequencies.values()]) @ plain.word_embeddings([*frequencies])
    norm = np.linalg.norm(mean)
    direction = (mean / norm).astype(np.float32) if norm > 0 else None
    return TextEncoder(vectors, plain.idf, direction)


def _speaks_of(table: CaptionWords, vectors: "KeyedVectors") -> bool:
    known = np.array([word in vectors.key_to_index for word in table.words])
    return bool(table.counts[known].sum() > table.counts.sum() / 2)


def word_covariance(text: TextEncoder) -> np.ndarray:
    """(d, d) float64: covariance of one word of a caption, the words being drawn independently."""
    counts = {w: count for w, count in text.idf.document_frequencies().items() if text.knows(w)}
    frequencies = np.array([*counts.values()])
    vectors = text.word_embeddings([*counts]).astype(np.float64)
    return (vectors.T * frequencies) @ vectors / max(frequencies.sum(), 1e-12)


def match_captions(
    captions: Captions,
    index: DescriptorIndex,
    text: TextEncoder,
    matches: Matches | None = None,
    required: bool = True,
) -> Examples:
    """The captions whose image has a descriptor and of which a word is known, embedded.

    Images of the same bytes are one. `matches`: of these captions and this index, where they are
    known already. Raises BadInputError where no caption names an image and one is `required`, or
    none has a known word.
    """
    if matches is None:
        (matches,) = merge_copies(index, captions.match(index.images()))
    if required:
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
    pairs = [(rows[i], captions.texts[i]) for i in present[known]]
    places = {pair: place for place, pair in reversed([*enumerate(pairs)])}
    first = np.sort(np.fromiter(places.values(), np.int64))
    return Examples(
        embeddings[known][first],
        rows[present][known][first],
        present[known][first],
        len(rows) - len(present),
        int((~known).sum()),
        len(pairs) - len(first),
    )


def read_into_memory(read: ReadDescriptors, rows: np.ndarray) -> ReadDescriptors:
    """A reader of these sorted rows alone, which reads no file again."""
    descriptors = read(rows)
    return lambda chosen: descriptors[np.searchsorted(rows, chosen)]


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
class TrainingData:
    """Training and validation captions, and what is known besides."""

    training: Examples
    validation: Examples
    read: ReadDescriptors
    standardisation: Standardisation
    # Where the job itself held the validation images out, what wins is fitted once more on all.
    rejoin: bool = False
    prior: np.ndarray | None = None  # (D, d), see lib.embedder.prior
    word_covariance: np.ndarray | None = None  # (d, d), see the function of that name


@dataclass(frozen=True)
class Share:
    """One worker's part of the training images, standardised."""

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


def own_images(examples: Examples) -> np.ndarray:
    """Rows of this worker's images: of W workers, every W-th image that has captions."""
    rank, size = world()
    return examples.images[rank::size]


def load_share(
    examples: Examples,
    read: ReadDescriptors,
    standardisation: Standardisation,
    device: torch.device,
) -> Share:
    """This worker's images and captions."""
    mine = own_images(examples)
    kept = np.flatnonzero(np.isin(examples.rows, mine))
    kept = kept[np.argsort(examples.rows[kept], kind="stable")]
    inputs = torch.from_numpy(read(mine)).to(device)
    mean = torch.from_numpy(standardisation.mean).to(device)
    scale = torch.from_numpy(standardisation.scale).to(device)
    return Share(
        inputs.sub_(mean).mul_(scale),
        torch.from_numpy(examples.texts[kept]).to(device),
        torch.from_numpy(np.searchsorted(mine, examples.rows[kept])).to(device),
        mean,
        scale,
    )
