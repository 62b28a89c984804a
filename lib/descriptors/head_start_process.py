"""The process of a head start, see `lib.descriptors.head_start`."""

import os
import pickle
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from threading import Event, Thread
from typing import NoReturn

import numpy as np

from lib.backbones.kept import LazyBackbone
from lib.backbones.origin import Origin
from lib.descriptors.calibration import choose_forms
from lib.descriptors.extractor import build_extractor
from lib.descriptors.head_start import Begun
from lib.descriptors.shard_files import write_shard
from lib.descriptors.shards import ExtractionSettings, cut_shards
from lib.descriptors.store import shard_states
from lib.images.listed import ListedImage
from lib.images.listing import Listing, whole

_SHARD = 8  # images: the run waits for the one that is at work when Ray is up
_MOST_IMAGES = 10_000  # more are listed while they are described, see `lib.descriptors.extraction`
_LISTING_S = 2.0
_NICENESS = 19  # it works in the time that Ray leaves


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
        # Until the run closes it, or is gone. A thread within sys.stdin's own `read` would hold a
        # lock that Python takes at its end, and aborts for.
        while os.read(0, 4096):
            pass
        ended.set()

    Thread(target=watch, daemon=True).start()
    with suppress(Exception), answers:  # which the run meets again, and tells of
        pickle.dump(_describe(images, db, origin, settings, ended.is_set), answers)


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
    forms = choose_forms(backbone, settings.fidelity, len(listed), 1.0, False, sample)
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


if __name__ == "__main__":
    main()
