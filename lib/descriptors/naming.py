"""The ids that captions give to listed images."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from operator import attrgetter

from lib.datasets.captions import Captions
from lib.descriptors.external_sort import SpooledRows, sort_bounded
from lib.descriptors.store import named_images
from lib.images.listed import ListedImage


def name_by_captions(
    listing: Iterable[ListedImage],
    captions: Sequence[Captions],
    source: str,
    db: str,
    notes: list[str],
) -> Iterator[ListedImage]:
    """The images of a listing, in order of path, with the ids of their own that captions give them.

    An id that would stand for two images is given to neither. Raises BadInputError, before any
    image is described, where all captions of a file name images of neither the source nor `db`.
    """
    spool: SpooledRows[ListedImage] = SpooledRows()
    for image in sort_bounded(listing, key=attrgetter("path")):
        spool.append(image)

    def distinct() -> Iterator[tuple[str, str]]:
        for path, same in groupby(spool, key=attrgetter("path")):
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
    for row, (_, same) in enumerate(groupby(spool, key=attrgetter("path"))):
        if row in ids and len({image.uri for image in same}) > 1:
            shared.add(ids[row])
    if shared:
        notes.append(
            f"{len(shared)} ids of the captions stand for several images, such as {min(shared)}; "
            "these images are known by their path instead"
        )
    row, last = -1, None
    for image in spool:
        row, last = row + (image.path != last), image.path
        yield image._replace(image_id=ids[row]) if ids.get(row, "") not in ("", *shared) else image
