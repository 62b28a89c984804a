"""The first images of a collection on this machine, described while Ray starts.

Ray takes some seconds to start, and leaves a part of the cores idle. A process of its own uses it,
so that an image that takes its process down takes no run down: Ray's workers try it again. What the
process described is files of the database like all others; the run counts it and goes on there.
"""

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Event, Thread
from typing import NoReturn

import numpy as np

from lib.backbones.engines import Forms
from lib.backbones.kept import AnyBackbone, LazyBackbone, kept_graph
from lib.backbones.origin import Origin
from lib.cluster import PROJECT_ROOT, starts_here
from lib.datasets.captions import Captions
from lib.descriptors.calibration import choose_forms
from lib.descriptors.extractor import build_extractor
from lib.descriptors.shard_files import write_shard
from lib.descriptors.shards import ExtractionSettings, ShardReport, cut_shards
from lib.descriptors.store import shard_states
from lib.images.listing import ListedImage, Listing, whole
from lib.storage import absolute

_SHARD = 16  # images: the run waits for the one that is at work when Ray is up
_MOST_IMAGES = 10_000  # more are listed while they are described, see `lib.descriptors.extraction`
_LISTING_S = 2.0
_NICENESS = 10  # it works in the time that Ray leaves


@dataclass(frozen=True)
class Begun:
    """What a head start came to."""

    reports: list[ShardReport] = field(default_factory=list)
    seconds: float = 0.0  # that it described for
    forms: Forms | None = None  # that were chosen for the whole collection


class HeadStart:
    """A process that describes images of a folder into a database that has none."""

    def __init__(
        self, images: str, db: str, backbone: Future[AnyBackbone], settings: ExtractionSettings
    ) -> None:
        """Start the process, which imports what it needs meanwhile."""
        inherited = os.environ.get("PYTHONPATH")
        path = os.pathsep.join(filter(None, [str(PROJECT_ROOT), inherited]))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", f"from {__name__} import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is for the run, which ends this process
        )
        begin = partial(self._begin, images, db, backbone, settings)
        self._beginning = Thread(target=begin, daemon=True)
        self._beginning.start()

    def _begin(
        self, images: str, db: str, loading: Future[AnyBackbone], settings: ExtractionSettings
    ) -> None:
        """Tell the process what to do, if there is something for it."""
        if loading.exception() is not None or kept_graph(backbone := loading.result()) is None:
            return
        with suppress(OSError):  # the process is gone: all is done without it
            assert self._process.stdin is not None
            pickle.dump((images, absolute(db), backbone.origin, settings), self._process.stdin)
            self._process.stdin.flush()

    def end(self) -> Begun:
        """What the process came to, which ends with the shard that it is at."""
        self._beginning.join()
        result, _ = self._process.communicate()  # closes its input first
        with suppress(EOFError, pickle.UnpicklingError):  # it died: all is done without it
            begun: Begun = pickle.loads(result)
            return begun
        return Begun()

    def stop(self) -> None:
        """End the process now, if it has not ended."""
        self._process.kill()
        self._process.wait()


@contextmanager
def head_start(
    images: str,
    db: str,
    backbone: Future[AnyBackbone],
    settings: ExtractionSettings,
    captions: Sequence[Captions] = (),
) -> Iterator[HeadStart | None]:
    """One for the length of a `with` block.

    None where Ray is up or will run elsewhere, where images or database are not on this machine,
    and where captions say what images are called.
    """
    here = starts_here() and "://" not in images + db and Path(images).is_dir()
    if not here or captions or settings.shard_size is not None:
        yield None
        return
    started = HeadStart(images, db, backbone, settings)
    try:
        yield started
    finally:
        started.stop()


def _describe(
    images: str, db: str, origin: Origin, settings: ExtractionSettings, stopped: Callable[[], bool]
) -> Begun:
    """Describe images until there are no others, or it is stopped."""
    listing = Listing([whole(images)], settings.include_hidden)
    items = list(islice(listing.items(seconds=_LISTING_S), _MOST_IMAGES + 1))
    listed = sorted(item for item in items if isinstance(item, ListedImage))
    if shard_states(db) or listing.parts or not 0 < len(listed) == len(items) <= _MOST_IMAGES:
        return Begun()

    def sample(count: int) -> list[ListedImage]:
        rows = np.linspace(0, len(listed) - 1, count, dtype=int)
        return [listed[row] for row in np.unique(rows)]

    backbone = LazyBackbone(**vars(origin), load=_must_not_load)
    forms = choose_forms(backbone, settings.fidelity or "fast", len(listed), 1.0, sample)
    start = time.monotonic()
    extractor = build_extractor(origin, forms, backbone.loaded, "cpu", settings)
    reports = []
    for shard in cut_shards(enumerate(listed), _SHARD):
        if stopped():
            break
        reports.append(write_shard(db, shard, extractor.extract(shard.images)))
    return Begun(reports, time.monotonic() - start, forms)


def _must_not_load() -> NoReturn:
    raise AssertionError("PyTorch computes nothing here")


def main() -> None:
    """The process: reads from its input what to do, and writes to its output what came of it."""
    os.nice(_NICENESS)
    # Whatever libraries print goes where errors go.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        images, db, origin, settings = pickle.load(sys.stdin.buffer)
    except EOFError:
        return
    ended = Event()

    def watch() -> None:
        sys.stdin.buffer.read()  # until the run closes it, or is gone
        ended.set()

    Thread(target=watch, daemon=True).start()
    with answers, suppress(Exception):  # which the run meets again, and tells of
        pickle.dump(_describe(images, db, origin, settings, ended.is_set), answers)
