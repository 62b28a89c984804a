"""What grows with the collection: generated rows, each step timed in a driver of its own.

python -m benchmarks.scale [--images 1000000] [--backbone test_vit] [--s3]

No pictures but one: descriptors are drawn. Of each step: seconds, seconds a million rows, and the
largest memory of the driver (Ray's tasks have processes of their own). The last step is what a user
does who has one picture more: a list of all names, the two jobs, imports and Ray's starts included.
With --s3 the database lies on an S3 server of this machine, which counts requests and bytes; it
answers one request after another, so that seconds say little there.
"""

import argparse
import dataclasses
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.s3 import KINDS, SIZES, running
from lib.backbones.backbone import load_backbone
from lib.embedder.model import Embedder
from lib.embedder.space import save_semantic_space
from lib.parquet import write_table_atomic
from lib.schemas import Provenance, descriptor_schema, vectors_to_column
from lib.storage import join
from lib.text.encoder import Idf, TextEncoder
from lib.text.word_vectors import PACKAGED, load_word_vectors, word_vectors_digest

FILE_ROWS = 50_000
CAPTIONED = 20_000


def names_of(first: int, count: int) -> tuple[list[str], list[str]]:
    """Paths and addresses of drawn images."""
    names = [f"folder/{number:010d}.jpg" for number in range(first, first + count)]
    return names, [f"s3://bucket/{name}" for name in names]


def write_descriptors(db: str, first: int, count: int, provenance: Provenance) -> None:
    """One descriptor file of drawn rows."""
    draw = np.random.default_rng(first)
    names, addresses = names_of(first, count)
    ids = pa.array(names)
    sides, lengths = (pa.array(np.full(count, 640, kind)) for kind in (np.int32, np.int64))
    size = (count, provenance.descriptor_size)
    vectors = vectors_to_column(draw.standard_normal(size, np.float32).astype(np.float16))
    nothing = pa.array([""] * count)
    columns = [ids, pa.array(addresses), ids, sides, sides, lengths, nothing, nothing, vectors]
    table = pa.table(columns, schema=descriptor_schema(provenance))
    write_table_atomic(table, join(db, "descriptors", f"{first:012d}.parquet"))


def write_list(file: Path, count: int, picture: Path) -> None:
    """All drawn images, and one that is there."""
    schema = pa.schema([("path", pa.string()), ("uri", pa.string())])
    with pq.ParquetWriter(file, schema) as writer:
        for first in range(0, count, FILE_ROWS):
            names = names_of(first, min(FILE_ROWS, count - first))
            writer.write_table(pa.table(list(names), schema=schema))
        writer.write_table(pa.table([["new.jpg"], [str(picture)]], schema=schema))


def save_embedder(db: str, provenance: Provenance) -> str:
    """A drawn embedder over the packaged word vectors; returns its digest."""
    vectors = load_word_vectors()
    matrix = np.random.default_rng(0).standard_normal((provenance.descriptor_size, 50), np.float32)
    words = {"source": PACKAGED, "digest": word_vectors_digest(vectors), "dimension": 50}
    metadata = {"descriptors": dataclasses.asdict(provenance), "word_vectors": words}
    embedder = Embedder(matrix, np.zeros(50, np.float32))
    return save_semantic_space(db, TextEncoder(vectors, Idf({}, 1)), embedder, metadata)


def embed(db: str) -> str:
    """What `jobs.embed_database` does."""
    from lib.database.embed import embed_database
    from lib.tasks import run_on_workers

    return f"{embed_database(db, run_on_workers).files_embedded} files embedded"


def train(db: str) -> str:
    """Fit an embedder to 20,000 images from all over the collection, of two drawn captions each."""
    import torch

    from lib.datasets.captions import CaptionedImage, Captions
    from lib.descriptors.store import index_descriptors
    from lib.embedder.fitting import FitSettings, fit
    from lib.embedder.preparation import prepare_from, sample_collection

    vectors = load_word_vectors()
    index = index_descriptors(db)
    chosen = np.linspace(0, len(index) - 1, CAPTIONED, dtype=np.int64)
    names = index.ids_of(chosen)
    ids = [name for name in names for _ in range(2)]
    words, random = vectors.index_to_key[100:2_000], Random(0)
    texts = [" ".join(random.choices(words, k=8)) for _ in ids]
    captions = Captions(ids, texts, {name: CaptionedImage(name) for name in names})
    prepared = prepare_from(sample_collection(index), captions, None, vectors, False, None)
    state = fit(prepared.data, FitSettings(epochs=3, patience=3), torch.device("cpu"))
    return f"{len(prepared.data.training.images):,} images, {len(state['history'])} epochs"


def open_version(db: str) -> str:
    """Open for searching; from half a million rows on the first one makes the mapped copy."""
    from lib.database.opening import open_database

    return f"{len(open_database(db)):,} images"


def remove(db: str) -> str:
    """Remove a hundred images from all over the collection."""
    from lib.database.manifest import read_manifest
    from lib.database.removal import remove_images

    count = sum(file.rows for file in read_manifest(db).files)
    ids = [names_of(count * number // 100, 1)[0][0] for number in range(100)]
    return f"{remove_images(db, ids).changed} images removed"


def compact(db: str) -> str:
    """What `jobs.compact_database` does."""
    from lib.database.compaction import compact_database
    from lib.tasks import run_on_workers

    report = compact_database(db, run=run_on_workers)
    return f"{report.files_before} files to {report.files_after}"


def poll(db: str) -> str:
    """Ask for a new version, as a service does."""
    from lib.database.manifest import latest_version, list_versions

    newest = list_versions(db)[-1]
    start = time.perf_counter()
    assert latest_version(db, newest) == newest
    return f"{1000 * (time.perf_counter() - start):.2f} ms"


def run_step(step: Callable[[str], str], db: str, answer: Connection) -> None:
    """Run a step in this process, and send its seconds, memory in MB, and what it says."""
    from lib.cluster import connect

    with connect() if step in (embed, compact) else nullcontext():
        start = time.perf_counter()
        said = step(db)
        seconds = time.perf_counter() - start
    # Not getrusage, whose maximum a new process inherits.
    status = Path("/proc/self/status").read_text()
    answer.send((seconds, int(status.partition("VmHWM:")[2].split()[0]) / 1024, said))


Counts = Callable[[], Counter[str]]


def measure(name: str, step: Callable[[str], str], db: str, images: int, counts: Counts) -> None:
    """Time a step in a new process, and print a line of the table."""
    before = counts()
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=run_step, args=(step, db, sender))
    process.start()
    sender.close()
    seconds, megabytes, said = receiver.recv()
    process.join()
    line(name, seconds, images, f"{megabytes:,.0f}", counts() - before, said)


def line(
    name: str, seconds: float, images: int, megabytes: str, asked: Counter[str], said: str
) -> None:
    """A line of the table."""
    figures = [f"{seconds:.2f}", f"{seconds / images * 1e6:.2f}", megabytes]
    requests = " ".join(f"{asked[kind]:,} {kind}" for kind in KINDS if asked[kind])
    read, written = (f"{asked[size] / 1e6:,.1f}" for size in SIZES)
    stored = [requests, read, written] if asked else []
    print("|", " | ".join([name, *figures, *stored, said]), "|", flush=True)


def one_more(db: str, directory: Path, images: int, backbone: str, counts: Counts) -> None:
    """Time the jobs that take in one picture beside `images` drawn ones, and print a line."""
    picture, listing = directory / "new.jpg", directory / "list.parquet"
    Image.effect_noise((320, 240), 50).convert("RGB").save(picture)
    write_list(listing, images, picture)
    extract = ["extract_descriptors", "--images", str(listing), "--db", db, "--store-as", "float16"]
    extract += ["--backbone", backbone, "--weights", "random"]
    before, start = counts(), time.perf_counter()
    for job in (extract, ["embed_database", "--db", db]):
        subprocess.run([sys.executable, "-m", f"jobs.{job[0]}", *job[1:]], check=True)
    seconds = time.perf_counter() - start
    line("one image more, by the jobs", seconds, images, "", counts() - before, "")


def build_and_measure(
    db: str, directory: Path, images: int, provenance: Provenance, counts: Counts
) -> None:
    """Build a database of drawn rows and run all steps; prints a table."""
    stored = " requests | MB read | MB written |" if counts() else ""
    print(f"\n{images:,} images, descriptors of {provenance.descriptor_size} values\n")
    print(f"| step | s | s a million | driver MB |{stored} |")
    print("| --- " * (5 + stored.count("|")) + "|", flush=True)
    for first in range(0, images, FILE_ROWS):
        write_descriptors(db, first, min(FILE_ROWS, images - first), provenance)
    save_embedder(db, provenance)
    measure("embed from nothing", embed, db, images, counts)
    measure("embed, nothing new", embed, db, images, counts)
    write_descriptors(db, images, 1, provenance)
    measure("embed, one image added", embed, db, images, counts)
    measure(f"train on {CAPTIONED:,} captioned images", train, db, images, counts)
    measure("poll", poll, db, images, counts)
    measure("open, the first time", open_version, db, images, counts)
    measure("open again", open_version, db, images, counts)
    measure("remove 100 images", remove, db, images, counts)
    measure("compact", compact, db, images, counts)
    measure("open what is compacted", open_version, db, images, counts)
    one_more(db, directory, images + 1, provenance.backbone, counts)


def main() -> None:
    """Run all steps for 1/10 of the images and for all."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--images", type=int, default=1_000_000)
    arguments.add_argument("--backbone", default="test_vit", help="default: one of 64 values")
    arguments.add_argument("--s3", action="store_true", help="the database lies on an S3 server")
    options = arguments.parse_args()
    provenance = load_backbone(options.backbone, "random").provenance("float16")
    for images in (options.images // 10, options.images):
        with (
            tempfile.TemporaryDirectory() as directory,
            running("scale") if options.s3 else nullcontext(Counter[str]) as counts,
        ):
            place = directory
            if options.s3:
                place = "s3://scale"
                os.environ["XDG_CACHE_HOME"] = directory  # of mapped copies
            build_and_measure(f"{place}/db", Path(directory), images, provenance, counts)


if __name__ == "__main__":
    main()
