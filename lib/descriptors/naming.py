"""The ids that captions give to listed images."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain, groupby
from operator import attrgetter

from lib.datasets.captions import Captions
from lib.descriptors.store import named_images
from lib.errors import ImageSearchError
from lib.images.listed import ListedImage


def name_by_captions(
    listing: Iterable[ListedImage],
    captions: Sequence[Captions],
    source: str,
    db: str,
    notes: list[str],
) -> Iterator[ListedImage]:
    """The images of a listing, in order of path, with the ids of their own that captions give them.

    An id that would stand for two images is given to neither, and images that `db` has keep theirs;
    `notes` tells. Raises BadInputError, before any image is described, where all captions of a file
    name images of neither the source nor `db`.
    """
    with _sorted(listing) as images:

        def by_path() -> Iterator[tuple[str, Iterator[ListedImage]]]:
            return groupby(images(), key=attrgetter("path"))

        def distinct() -> Iterator[tuple[str, str]]:
            for path, same in by_path():
                yield next(same).image_id, path

        ids: dict[int, str] = {}
        for part in captions:
            matches = part.match(distinct())
            if not matches.rows:  # they may be those of images that came from another source
                part.require_a_match(part.match(chain(distinct(), named_images(db))), source)
            notes += part.matching_notes(matches)
            for image_id, row in matches.rows.items():
                if part.images[image_id].file_name != image_id:
                    ids.setdefault(row, image_id)
        uses = Counter(ids.values())
        for row, (image_id, _) in enumerate(distinct()):
            if row not in ids and image_id in uses:
                uses[image_id] += 1
        shared = {image_id for image_id, count in uses.items() if count > 1}
        told: dict[str, str] = {}  # path → id
        for row, (path, same) in enumerate(by_path()):
            if row in ids:
                told[path] = ids[row]
                if len({image.uri for image in same}) > 1:
                    shared.add(ids[row])
        if shared:
            notes.append(
                f"{len(shared)} ids of the captions stand for several images, such as "
                f"{min(shared)}; these images are known by their path instead"
            )
        told = {path: image_id for path, image_id in told.items() if image_id not in shared}
        others = [known for known, path in named_images(db) if told.get(path, known) != known]
        if others:
            notes.append(
                f"{len(others)} images were described under other ids than those of the captions, "
                f"such as {others[0]}, and keep them; with another --db they get the captions' ids"
            )
        for image in images():
            yield image._replace(image_id=told.get(image.path, image.image_id))


@contextmanager
def _sorted(listing: Iterable[ListedImage]) -> Iterator[Callable[[], Iterator[ListedImage]]]:
    """What reads the images in order of path, from a temporary file: they may exceed memory."""
    with closing(sqlite3.connect("")) as table:
        try:
            table.execute(f"CREATE TABLE unsorted ({', '.join(ListedImage._fields)})")
            table.executemany("INSERT INTO unsorted VALUES (?, ?, ?, ?, ?)", listing)
            table.execute("CREATE TABLE listed AS SELECT * FROM unsorted ORDER BY path, rowid")
        except sqlite3.OperationalError as error:
            raise ImageSearchError(f"the listing cannot be sorted on disk: {error}") from error
        read = "SELECT * FROM listed ORDER BY rowid"
        yield lambda: map(ListedImage._make, table.execute(read))
