"""A first embedder without any caption: the names of the classes that a network knows teach it.

The classifier's last layer gives each image probabilities p = softmax(logits / T) of its classes;
y, the p-weighted sum of the class names' text embeddings, is where the image belongs in the text
space (ConSE; Norouzi et al., ICLR 2014). Ridge regression from the descriptors onto y, over images
that need no captions, distils that into one matrix. Captions then fit only what is left; an
embedder from elsewhere takes the same place.
"""

from dataclasses import dataclass

import numpy as np
import torch

from lib.backbones.classes import classifier_head
from lib.backbones.kept import open_backbone
from lib.backbones.origin import PACKAGED
from lib.backbones.preparation import float32_engine
from lib.cores import usable_cores
from lib.descriptors.extractor import DescriptorExtractor
from lib.descriptors.store import DescriptorIndex, read_uris
from lib.embedder.dataset import Standardisation
from lib.embedder.space import SemanticSpace
from lib.errors import ImageSearchError, MissingError
from lib.images.decoding import ImageError
from lib.images.listed import ListedImage
from lib.images.reading import read_image
from lib.schemas import column_to_vectors, descriptor_schema
from lib.text.caption_words import CaptionWords
from lib.text.encoder import TextEncoder, tokenize, unit_rows

TEMPERATURE = 1.5  # T: an image shows more than its most probable class
RIDGE_LAMBDA = 1.0  # per image, of standardised descriptors
CLOSENESS = 15.0  # weight exp(CLOSENESS · cosine) of a caption word in explaining a class's name
LOOKED_AT = 2000  # images that another network looks at


@dataclass(frozen=True)
class Prior:
    """What is known before captions; predictions are (x - mean)·matrix, not whitened."""

    matrix: np.ndarray  # (D, d) float32
    source: str  # in words


@dataclass(frozen=True)
class Lesson:
    """Which classes some of the images at hand show."""

    places: np.ndarray  # (N,) int64, which of them
    logits: np.ndarray  # (N, C) float32
    names: list[str]  # C
    source: str  # in words


def class_targets(embeddings: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Where images belong by their classes; (N, d) float32 unit, centred before.

    embeddings: (C, d) of the classes' names; logits: (N, C).
    """
    directions = unit_rows(embeddings - embeddings.mean(axis=0))
    shares = np.exp((logits - logits.max(axis=1, keepdims=True)) / TEMPERATURE)
    targets = (shares / shares.sum(axis=1, keepdims=True)) @ directions
    return unit_rows(targets - targets.mean(axis=0)).astype(np.float32)


def class_embeddings(names: list[str], text: TextEncoder, table: CaptionWords) -> np.ndarray:
    """(C, d) float64 unit: half what a class's names say, half the company of words like them.

    A name is a list of synonyms, parted by commas. Those that captions use count; the others
    (Canis lupus) only where there is none. `golden retriever` is never in a caption that lacks
    the words of the scene, so the caption words nearest to it lend theirs.
    """
    own = _name_embeddings(names, text, set(table.words))
    held = [row for row in range(len(table.company)) if text.knows(table.words[row])]
    if not held:
        return own
    vectors = text.word_embeddings(table.words).astype(np.float64)
    company = np.einsum("ck,ckd->cd", table.together[held], vectors[table.company[held]])
    company = unit_rows(company + table.counts[held, None] * vectors[held])
    cosines = own @ unit_rows(vectors[held]).T
    weights = np.exp(CLOSENESS * (cosines - cosines.max(axis=1, keepdims=True)))
    return unit_rows(own + unit_rows(weights @ company))


def _name_embeddings(names: list[str], text: TextEncoder, known: set[str]) -> np.ndarray:
    words: list[str] = []
    synonym_of: list[int] = []  # of each word
    name_of: list[int] = []  # of each synonym
    for row, name in enumerate(names):
        synonyms = [
            [word for word in tokenize(synonym) if word in known and text.knows(word)]
            for synonym in name.split(",")
        ]
        if not any(synonyms):
            synonyms = [[word for word in tokenize(name) if text.knows(word)]]
        for synonym in synonyms:
            words += synonym
            synonym_of += [len(name_of)] * len(synonym)
            name_of.append(row)
    sums = np.zeros((len(name_of), text.dimension))
    np.add.at(sums, synonym_of, text.word_embeddings(words))
    embeddings = np.zeros((len(names), text.dimension))
    np.add.at(embeddings, name_of, unit_rows(sums))
    return unit_rows(embeddings)


def distil(standardised: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(D, d) float32 ridge solution of standardised descriptors (N, D) onto targets (N, d)."""
    inputs = torch.from_numpy(standardised).double()
    size = inputs.shape[1]
    penalty = RIDGE_LAMBDA * len(inputs) * torch.eye(size, dtype=torch.float64)
    cross = inputs.T @ torch.from_numpy(targets).double()
    return torch.linalg.solve(inputs.T @ inputs + penalty, cross).float().numpy()


def prior_of_classes(
    lesson: Lesson,
    descriptors: np.ndarray,
    standardisation: Standardisation,
    text: TextEncoder,
    table: CaptionWords,
) -> Prior:
    """Distil class names into a matrix, on the (N, D) descriptors that the lesson is of."""
    targets = class_targets(class_embeddings(lesson.names, text, table), lesson.logits)
    matrix = distil(standardisation(descriptors[lesson.places]), targets)
    return Prior(matrix * standardisation.scale[:, None], lesson.source)


def prior_of_embedder(space: SemanticSpace, source: str) -> Prior:
    """Another collection's embedder, its whitening undone."""
    matrix = space.embedder.matrix
    if space.whitening is not None:
        matrix = matrix @ np.linalg.inv(space.whitening)
    return Prior(matrix.astype(np.float32), source)


def teach_classes(
    index: DescriptorIndex, rows: np.ndarray, descriptors: np.ndarray, weights: str | None
) -> Lesson:
    """What classes the images of `rows` show, by the backbone's own classifier or another's.

    descriptors: (len(rows), D) of these images. weights: the backbone's, as in extraction. A
    backbone without class names (its last layer cut off, or a network of another kind) takes the
    packaged network as teacher, which looks at the images again, LOOKED_AT of them at most. Raises
    MissingError where that cannot be either.
    """
    provenance = index.provenance
    try:
        head = classifier_head(provenance.backbone, weights)
        if head.weights_digest != provenance.weights_digest:
            raise MissingError(
                f"the weights of {provenance.backbone} at hand are not those of the descriptors; "
                "give them: --weights FILE"
            )
    except ImageSearchError as error:
        reason = str(error)
    else:
        logits = descriptors @ head.weight + head.bias
        source = f"the class names of {provenance.backbone}"
        return Lesson(np.arange(len(rows)), logits, head.names, source)
    some = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), LOOKED_AT)).astype(np.int64))
    images = [
        ListedImage(uri, uri, -1, "", str(place))
        for place, uri in zip(some, read_uris(index.files, rows[some]), strict=True)
    ]
    try:
        read_image(images[0])
        head, teacher = classifier_head(PACKAGED), open_backbone(PACKAGED)
    except (ImageSearchError, ImageError) as error:
        raise MissingError(f"{reason}; and no other network can teach: {error}") from error
    print(f"{reason}; {PACKAGED} looks at {len(images)} images instead", flush=True)
    schema = descriptor_schema(teacher.provenance("float32"))
    extractor = DescriptorExtractor(
        float32_engine(teacher), teacher.preprocessing, schema, usable_cores()
    )
    seen = extractor.extract(images).descriptors
    if len(seen) < len(images) / 2:
        raise MissingError(f"{reason}; and most images can no longer be read")
    logits = column_to_vectors(seen["descriptor"]) @ head.weight + head.bias
    places = np.array(seen["image_id"].to_pylist(), np.int64)
    return Lesson(places, logits, head.names, f"the class names of {PACKAGED}, another network")
