"""The first images of a collection on this machine, described while Ray starts.

Ray takes some seconds to start, and leaves a part of the cores idle. A process of its own uses it,
so that an image that takes its process down takes no run down: Ray's workers try it again. What the
process described is files of the database like all others; the run counts it and goes on there.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from lib.cluster import import_path, starts_here
from lib.descriptors.shards import ExtractionSettings, ShardReport
from lib.storage import absolute

if TYPE_CHECKING:  # OpenVINO: Ray starts before it is imported
    from lib.backbones.engines import Forms
    from lib.backbones.kept import AnyBackbone
    from lib.datasets.captions import Captions


@dataclass(frozen=True)
class Begun:
    """What a head start came to."""

    reports: list[ShardReport] = field(default_factory=list)
    seconds: float = 0.0  # that it described for
    forms: "Forms | None" = None  # that were chosen for the whole collection


class HeadStart:
    """A process that describes images of a folder into a database that has none."""

    def __init__(
        self, images: str, db: str, backbone: "Future[AnyBackbone]", settings: ExtractionSettings
    ) -> None:
        """Start the process, which imports what it needs meanwhile."""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "lib.descriptors.head_start_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": import_path()},
            start_new_session=True,  # Ctrl-C is for the run, which ends this process
        )
        begin = partial(self._begin, images, db, backbone, settings)
        self._beginning = Thread(target=begin, daemon=True)
        self._beginning.start()

    def _begin(
        self, images: str, db: str, loading: "Future[AnyBackbone]", settings: ExtractionSettings
    ) -> None:
        """Tell the process what to do, if there is something for it."""
        from lib.backbones.kept import kept_graph

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

    def close(self) -> None:
        """End the process now, if it has not ended."""
        self._process.kill()
        self._process.wait()


@contextmanager
def head_start(
    images: str,
    db: str,
    backbone: "Future[AnyBackbone]",
    settings: ExtractionSettings,
    captions: Sequence["Captions"] = (),
) -> Iterator[HeadStart | None]:
    """One for the length of a `with` block.

    None where Ray is up or will run elsewhere, where images or database are not on this machine,
    where a GPU will do it, and where captions say what images are called.
    """
    # Unlike `Path.is_dir` this raises nothing: the run tells what is wrong with the name.
    folder = os.path.isdir(images)  # noqa: PTH112
    here = starts_here() and folder and "://" not in db
    here = here and not (_has_gpu() and settings.gpus_per_worker != 0)
    if not here or captions or settings.shard_size is not None:
        yield None
        return
    with closing(HeadStart(images, db, backbone, settings)) as started:
        yield started


def _has_gpu() -> bool:
    """Whether this machine has one, as far as can be said without PyTorch."""
    return any(Path("/dev").glob("nvidia[0-9]*"))
