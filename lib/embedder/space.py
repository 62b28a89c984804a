"""A trained semantic space, text side and image side together, and the file that stores it."""

import dataclasses
import hashlib
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from lib.descriptors.store import DescriptorIndex, index_descriptors
from lib.embedder.model import Embedder
from lib.errors import BadInputError, MismatchError, MissingError
from lib.schemas import Provenance, require_same
from lib.storage import exists, join, read_bytes, write_bytes_atomic
from lib.text.encoder import Idf, TextEncoder
from lib.text.query import embed_query
from lib.text.word_vectors import load_word_vectors, word_vectors_digest

if TYPE_CHECKING:  # gensim brings scipy.stats along, a second that not every process needs
    from gensim.models import KeyedVectors

FORMAT_VERSION = 1


@dataclass(frozen=True)
class SemanticSpace:
    """What `DB/embedder/embedder.npz` holds, together with the word vectors it was trained on."""

    text: TextEncoder
    embedder: Embedder
    digest: str  # see `space_digest`
    metadata: dict[str, Any]
    # (d, d): what M was multiplied by last (see lib.embedder.ridge), for those who train on.
    whitening: np.ndarray | None = None
    prior: Embedder | None = None  # what was known before captions, to compare with

    @property
    def provenance(self) -> Provenance:
        """What made the descriptors that the embedder takes."""
        return Provenance(**self.metadata["descriptors"])

    def require_fits(self, provenance: Provenance, source: str) -> None:
        """Raise MismatchError unless the embedder takes descriptors of this origin.

        Backbone, weights, preprocessing and size must be the same; the precision in which
        descriptors are stored need not be. `source` names the embedder in the message.
        """
        own = self.provenance
        for field in dataclasses.fields(Provenance):
            mine, other = (getattr(side, field.name) for side in (own, provenance))
            if field.name != "precision" and mine != other:
                raise MismatchError(
                    f"the embedder {source} does not fit these descriptors: its "
                    f"{field.name.replace('_', ' ')} is {mine!r}, theirs {other!r}. Extract them "
                    "as the embedder's were, or train one here: jobs.train_embedder"
                )

    def se_text(self, text: str) -> np.ndarray:
        """Semantic embedding of a query of the whole language, (d,) float32 unit; see
        `lib.text.query.embed_query`.
        """
        return embed_query(self.text, text).embedding

    def se_image(self, descriptors: np.ndarray) -> np.ndarray:
        """Semantic embeddings of descriptors, (N, d) float32 unit; see Embedder.se_image."""
        return self.embedder.se_image(descriptors)


def embedder_file(db: str, digest: str = "embedder") -> str:
    """Where a database keeps its embedder: the last that was trained, or the one of a digest."""
    return join(db, "embedder", f"{digest}.npz")


def space_digest(text: TextEncoder, embedder: Embedder, word_vectors: str) -> str:
    """SHA-256, hexadecimal, of all that decides an embedding, and of nothing else.

    M, b, IDF with its power, the common direction, and the digest of the word vectors: two
    trainings that came to the same embedder have the same digest, whenever they ran.
    """
    digest = hashlib.sha256(word_vectors.encode())
    digest.update(np.array([text.idf.document_count, text.idf.power]).tobytes())
    for word, value in sorted(text.idf.weights.items()):
        digest.update(f"{word}\n{value!r}\n".encode())
    for array in (text.common_direction, embedder.matrix, embedder.bias):
        if array is not None:
            digest.update(
                np.ascontiguousarray(array, np.float32).tobytes() + str(array.shape).encode()
            )
    return digest.hexdigest()


def save_semantic_space(
    db: str,
    text: TextEncoder,
    embedder: Embedder,
    metadata: dict[str, Any],
    whitening: np.ndarray | None = None,
    prior: Embedder | None = None,
) -> str:
    """Write the embedder file of a database in one atomic write; returns its digest.

    `metadata` must hold "descriptors" (the fields of Provenance) and "word_vectors" (source,
    digest, dimension); what else it holds is kept for the reader.
    """
    common = np.zeros(text.dimension) if text.common_direction is None else text.common_direction
    recorded = {
        **metadata,
        "format_version": FORMAT_VERSION,
        "idf_document_count": text.idf.document_count,
        "idf_power": text.idf.power,
    }
    arrays: dict[str, np.ndarray] = {
        "M": np.ascontiguousarray(embedder.matrix, np.float32),
        "b": np.asarray(embedder.bias, np.float32),
        "common_direction": common.astype(np.float32),
        "idf_words": np.frombuffer("\n".join(text.idf.weights).encode(), np.uint8),
        "idf_values": np.array([*text.idf.weights.values()], np.float64),
        "metadata": np.frombuffer(json.dumps(recorded, sort_keys=True).encode(), np.uint8),
    }
    if whitening is not None:
        arrays["whitening"] = whitening.astype(np.float32)
    if prior is not None:
        arrays |= {"prior_M": np.ascontiguousarray(prior.matrix), "prior_b": prior.bias}
    sink = io.BytesIO()
    np.savez_compressed(sink, allow_pickle=False, **arrays)
    write_bytes_atomic(embedder_file(db), sink.getbuffer())
    return space_digest(text, embedder, metadata["word_vectors"]["digest"])


def keep_embedder(db: str, digest: str) -> None:
    """Keep the newest embedder, of this digest, under a name that a later training leaves alone."""
    content, kept = read_bytes(embedder_file(db)), embedder_file(db, digest)
    if not exists(kept) or read_bytes(kept) != content:
        write_bytes_atomic(kept, content)


def load_semantic_space(
    source: str,
    word_vectors: "str | KeyedVectors | None" = None,
    digest: str | None = None,
    texts: bool = True,
) -> SemanticSpace:
    """The embedder of a database, or of a file or URL that ends in `.npz`, with its text side.

    digest: of the one that a version of the database names; None takes the last that was trained.
    word_vectors: a file or vectors already loaded; None takes the source that training recorded.
    texts: False where images alone are embedded: no word vectors are looked for then.
    Raises MissingError before training, BadInputError where the file is damaged or none of an
    embedder, MismatchError where it has another digest, or was trained with other word vectors.
    """
    is_file = urlsplit(source).path.endswith(".npz")
    url = source if is_file else embedder_file(source)
    restoring = "jobs.train_embedder"
    if digest is not None and exists(embedder_file(source, digest)):  # an older program kept one
        url, restoring = embedder_file(source, digest), "jobs.embed_database"
    try:
        content = read_bytes(url)
    except MissingError as error:
        remedy = "name an embedder's file" if is_file else "run jobs.train_embedder first"
        raise MissingError(f"{url} is not there; {remedy}") from error
    except BadInputError as error:
        raise BadInputError(
            f"{source} is neither a database nor an embedder's file, whose name ends in .npz"
        ) from error
    try:
        if content[:2] != b"PK":  # numpy would advise to run any code that is in the file
            raise ValueError("not a .npz file")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        metadata = json.loads(arrays["metadata"].tobytes())
        words = (
            arrays["idf_words"].tobytes().decode().split("\n") if len(arrays["idf_words"]) else []
        )
        weights = dict(zip(words, arrays["idf_values"].tolist(), strict=True))
        idf = Idf(weights, metadata["idf_document_count"], metadata.get("idf_power", 1.0))
        embedder = Embedder(arrays["M"], arrays["b"])
        common, recorded = arrays["common_direction"], metadata["word_vectors"]
        prior = None
        if "prior_M" in arrays:
            prior = Embedder(arrays["prior_M"], arrays["prior_b"])
        version = metadata["format_version"]
    except Exception as error:
        raise BadInputError(
            f"{url} is damaged, or no embedder ({error!r}); write it anew with {restoring}"
        ) from error
    if version != FORMAT_VERSION:
        raise MismatchError(
            f"{url} has format version {version} and this program reads {FORMAT_VERSION}; "
            "run jobs.train_embedder again"
        )
    if texts:
        vectors = _word_vectors(url, word_vectors, recorded)
    else:
        from gensim.models import KeyedVectors

        vectors = KeyedVectors(recorded["dimension"])
    encoder = TextEncoder(vectors, idf, common if common.any() else None)
    if digest != hashlib.sha256(content).hexdigest():  # by which an older program named it
        own = space_digest(encoder, embedder, recorded["digest"])
        remedy = "Run jobs.embed_database"
        require_same("the embedder and the embeddings of the database", own, digest or own, remedy)
        digest = own
    return SemanticSpace(encoder, embedder, digest, metadata, arrays.get("whitening"), prior)


def load_with_descriptors(
    db: str, word_vectors: str | None = None
) -> tuple[SemanticSpace, DescriptorIndex]:
    """The embedder of a database, and its descriptors, of which it must be.

    Raises MismatchError where it is of others, and what loading either raises.
    """
    space, index = load_semantic_space(db, word_vectors), index_descriptors(db)
    require_same(
        "the origins of the embedder's and the database's descriptors",
        space.provenance,
        index.provenance,
        "Train anew with jobs.train_embedder",
    )
    return space, index


def adopt_embedder(
    db: str, source: str, word_vectors: "str | KeyedVectors | None" = None
) -> SemanticSpace:
    """Make the embedder of another database, of a file or of a URL that of this database.

    The text side travels with it, so what it was trained on need not be here; word vectors that are
    given are compared with those of training. Raises MismatchError unless the database's
    descriptors come from the same backbone, weights and preprocessing, and as `load_semantic_space`
    does.
    """
    space = load_semantic_space(source, word_vectors, texts=word_vectors is not None)
    provenance = index_descriptors(db).provenance
    space.require_fits(provenance, source)
    metadata = {**space.metadata, "descriptors": dataclasses.asdict(provenance), "from": source}
    save_semantic_space(db, space.text, space.embedder, metadata, space.whitening, space.prior)
    return dataclasses.replace(space, metadata=metadata)


def _word_vectors(
    url: str, word_vectors: "str | KeyedVectors | None", recorded: dict[str, Any]
) -> "KeyedVectors":
    """Those asked for, else those of training. Raises MismatchError where the two differ."""
    if word_vectors is None:
        name = recorded["source"]
        try:
            vectors = load_word_vectors(name)
        except MissingError as error:
            raise MissingError(
                f"the word vectors {name}, with which {url} was trained, are not there; name them "
                "with --word-vectors FILE"
            ) from error
    elif isinstance(word_vectors, str):
        name, vectors = word_vectors, load_word_vectors(word_vectors)
    else:
        name, vectors = "those given", word_vectors
    remedy = (
        f"Name the word vectors of training with --word-vectors ({recorded['source']}), or train "
        "for the new ones with jobs.train_embedder --word-vectors FILE"
    )
    if vectors.vector_size != recorded["dimension"]:
        raise MismatchError(
            f"the embedder {url} and the word vectors {name} disagree: it was trained with "
            f"{recorded['dimension']} dimensions, they have {vectors.vector_size}. {remedy}"
        )
    digest = word_vectors_digest(vectors)
    if digest != recorded["digest"]:
        raise MismatchError(
            f"the embedder {url} and the word vectors {name} disagree: it was trained with other "
            f"values (SHA-256 {recorded['digest'][:12]}…, these have {digest[:12]}…). {remedy}"
        )
    return vectors
