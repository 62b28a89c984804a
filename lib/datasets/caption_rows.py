"""What caption files say, as one kind of row: which columns, and what values mean in them."""

import ast
import functools
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lib.datasets.matching import clean, has_image_ending, normal_path
from lib.errors import BadInputError
from lib.images import containers
from lib.images.containers import plain_name

# Columns as people name them, without case, spaces and signs; the first that a table has is taken.
NAME_COLUMNS = (
    *(*containers.NAME_COLUMNS, "images", "key", "imagekey", "name"),
    # Immich's, of OpenAI's batches, and of Label Studio's template for captions.
    *("originalfilename", "originalpath", "customid", "captioning"),
)
URL_COLUMNS = (*containers.URI_COLUMNS, "link", "urls", "imageurls", "imagesrc")
# Beside a file's name they hold its folder, or all of its path.
FOLDER_COLUMNS = (
    *containers.FOLDER_COLUMNS,
    *("filepath", "path", "imagepath", "imgpath", "sourcefile"),
)
ID_COLUMNS = ("cocoid", "imageid")  # beside a name, too; `id` may be that of a caption
LONE_ID_COLUMNS = ("imgid", "photoid", "id")
CAPTION_COLUMNS = re.findall(
    r"\w+",
    """caption captions captiontext text texts sentence sentences sentencesraw raw rawcaption
    captionstr referencestrs description descriptions alttext alt captionabstract imagedescription
    comment txt value fileattributes captionreferencedescription captionattributiondescription
    captionalttextdescription imagealttext iiw photodescription aidescription cap desc""",
)
# What else tells of an image, where no other column does. Comments may be counted, or others'.
LONE_CAPTION_COLUMNS = re.findall(
    r"\w+",
    """conversations messages response generatedtext completion output paragraph title comments
    prompt positiveprompt phrase regions keywords subject tags label result""",
)
# Where services put what a model said, from outside inwards.
_AROUND_CAPTIONS = re.findall(
    r"\w+", "response result body choices output candidates message content parts assistant"
)
_ANSWERERS = {"gpt", "assistant", "model"}  # who is not asking, in a conversation
_SPEAKERS = _ANSWERERS | {"human", "user", "system"}  # and not where a caption is from
# What says that a caption is not to be used: VizWiz, Prodigy, Mechanical Turk, Label Studio.
_REJECTIONS = {
    **dict.fromkeys(
        ("isrejected", "rejected", "isprecanned", "wascancelled"), ("true", "1", "yes")
    ),
    **dict.fromkeys(("accepted", "approved"), ("false", "0", "no")),
    **dict.fromkeys(("status", "assignmentstatus"), ("rejected",)),
    "answer": ("reject", "ignore"),
}
_KEYWORDS = ("keywords", "subject", "tags")  # those of an image are one caption
# Of these a file may fill one for some images and another for others.
_DESCRIPTIONS = (
    *("caption", "description", "captionabstract", "imagedescription", "alttext"),
    # Of Wikipedia's WIT, and of Unsplash.
    *("captionattributiondescription", "captionalttextdescription", "aidescription"),
    *("keywords", "subject", "title"),
)
# What exiftool, Mechanical Turk and pandas put before a column's name; `caption.1` has no group.
_GROUP = re.compile(r"\S*[:.](?=\s*[^\W\d])")
_NUMBERED = re.compile(r"((?:caption|text|sentence|comment|description)s?)[0-9]+")
_MISSING = {"", "null", "none", "nan", "<na>", "n/a", "#n/a"}
# What cameras write as the description of every photograph.
_OF_CAMERA = re.compile(
    r"((KONICA )?MINOLTA|OLYMPUS|SAMSUNG) DIGITAL CAMERA|KODAK Digital Still Camera"
    r"|(SONY|Minolta) DSC|SAMSUNG CSC|Exif[_ ]JPEG[_ ]PICTURE|DCIM\b\S*"
)
# A text that names a file, or one of Crisscrossed Captions'; a title that a camera's counter gave.
_FILE = re.compile(r"\S+\.(?:jpe?g|png|gif|bmp|webp|tiff?|heic)(?::\d+)?", re.IGNORECASE)
_FENCED = re.compile(r"```\w*\s*(.*?)\s*```", re.DOTALL)  # as models write JSON
# Words of other letters may be written without spaces, and count: 2匹の犬.
_COUNTER = re.compile(r"[!-~]*\d[!-~]*|\S*\d{3}\S*|")
_STRING = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_ITEM = f"(?:{_STRING}|None|nan)"
_LIST = re.compile(rf"[\[({{]\s*{_ITEM}(?:[\s,]+{_ITEM})*,?\s*[\])}}]", re.DOTALL)
_NESTED = re.compile(r"""[\[{]\s*(\{\s*)?['"]|\[\s*\]$|\{\s*\}$""")


class CaptionRow(NamedTuple):
    """What one place of a file says: an image, by whatever names it, and its captions."""

    place: str  # such as "line 7"
    name: str  # path or file name
    url: str
    image_id: str
    texts: Sequence[str]  # empty: the file only lists the image
    rejected: bool = False  # the file says itself that these captions are not to be used


@dataclass
class CaptionRows:
    """The rows of a caption file, and remarks on what was left out or taken otherwise."""

    rows: list[CaptionRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # of records that cannot be used, with place


class Columns(NamedTuple):
    """Names of the columns of a table that say which image, and what is in it."""

    name: str | None
    url: str | None
    image_id: str | None
    captions: list[str]
    folder: str | None = None  # see FOLDER_COLUMNS
    spare: Sequence[str] = ()  # captions of rows that have none in `captions`
    rejections: Sequence[str] = ()  # see _REJECTIONS


def choose_columns(names: Iterable[str]) -> Columns | None:
    """Which columns say what; None where images or captions are not named."""
    plain: dict[str, str] = {}
    for name in names:
        plain.setdefault(_without_group(name), name)

    def first(among: Iterable[str]) -> str | None:
        return next((plain[name] for name in among if name in plain), None)

    numbered = {key: match[1] for key in plain if (match := _NUMBERED.fullmatch(key))}
    captions = [plain[key] for key in plain if key in numbered or key in numbered.values()]
    caption = first(CAPTION_COLUMNS) or next(
        (name for key, name in plain.items() if key.endswith(("caption", "captions"))), None
    )
    caption = caption or first(LONE_CAPTION_COLUMNS)
    if caption and len(captions) < 2:
        captions = [caption]
    own = first(key for key in NAME_COLUMNS if key not in FOLDER_COLUMNS) or first(NAME_COLUMNS)
    among: Sequence[str] = _DESCRIPTIONS
    if caption and _without_group(caption) in LONE_CAPTION_COLUMNS:
        among = ("comments", *_DESCRIPTIONS, "tags", "label")
    spare = [plain[key] for key in among if key in plain and plain[key] not in captions]
    rejections = [plain[key] for key in _REJECTIONS if key in plain]
    url, image_id, folder = first(URL_COLUMNS), first(ID_COLUMNS), first(FOLDER_COLUMNS)
    if not (own or url or image_id):
        image_id = first(LONE_ID_COLUMNS)
    rest = [n for key, n in plain.items() if key and n not in {*captions, *rejections}]
    if not (own or url or image_id) and len(rest) == 1:
        own = rest[0]
    if not captions or not (own or url or image_id):
        return None
    folder = folder if own and folder != own else None
    return Columns(own, url, image_id, captions, folder, spare, rejections)


def require_columns(names: Sequence[str], source: str) -> Columns:
    """See `choose_columns`. Raises BadInputError, which names all, instead of None."""
    columns = choose_columns(names)
    if columns is None:
        short = [name if len(name) <= 30 else f"{name[:29]}…" for name in names]
        rest = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise BadInputError(
            f"{source} needs the columns image and caption (or file_name, path, url; text, "
            f"sentence); it has {', '.join(short[:5]) or 'none'}{rest}"
        )
    return columns


def note_choice(names: Iterable[str], columns: Columns, source: str, result: CaptionRows) -> None:
    """Say which of several columns of captions is read, and what of a conversation is."""
    read = {*columns[:3], columns.folder, *columns.captions, *columns.spare}
    plain = {name: _without_group(name) for name in names if name not in read}
    others = [
        name
        for name, key in plain.items()
        if key in CAPTION_COLUMNS or key.endswith(("caption", "captions"))
    ]
    chosen = ", ".join(columns.captions)
    if others:
        result.notes.append(f"{source}: captions are those of {chosen}, not of {', '.join(others)}")
    if _without_group(chosen) in ("conversations", "messages"):
        result.notes.append(f"{source}: of each conversation the first answer is the caption")


def row_of(record: Mapping[str, Any], columns: Columns, source: str, place: str) -> CaptionRow:
    """A record as a row. Raises BadInputError, which names the place, for values of other kinds."""

    def named(column: str | None) -> str:
        value = record.get(column) if column else None
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, bytes):
            return ""
        if isinstance(value, Mapping):  # Hugging Face's image: {bytes, path}
            fields = {plain_name(str(key)): entry for key, entry in value.items()}
            among = ("path", *NAME_COLUMNS, *URL_COLUMNS)
            value = next((fields[key] for key in among if fields.get(key)), None)
        return identifier_of(value, source, f"{place}, {column}") if value is not None else ""

    name = named(columns.name)
    if columns.folder:
        name = _file_path(named(columns.folder), name)
    texts: list[str] = []
    for column in itertools.chain(columns.captions, columns.spare):
        if texts and column in columns.spare:
            break
        said = texts_of(record.get(column), source, f"{place}, {column}")
        if column in columns.spare:  # those without a letter are counts and classes
            said = [text for text in said if any(map(str.isalpha, text))]
        if _without_group(column) == "title":
            said = [text for text in said if not is_counter(text)]
        together = len(said) > 1 and _without_group(column) in _KEYWORDS
        texts += [", ".join(said)] if together else said
    flags = {column: record.get(column) for column in columns.rejections}
    image_id = named(columns.image_id)
    name = name or (image_id if has_image_ending(image_id) else "")
    return CaptionRow(place, name, named(columns.url), image_id, texts or [""], is_rejected(flags))


def is_rejected(record: Mapping[str, Any]) -> bool:
    """Whether a record says itself that its caption is not to be used."""
    for key, value in record.items():
        values = _REJECTIONS.get(_without_group(str(key)))
        if values and str(value).strip().casefold().removesuffix(".0") in values:
            return True
    return False


@functools.lru_cache(1024)  # asked of each annotation of COCO's
def _without_group(column: str) -> str:
    """The plain name of a column, without its group: XMP:Description, Answer.caption."""
    group = _GROUP.match(column)
    return plain_name(column[group.end() :] if group else column)


def _file_path(folder: str, name: str) -> str:
    """A file's path from its name and from what says its folder, or all of its path."""
    if has_image_ending(folder):  # another file's, where names are as users uploaded them
        own = normal_path(name).rpartition("/")[2]
        other = has_image_ending(name) and normal_path(folder).rpartition("/")[2] != own
        return name if other else folder
    if not folder or not name or "://" in folder + name:
        return name
    within = f"{normal_path(name)}/".startswith(f"{normal_path(folder)}/")
    return name if within else f"{folder}/{name}"


def identifier_of(value: Any, source: str, place: str) -> str:
    """A name or a number as text: 139, 139.0 and "139" are the same."""
    if isinstance(value, float) and value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise BadInputError(f"{source}, {place} names no image: it is {kind_of(value)}")
    return clean(str(value)).strip()


def texts_of(value: Any, source: str, place: str) -> list[str]:
    """The captions in a value: a text, a list of what holds captions, or an object with one."""
    if value is None or (isinstance(value, float) and value != value):
        return []
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, str):
        text = clean(value).strip()
        if text.startswith("```") and (fenced := _FENCED.fullmatch(text)):
            text = fenced[1]
        literal = _literal(text)
        return [text] if literal is text else texts_of(literal, source, place)
    if isinstance(value, list | tuple):
        if any(isinstance(entry, str) for entry in value):  # beside texts: scores, keywords: years
            value = [entry for entry in value if not isinstance(entry, int | float)]
        turns = [*map(speaker, value)]
        if not _SPEAKERS.isdisjoint(turns):
            # The first answer describes the image; later ones may be a word about a detail.
            at = next((n for n, speaker in enumerate(turns) if speaker in _ANSWERERS), len(turns))
            value = value[at : at + 1]
        return [text for entry in value for text in texts_of(entry, source, place) if text]
    if isinstance(value, Mapping):
        fields = {plain_name(str(key)): entry for key, entry in value.items()}
        if not value or isinstance(fields.get("error"), str | Mapping):  # an excuse, no caption
            return []
        for name in ("raw", *CAPTION_COLUMNS, *_AROUND_CAPTIONS, *LONE_CAPTION_COLUMNS, "p"):
            if name in fields:
                return texts_of(fields[name], source, place)
        if len(fields) == 1:
            return texts_of(next(iter(value.values())), source, place)
        kind = f"an object of {', '.join(map(str, list(value)[:5]))}"
        raise BadInputError(f"{source}, {place}: the caption is {kind}; none of them is its text")
    raise BadInputError(f"{source}, {place}: the caption is no text but {kind_of(value)}")


def speaker(turn: Any) -> str:
    """Who speaks in one turn of a conversation; empty where it is none."""
    if isinstance(turn, Mapping) and "assistant" in turn:  # question and answer in one
        return "assistant"
    said = turn.get("from", turn.get("role")) if isinstance(turn, Mapping) else None
    return said.casefold() if isinstance(said, str) else ""


def says_nothing(text: str) -> bool:
    """Whether a text stands for none, as `null` does, names a file, or is what a camera says of all
    images."""
    words = " ".join(text.split())
    other = _OF_CAMERA.fullmatch(words) or (" " not in words and _FILE.fullmatch(words))
    return words.casefold() in _MISSING or bool(other)


def is_counter(title: str) -> bool:
    """Whether a title is none that a person gave, but the name of a file, such as IMG_0123."""
    return bool(_COUNTER.fullmatch(title.strip())) or says_nothing(title)


def kind_of(value: Any) -> str:
    """A value in words, for errors."""
    return f"{type(value).__name__} ({value!r:.40})"


def _literal(text: str) -> Any:
    """A text as its value: nothing, a list or an object as Python, numpy or JSON writes it."""
    if says_nothing(text):
        return None
    if text.startswith(("[", "(", "{")) and (_LIST.fullmatch(text) or _NESTED.match(text)):
        for parse in (json.loads, _strings, ast.literal_eval):
            try:
                value = parse(text)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            if isinstance(value, list | dict):
                return value
    return text


def _strings(text: str) -> list[str]:
    """A list of texts as Python or numpy writes it: numpy has no commas between them."""
    if not _LIST.fullmatch(text):
        raise ValueError
    return [ast.literal_eval(part) for part in re.findall(_STRING, text)]
