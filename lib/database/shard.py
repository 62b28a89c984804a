"""Part of a database version in a process of its own, for whoever asks that process."""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from lib.cores import usable_cores
from lib.database.interface import Filter, Hits, Image, NotLoadedError, UnknownImageError
from lib.database.local import LocalCollection
from lib.database.manifest import Manifest, ManifestFile
from lib.database.opening import load_version

KEPT_S = 20.0  # a version that nobody has asked for in so long is let go


@dataclass
class _Held:
    version: LocalCollection
    asked: float  # when it last was


class Shard:
    """Some files of one version of a database, or of two while a new one is taken up.

    Several front ends may share it: each names what it asks by a key, loads what is not there,
    and asks again and again; what nobody asks for any more is let go, the last one never.
    """

    def __init__(self) -> None:
        import torch  # who asks a shard imports this module, too, and needs it not

        torch.set_num_threads(usable_cores())  # Ray allows an actor without CPUs one
        self._loading = threading.Lock()
        self._held: dict[str, _Held] = {}

    def load(self, key: str, db: str, manifest: Manifest, files: list[ManifestFile]) -> int:
        """Be ready to search a version; returns the number of images. See `load_version`."""
        # Not in __init__, where Ray would hide the type of an error.
        with self._loading:
            if key not in self._held:
                version = load_version(db, manifest, files)
                version.prepare()
                self._held[key] = _Held(version, time.monotonic())
            return self.ready(key)

    def ready(self, key: str) -> int:
        """Number of images of a version. Raises NotLoadedError."""
        count = len(self._version(key))
        for other, held in list(self._held.items()):
            if other != key and time.monotonic() - held.asked > KEPT_S:
                self._held.pop(other, None)
        return count

    def search_images(
        self, key: str, query_embeddings: np.ndarray, k: int, image_filter: Filter | None
    ) -> Hits:
        """See `Collection.search_images`. Raises NotLoadedError."""
        return self._version(key).search_images(query_embeddings, k, image_filter)

    def look_up_all(
        self, key: str, image_ids: Sequence[str]
    ) -> dict[str, tuple[Image, np.ndarray]]:
        """Those of the images that lie here, with their embeddings. Raises NotLoadedError."""
        version, known = self._version(key), {}
        for image_id in image_ids:
            with suppress(UnknownImageError):
                known[image_id] = version.look_up(image_id)
        return known

    def _version(self, key: str) -> LocalCollection:
        held = self._held.get(key)
        if held is None:
            raise NotLoadedError(key)
        held.asked = time.monotonic()
        return held.version
