"""Embedding the whole collection: a task for each descriptor file that is new, then one commit."""

import hashlib
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lib.database.manifest import (
    Manifest,
    ManifestFile,
    commit_version,
    describe_embeddings,
    embeddings_file,
    read_base,
    read_manifest,
    read_rows,
    write_embeddings,
)
from lib.database.tombstones import IDENTITY, Tombstones, with_digest
from lib.descriptors.store import parts_of, stored_files
from lib.embedder.model import Embedder
from lib.embedder.space import keep_embedder, load_semantic_space
from lib.errors import BadInputError, ConflictError, MissingError
from lib.parquet import read_table, whole_digest
from lib.progress import Progress
from lib.schemas import (
    Provenance,
    column_to_vectors,
    embedding_schema,
    require_same,
    vectors_to_column,
)
from lib.storage import StoredFile, absolute, digest_of, join, list_stored, sweep_temporary
from lib.tasks import Runner, run_here

_READERS = 16  # ends of files read at a time

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmbeddingReport:
    """What an embedding run did."""

    version: int
    images: int  # that can be searched
    removed: int  # rows that tombstones hide
    files: int
    files_embedded: int  # the rest were there, of this version or of a run that was killed


@dataclass(frozen=True)
class _Source:
    """A descriptor file."""

    name: str
    seen: str  # name and state, by which it is known again without being opened
    parts: tuple[str, ...]  # contents of the files that were merged into it, else its own

    @property
    def digest(self) -> str:
        """Of its rows, hexadecimal."""
        if len(self.parts) == 1:
            return self.parts[0]
        return hashlib.sha256("\n".join(self.parts).encode()).hexdigest()


def embed_database(db: str, run: Runner = run_here, check: bool = False) -> EmbeddingReport:
    """Embed every descriptor that the newest embedder has not embedded yet, and commit a version.

    What a descriptor file holds decides, not where it lies. Files of embeddings that are there are
    taken over: those of the last version, and those that a run finished before it was killed. One
    that is lost, or is not what was written, is embedded again; those whose size and time are as
    they were are taken as unchanged unless `check` asks to read them all. What other jobs commit
    meanwhile is built upon. A removed photo that comes again under another name stays removed.
    Raises MissingError where there are no descriptors, MismatchError where the embedder is for
    another backbone.
    """
    db = absolute(db)
    space = load_semantic_space(db, texts=False)
    keep_embedder(db, space.digest)
    for directory in ("embeddings", "versions", "embedder"):
        sweep_temporary(join(db, directory))
    shared = (space.embedder, space.provenance, space.digest, db)
    embedded = 0
    while True:
        base = read_base(db)
        kept, pending, broken = _plan(db, base, space.digest, run, check)
        known = {seen for file in base.files for seen in (*file.sources, *file.sources_seen)}
        tasks = [
            (
                source,
                not broken.isdisjoint(source.parts),
                known.isdisjoint((source.seen, *source.parts)),
            )
            for source in pending
        ]
        results = []
        with Progress(len(tasks), "files") as progress:
            for result in run(_embed_file, (*shared, base.tombstones), tasks):
                results.append(result)
                progress.advance(1)
        embedded += sum(anew for _, anew, _ in results)
        added = sorted((file for file, _, _ in results), key=lambda file: file.name)
        new = replace(base, embedder_digest=space.digest, files=(*kept, *added))
        renamed = {file.name: images for file, _, images in results if len(images)}
        if renamed:
            new = _keep_removed(db, base, new, renamed)
        with suppress(ConflictError):
            if not _committed(db, new):
                new = commit_version(db, new)
            if again := sorted(set(new.tombstones.image_ids) - set(base.tombstones.image_ids)):
                _log.warning(
                    "%d new images are photos that were removed under another name, such as %s; "
                    "they stay removed (jobs.remove_images --undo --id brings one back)",
                    len(again),
                    again[0],
                )
            hidden = sum(file.hidden for file in new.files)
            return EmbeddingReport(new.version, new.images, hidden, len(new.files), embedded)


def _keep_removed(db: str, base: Manifest, new: Manifest, renamed: dict[str, pa.Table]) -> Manifest:
    """The new version with tombstones for removed photos that came under another name.

    `renamed`: such rows by the file that they are in. A photo of which a copy was shown before is
    none: who removed a duplicate keeps the other, whatever that is called later.
    """
    digests = pa.concat_tables(renamed.values())["digest"].unique()
    shown: list[str] = []
    for file in base.files:
        with suppress(MissingError, BadInputError):  # what cannot be read was shown to nobody
            images = read_rows(db, file, IDENTITY)
            images = images.filter(pc.is_in(images["digest"], value_set=digests))
            visible = images.filter(pa.array(~base.tombstones.hides(images)))
            shown += visible["digest"].to_pylist()
    copies = pa.array(shown, pa.string())
    hidden = {
        name: images.filter(pc.invert(pc.is_in(images["digest"], value_set=copies)))
        for name, images in renamed.items()
    }
    files = [
        replace(file, hidden=file.hidden + len(hidden.get(file.name, ()))) for file in new.files
    ]
    tombstones = new.tombstones.with_rows(pa.concat_tables(hidden.values()))
    return replace(new, files=tuple(files), tombstones=tombstones)


def _committed(db: str, manifest: Manifest) -> bool:
    """Whether the newest version says what this one would, but for the times of files."""
    try:
        newest = read_manifest(db, manifest.version)
    except (MissingError, BadInputError):  # none, or one that is damaged, or an older program's
        return False
    return _timeless(newest) == _timeless(manifest)


def _timeless(manifest: Manifest) -> Manifest:
    files = (replace(file, state="", sources_seen=()) for file in manifest.files)
    return replace(manifest, files=tuple(files))


def _plan(
    db: str, base: Manifest, embedder_digest: str, run: Runner, check: bool
) -> tuple[list[ManifestFile], list[_Source], set[str]]:
    """Files to keep, descriptor files to embed, and contents whose embeddings are damaged."""
    sources = _sources(db, base)
    if not sources:
        raise MissingError(f"{db} has no descriptors; run jobs.extract_descriptors first")
    of_part = {part: source for source in sources for part in source.parts}
    usable = [
        file
        for file in base.files
        if base.embedder_digest == embedder_digest
        and file.sources
        and of_part.keys() >= set(file.sources)
    ]
    there = {file.name: file for file in list_stored(join(db, "embeddings"), ".parquet")}
    doubtful = [
        file
        for file in usable
        if file.name in there and (check or there[file.name].state != file.state)
    ]
    damaged = {name for name, whole in run(_is_whole, (db,), doubtful) if not whole}
    kept, broken = [], set[str]()
    for file in usable:
        if file.name in damaged:
            broken.update(file.sources)
        elif file.name in there:
            seen = tuple(of_part[part].seen for part in file.sources)
            kept.append(replace(file, state=there[file.name].state, sources_seen=seen))
    kept, pending = _whole_sources(kept, list(of_part.values()))
    return kept, pending, broken


def _whole_sources(
    kept: list[ManifestFile], sources: list[_Source]
) -> tuple[list[ManifestFile], list[_Source]]:
    """Files that hold whole sources, and the sources that no such file holds."""
    while True:
        done = {part for file in kept for part in file.sources}
        pending = {each.name: each for each in sources if not done.issuperset(each.parts)}
        anew = {part for each in pending.values() for part in each.parts}
        rest = [file for file in kept if anew.isdisjoint(file.sources)]
        if len(rest) == len(kept):
            return kept, list(pending.values())
        kept = rest


def _sources(db: str, base: Manifest) -> list[_Source]:
    """The descriptor files; one that was seen before in this state is not opened."""
    known: dict[str, tuple[str, ...]] = {}
    for file in base.files:
        for seen, part in zip(file.sources_seen, file.sources, strict=False):
            known[seen] = (*known.get(seen, ()), part)

    def source(file: StoredFile) -> _Source:
        seen = f"{file.name} {file.state}"
        parts = known.get(seen) or parts_of(join(db, "descriptors", file.name))
        return _Source(file.name, seen, parts)

    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(source, stored_files(db, "descriptors")))


def _is_whole(db: str, file: ManifestFile) -> tuple[str, bool]:
    """Name of a file of embeddings, and whether it holds what was written."""
    try:
        return file.name, digest_of(embeddings_file(db, file.name)) == file.digest
    except MissingError:
        return file.name, False


def _embed_file(
    embedder: Embedder,
    provenance: Provenance,
    digest: str,
    db: str,
    tombstones: Tombstones,
    task: tuple[_Source, bool, bool],
) -> tuple[ManifestFile, bool, pa.Table]:
    """The embeddings of a descriptor file, whether they were embedded now, and, where the last
    version did not know the file, those of its images that were removed under another name."""
    source, broken, unknown = task
    stem = source.name.removesuffix(".parquet")
    name = f"{stem}-{digest[:8]}-{source.digest[:16]}.parquet"
    fields = {"sources": source.parts, "sources_seen": (source.seen,) * len(source.parts)}
    try:
        if broken:
            raise MissingError(name)
        url = embeddings_file(db, name)
        written, table = whole_digest(url), read_table(url)
        file, anew = describe_embeddings(db, name, table, written, **fields), False
    except (MissingError, BadInputError):
        table = _embed(embedder, provenance, digest, join(db, "descriptors", source.name))
        file, anew = write_embeddings(db, name, table, **fields), True
    renamed = tombstones.renamed(table)
    file = replace(file, hidden=int(tombstones.hides(table).sum()))
    return file, anew, renamed if unknown else renamed.slice(0, 0)


def _embed(embedder: Embedder, provenance: Provenance, digest: str, source: str) -> pa.Table:
    table = with_digest(read_table(source))
    require_same(
        f"the embedder's backbone and the descriptors in {source}",
        provenance,
        Provenance.from_schema(table.schema, source),
        "Train anew with jobs.train_embedder",
    )
    descriptors = column_to_vectors(table["descriptor"]).astype(np.float32, copy=False)
    embeddings = embedder.se_image(descriptors)
    schema = embedding_schema(embeddings.shape[1], {b"embedder_digest": digest.encode()})
    columns = [table[field.name] for field in schema if field.name != "embedding"]
    return pa.table([*columns, vectors_to_column(embeddings)], schema=schema)
