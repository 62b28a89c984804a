"""How long data takes to load: word vectors of each kind, descriptors, downloads, a database.

python -m benchmarks.loading [--descriptors N] [--images N]
"""

import argparse
import multiprocessing
import os
import pickle
import resource
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from benchmarks import drawn_unit_rows
from benchmarks.serving import random_database
from lib.database.opening import open_database
from lib.datasets.download import RemoteFile, download
from lib.descriptors.import_formats import read_descriptor_file
from lib.descriptors.importing import import_descriptors
from lib.text.word_vectors import load_word_vectors


def measure(name: str, run: Callable[[], object]) -> None:
    """Print how long one call takes."""
    start = time.perf_counter()
    run()
    print(f"{name:<60} {time.perf_counter() - start:8.2f} s", flush=True)


def word_vectors(directory: Path) -> None:
    """The packaged vectors, and the same as a text file, parsed and from the cache."""
    measure("packaged GloVe 50d (400,000 words), mapped", load_word_vectors)
    text = str(directory / "glove.txt")
    load_word_vectors().save_word2vec_format(text, write_header=False)
    megabytes = os.path.getsize(text) / 1e6  # noqa: PTH202
    measure(f"GloVe text file of {megabytes:.0f} MB, first time", lambda: load_word_vectors(text))
    measure("the same again, from the cache", lambda: load_word_vectors(text))


def descriptors(directory: Path, count: int) -> None:
    """A pickle and a .npy of `count` descriptors of 512 values."""
    matrix = np.random.default_rng(0).normal(size=(count, 512)).astype(np.float32)
    (directory / "a.pkl").write_bytes(pickle.dumps({i: r[None] for i, r in enumerate(matrix)}))
    np.save(directory / "a.npy", matrix)
    (directory / "a.ids.txt").write_text("\n".join(map(str, range(count))))
    for name in ("a.pkl", "a.npy"):
        file, db = str(directory / name), str(directory / f"{name}.db")
        measure(
            f"import {count:,} descriptors from {name[1:]}",
            lambda file=file, db=db: import_descriptors(read_descriptor_file(file), db),  # type: ignore[misc]
        )


def database(directory: Path, images: int) -> None:
    """A random database opened twice and searched, with less memory than its embeddings take."""
    db = str(directory / "db")
    random_database(db, images)
    for name in ("the first time", "again"):
        measure(f"open {images:,} images {name}", lambda: open_database(db))
    process = multiprocessing.get_context("spawn").Process(target=search_in_little, args=(db,))
    process.start()
    process.join()


def search_in_little(db: str) -> None:
    """Search with half the memory that the embeddings take, beside what Python and torch need."""
    query = drawn_unit_rows(1, 50, 1)
    database = open_database(db)
    allowed = database.embeddings.nbytes // 2
    status = Path("/proc/self/status").read_text()
    own = int(status.split("VmData:")[1].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (own + allowed, resource.RLIM_INFINITY))
    for name in ("first", "second", "third"):
        measure(
            f"{name} search, embeddings {2 * allowed / 1e9:.1f} GB, memory {allowed / 1e9:.1f} GB",
            lambda: database.search_images(query, 10),
        )


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def downloads(directory: Path) -> None:
    """256 MB from this machine, digest included: what our side of a download costs."""
    (directory / "big.bin").write_bytes(np.random.default_rng(0).bytes(256_000_000))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(directory)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/big.bin"
    file = RemoteFile((url,), directory / "copy.bin", 256_000_000)
    measure("download 256 MB from this machine", lambda: download(file))
    server.shutdown()


def main() -> None:
    """Run all of it in a temporary directory."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--descriptors", type=int, default=40_000)
    arguments.add_argument("--images", type=int, default=10_000_000, help="of the database")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["XDG_CACHE_HOME"] = temporary
        word_vectors(Path(temporary))
        descriptors(Path(temporary), options.descriptors)
        downloads(Path(temporary))
        database(Path(temporary), options.images)


if __name__ == "__main__":
    main()
