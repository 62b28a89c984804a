"""MS-COCO's official files: photographs and captions, in the official layout on disk."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.datasets.archives import read_remote_member, safe_path, unpack
from lib.datasets.download import (
    DownloadError,
    Downloads,
    RemoteFile,
    download,
    download_all,
    published,
)
from lib.errors import BadInputError
from lib.storage import write_bytes_atomic, write_json_atomic

OFFICIAL = "http://images.cocodataset.org"
# Sizes and SHA-256 as TensorFlow Datasets records them (url_checksums/coco_captions.txt); COCO
# itself publishes none, and serves no https.
_ANNOTATIONS = {
    "2014": (252_872_794, "031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009"),
    "2017": (252_907_541, "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268"),
}
_IMAGES = {
    "train2014": (
        13_510_573_713,
        "ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775",
    ),
    "val2014": (6_645_013_297, "fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0"),
    "train2017": (
        19_336_861_798,
        "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
    ),
    "val2017": (815_585_330, "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05"),
}
SPLITS = tuple(_IMAGES)
# Below this share of images that lack, they are fetched one by one, not with the whole zip.
_FEW = 0.05


@dataclass(frozen=True)
class PreparedCoco:
    """Where the files of a split are, and what fetching them took."""

    images: Path
    captions: Path
    image_count: int
    downloads: Downloads


def prepare_coco(
    split: str, directory: Path, limit: int | None = None, base_url: str | None = None
) -> PreparedCoco:
    """Bring images and captions of one of SPLITS below `directory`, as far as they are not there.

    With `limit`, only the first images by id: each through its `coco_url`, with a caption file of
    their own; of the annotations, only the captions are read out of the zip on the server.
    `base_url` names a mirror (see `download.published`). Raises DownloadError where something
    cannot be had; what came until then stays and is not fetched again.
    """
    captions = _prepare_captions(split, directory, limit is not None, base_url)
    document = _read_captions(captions)
    chosen = sorted(document["images"], key=lambda image: int(image["id"]))[:limit]
    if limit is not None:
        captions = _write_chosen(captions, document, chosen)
    downloads = _prepare_images(split, directory, chosen, limit, base_url)
    return PreparedCoco(directory / split, captions, len(chosen), downloads)


def _prepare_captions(
    split: str, directory: Path, only_captions: bool, base_url: str | None
) -> Path:
    name = f"annotations/captions_{split}.json"
    target = directory / name
    if target.exists():
        return target
    year = split[-4:]
    size, sha256 = _ANNOTATIONS[year]
    url = f"{OFFICIAL}/annotations/annotations_trainval{year}.zip"
    archive = directory / f"annotations_trainval{year}.zip"
    remote = published(url, archive, base_url, size, f"sha256:{sha256}")
    if only_captions and not archive.exists() and _copy_member(remote, name, target):
        return target
    download(remote)
    if not unpack(archive, directory, lambda member: member if member == name else None):
        raise BadInputError(f"{archive} holds no {name}")
    archive.unlink()
    return target


def _copy_member(remote: RemoteFile, name: str, target: Path) -> bool:
    """Read a few megabytes out of the zip where it lies; False where the server cannot do that."""
    for url in remote.urls:
        try:
            write_bytes_atomic(str(target), read_remote_member(url, name))
        except BadInputError:
            continue
        return True
    return False


def _read_captions(captions: Path) -> dict[str, Any]:
    try:
        document = json.loads(captions.read_bytes())
        for image in document["images"]:
            int(image["id"])
            if len(safe_path(image["file_name"], str(captions)).parts) != 1:
                raise ValueError(f"file_name {image['file_name']!r} is no plain name")
    except (ValueError, KeyError, TypeError) as error:
        raise BadInputError(
            f"{captions} is not COCO's caption file ({error!r}); remove it to have it fetched anew"
        ) from error
    return document


def _write_chosen(captions: Path, document: dict[str, Any], chosen: list[dict[str, Any]]) -> Path:
    target = captions.with_name(f"{captions.stem}_first{len(chosen)}.json")
    if target.exists():
        return target
    ids = {image["id"] for image in chosen}
    kept = [entry for entry in document["annotations"] if entry["image_id"] in ids]
    write_json_atomic(str(target), document | {"images": chosen, "annotations": kept})
    return target


def _prepare_images(
    split: str,
    directory: Path,
    chosen: list[dict[str, Any]],
    limit: int | None,
    base_url: str | None,
) -> Downloads:
    images = directory / split
    images.mkdir(parents=True, exist_ok=True)
    there = {entry.name for entry in images.iterdir()}
    missing = [image for image in chosen if image["file_name"] not in there]
    size, sha256 = _IMAGES[split]
    archive = directory / f"{split}.zip"
    one_by_one = limit is not None or len(missing) <= _FEW * len(chosen)
    if one_by_one:
        files = list(_single_images(missing, images, base_url))
    else:
        url = f"{OFFICIAL}/zips/{split}.zip"
        files = [published(url, archive, base_url, size, f"sha256:{sha256}")]
    done = download_all(files)
    if done.failures:
        reasons = list(done.failures.values())
        more = f" … and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        raise DownloadError(
            f"{len(reasons)} of {len(files)} files for {images} could not be fetched: "
            f"{'; '.join(reasons[:3])}{more}. A rerun fetches these only"
        )
    if not one_by_one:
        prefix = f"{split}/"
        unpack(archive, directory, lambda name: name if name.startswith(prefix) else None)
        archive.unlink()
    return done


def _single_images(
    missing: list[dict[str, Any]], images: Path, base_url: str | None
) -> Iterator[RemoteFile]:
    for image in missing:
        name = image["file_name"]
        url = f"{OFFICIAL}/{images.name}/{name}"
        remote = published(url, images / name, base_url)
        own_url = str(image.get("coco_url", ""))
        if base_url is None and own_url.startswith(("http://", "https://")) and own_url != url:
            remote = RemoteFile((own_url, url), images / name)
        yield remote
