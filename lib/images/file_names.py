"""What a name says: an image, a kind of picture that is not read, or not meant at all."""

import posixpath
import re
from collections import Counter
from dataclasses import dataclass

from lib.images.decoding import HEIF_IS_READ
from lib.images.listed import valid_text

ENDINGS = frozenset(
    """
    .jpg .jpeg .jpe .jfif .jif .pjpeg .pjp .mpo .png .apng .gif .bmp .dib .webp .tif .tiff .avif
    .avifs .jp2 .j2k .j2c .jpf .jpx .jpc .ico .icns .pnm .ppm .pgm .pbm .pfm .tga .dds .psd .pcx
    .sgi .rgb .bw .qoi
    """.split()  # noqa: SIM905
) | ({".heic", ".heif", ".hif"} if HEIF_IS_READ else set())  # fmt: skip

# Pictures and films of other kinds, and files that may hold some, so that a run says how many it
# did not read. Archives and tables are opened, but not those inside of archives.
PHOTOS_UNREAD = frozenset(
    """
    .heic .heif .hif .heics .jxl .3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .gpr .iiq .k25 .kdc .mef
    .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2 .rwl .sr2 .srf .srw .x3f
    """.split()  # noqa: SIM905
)  # fmt: skip
UNREAD = PHOTOS_UNREAD | frozenset(
    """
    .jps .insp .livp .svg .svgz .eps .ai .pdf .exr .hdr .psb .xcf .kra .wdp .jxr .djvu .emf .wmf
    .fits .dcm .mov .mp4 .m4v .avi .mkv .webm .3gp .mts .m2ts .wmv .mpg .mpeg .mp .3g2 .flv .ogv
    .vob .lrv .insv .arrow .tfrecord .tfrecords .h5 .hdf5 .mdb .rec .parquet .zip .tar .gz .tgz .bz2
    .xz .zst .7z .rar .cbz .cbr .iso .dmg .warc .npy .npz .pkl .pickle .mat .lmdb .feather .sqlite
    """.split()  # noqa: SIM905
)  # fmt: skip
_REMEDIES = {
    "hidden": "--include-hidden takes them",
    "placeholders of iCloud": "download them",
    "keys that end in a slash": "copy those that are images to other names",
    "images written as text (base64)": "decode them, into a column of bytes in Parquet",
    "names without an ending": "write the paths of images among them into a .txt, and give that",
    "paths on a Windows machine": "write them relative to the list, beside the pictures here",
    **dict.fromkeys((".heic", ".heif", ".hif"), "pip install pillow-heif"),
    **dict.fromkeys(
        ".parquet .zip .tar .gz .tgz .bz2 .xz .zst .7z .rar .cbz .cbr .iso .dmg .warc".split(),  # noqa: SIM905
        "unpack them",
    ),
    **dict.fromkeys(
        """
        .arrow .tfrecord .tfrecords .h5 .hdf5 .mdb .rec .npy .npz .pkl .pickle .mat .lmdb .feather
        .sqlite
        """.split(),  # noqa: SIM905
        "save its images as files or their bytes in Parquet",
    ),
}
_UNREADABLE = "unreadable "
_SHOWN = 3  # of the names of unreadable folders and archives

# Left by macOS, Windows, Synology, QNAP, Linux, and by what makes thumbnails or synchronises.
_LEFT_BEHIND = frozenset(
    (
        *("__macosx", "temporary items", "network trash folder"),
        *("$recycle.bin", "recycler", "recycled", "system volume information", "found.000"),
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "lost+found", "lost.dir"),
        *("#recycle", "#snapshot", "@eadir", "@recycle", "@recently-snapshot", "@tmp", "@sharebin"),
        *("files_trashbin", "files_versions"),  # Nextcloud's
    )
)
_LIBRARIES = re.compile(r"\.(photoslibrary|photolibrary|aplibrary|migratedphotolibrary)/", re.I)
_DERIVED = re.compile(
    r"/(resources|thumbnails|previews|database|private|scopes|attachments)/", re.I
)
# Controls, ends of lines, and what turns the direction of writing.
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
# photo.jpg?w=200, photo.jpg_large, photo.jpg~, photo.jpg.1, photo.jpg.part: by downloads, editors
# and backups.
_LONGER = re.compile(
    r"\.([^\W_]+)(?:(?:_|[^\w./])[^./]*"
    r"|\.(?:\d*|part|partial|crdownload|download|icloud|bak|old|orig|tmp))$",
    re.IGNORECASE,
)
_CONFLICT = re.compile(r"\.sync-conflict-\d{8}-|\(.*conflicted copy.*\)|_conflict-\d{8}-", re.I)


def ending(name: str) -> str:
    """The ending of a file name in small letters, with its dot; empty where it has none."""
    return posixpath.splitext(name)[1].lower()


def is_image(name: str) -> bool:
    """Whether a file of this name is taken for an image."""
    return ending(name) in ENDINGS


def printable(text: str) -> str:
    """A text on one line, with what steers a terminal as `\\x1b`; names of files may hold that."""
    return _STEERING.sub(lambda sign: sign[0].encode("unicode_escape").decode(), text)


def left_out_as(name: str) -> str:
    """As what a file counts that is no image by its name; empty where it is no picture or film."""
    kind = ending(name)
    if kind in UNREAD:
        return kind
    if not kind:  # a store may keep a folder as an empty file whose name ends in a slash
        return "" if name.endswith("/") else "names without an ending"
    longer = _LONGER.search(name)
    known = f".{longer[1]}".lower() if longer else ""
    return f"names that go on after {known}" if known in ENDINGS or known in UNREAD else ""


def is_hidden(path: str, source: str = "") -> bool:
    """Whether a path below a source leads to what systems, viewers and sync tools leave behind.

    Hidden files and folders, recycle bins, thumbnails and previews, and copies made in conflict.
    """
    if _CONFLICT.search(path):
        return True
    whole = f"{posixpath.basename(source)}/{path}"  # the source itself may be a library
    inside = _LIBRARIES.search(whole)
    if inside and _DERIVED.search(whole, inside.end() - 1):
        return True
    return any(
        part[:1] in (".", "~") or part.lower() in _LEFT_BEHIND or part.lower().endswith(".lrdata")
        for part in path.split("/")
        if part not in ("", ".", "..")
    )


def unreadable_ones(skipped: Counter[str]) -> list[str]:
    """What was counted by `LeftOut.add_unreadable`."""
    return [what for what in skipped if what.startswith(_UNREADABLE)]


def remedy_of(kind: str) -> str:
    """What to do to have images of a kind that is left out; empty where there is nothing to say."""
    return _REMEDIES.get("names without an ending" if kind.startswith("names ") else kind, "")


def skipped_in_words(skipped: Counter[str]) -> str:
    """`12 hidden (--include-hidden takes them), 3 .mov`, the most frequent first."""
    unread = unreadable_ones(skipped)
    words = [
        f"{count:,} {what}" + (f" ({remedy})" if (remedy := remedy_of(what)) else "")
        for what, count in skipped.most_common()
        if not what.startswith(_UNREADABLE)
    ]
    more = len(unread) - _SHOWN
    rest = [f"{more:,} more that are unreadable (--json names them)"] if more > 0 else []
    return ", ".join([*words, *unread[:_SHOWN], *rest])


@dataclass
class LeftOut:
    """What a listing leaves out, counted by kind."""

    skipped: Counter[str]
    include_hidden: bool

    def hides(self, path: str, source: str = "") -> bool:
        """Whether a path below a source is left out by what it leads to, see `is_hidden`."""
        if self.include_hidden or not is_hidden(path, source):
            return False
        evicted = path.endswith(".icloud")  # .IMG_1.HEIC.icloud
        self.skipped["placeholders of iCloud" if evicted else "hidden"] += 1
        return True

    def takes_member(self, name: str) -> bool:
        """Whether a member of an archive is an image."""
        if self.hides(name):
            return False
        if is_image(name):
            return True
        self.add_other(name)
        return False

    def add_other(self, name: str) -> None:
        """Count a file that is no image by its name, if it is one to tell of."""
        if kind := left_out_as(name):
            self.skipped[kind] += 1

    def add_unreadable(self, name: str, error: Exception) -> None:
        """Count a folder or an archive of which nobody knows what images it has."""
        says = getattr(error, "strerror", None) or str(error)
        says = type(error).__name__ if says in ("", name) else says
        what = printable(says if says.startswith(name) else f"{name}: {says}")
        self.skipped[_UNREADABLE + valid_text(what)] += 1
