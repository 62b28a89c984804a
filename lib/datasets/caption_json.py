"""Captions in JSON and JSON Lines: COCO's, Karpathy's, lists and tables of records."""

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lib.datasets.caption_rows import (
    ID_COLUMNS,
    NAME_COLUMNS,
    URL_COLUMNS,
    CaptionRow,
    CaptionRows,
    Columns,
    choose_columns,
    identifier_of,
    is_rejected,
    kind_of,
    note_choice,
    require_columns,
    row_of,
    texts_of,
)
from lib.datasets.matching import clean, has_image_ending
from lib.errors import BadInputError
from lib.images.containers import plain_name

_NO_NAMES = {"images", "annotations", "info", "licenses", "type", "version", "dataset", "data"}
# Names of what is inside, where no others stand beside them.
_WRAPPERS = {"train", "training", "val", "valid", "validation", "test", "testing", "dev", "restval"}
_WRAPPERS |= {"caption", "captions", "data"}


def json_lines(text: str, source: str, result: CaptionRows) -> list[Any] | None:
    """The values of JSON Lines, or of objects one after another, as jq writes them; else None."""
    records: list[Any] = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            records.append(json.loads(line) if line.strip() else None)
        except json.JSONDecodeError as error:
            if not any(records):
                return _values(text.lstrip())
            result.problems.append(f"{source}, line {number} is not valid JSON: {error}")
            records.append(None)
    return records


def _values(text: str) -> list[Any] | None:
    decoder, at = json.JSONDecoder(), 0
    values: list[Any] = []
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            return None
        values.append(value)
        at = found.start() if (found := _NOT_BLANK.search(text, at)) else len(text)
    return values


_NOT_BLANK = re.compile(r"\S")


def json_rows(document: Any, source: str, result: CaptionRows) -> Iterable[CaptionRow]:
    """The rows of a document. Raises BadInputError, which says where, for what is no captions."""
    if isinstance(document, Mapping):
        images, annotations = document.get("images"), document.get("annotations")
        if isinstance(images, list) and isinstance(annotations, list):
            return _coco(images, annotations, source, result)
        if "_via_img_metadata" in document:  # a project of the VGG Image Annotator
            return json_rows(document["_via_img_metadata"], source, result)
        names = [str(key) for key in document]
        if choose_columns(names):
            # pandas writes a column as an object by row; a list each is a table, too.
            columns = [[*v.values()] if isinstance(v, Mapping) else v for v in document.values()]
            if all(isinstance(v, list) for v in columns) and len({*map(len, columns)}) == 1:
                table = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
                return record_rows(table, source, "row", result)
            return record_rows([document], source, "entry", result)
        if document and {re.sub("[0-9]", "", plain_name(name)) for name in names} <= _WRAPPERS:
            parts = (json_rows(part, source, result) for part in document.values() if part)
            return itertools.chain.from_iterable(parts)
        if isinstance(document.get("data"), Mapping) and annotations is not None:
            return record_rows([document], source, "entry", result)  # a task of Label Studio's
        lists = [value for value in document.values() if isinstance(value, list) and value]
        records = [value for value in lists if all(isinstance(entry, Mapping) for entry in value)]
        if len(records) == 1:
            return record_rows(records[0], source, "entry", result)
        # Of several lists those are tables whose entries say their image; else their key does.
        tables = [value for value in records if _say_their_image(value)]
        if tables and not any(map(has_image_ending, names)):
            parts = (record_rows(table, source, "entry", result) for table in tables)
            return itertools.chain.from_iterable(parts)
        if not document or _NO_NAMES & {plain_name(name) for name in names}:
            raise BadInputError(
                f"{source} is not {EXPECTED}: it has {', '.join(names[:5]) or 'nothing'}"
            )
        entries = [*document.values()]
        if not any(map(has_image_ending, names)) and _is_record(document):
            return record_rows([document], source, "entry", result)
        if isinstance(entries[0], Mapping) and not has_image_ending(names[0]):
            chosen = choose_columns(map(str, entries[0]))
            if chosen and plain_name(chosen.name or "") in NAME_COLUMNS:  # the keys count rows
                return record_rows(entries, source, "entry", result)
        return _named_rows(dict(zip(names, entries, strict=True)), source, result)
    if isinstance(document, list):
        return record_rows(document, source, "entry", result)
    raise BadInputError(f"{source} holds one {type(document).__name__}, no captions")


def _is_record(document: Mapping[str, Any]) -> bool:
    """Whether it tells of one image, rather than of the images that its keys name."""
    if not {*NAME_COLUMNS, *URL_COLUMNS, *ID_COLUMNS}.isdisjoint(map(plain_name, document)):
        return True
    # Columns are seldom counted, as images are.
    texts = (v for k, v in document.items() if isinstance(v, str) and not re.search("[0-9]", k))
    return any(map(has_image_ending, texts))


def _say_their_image(records: Sequence[Mapping[str, Any]]) -> bool:
    columns = choose_columns(map(str, records[0]))
    named = columns and records[0].get(columns.name or columns.url or "")
    return isinstance(named, str) and ("://" in named or has_image_ending(named))


def _named_rows(
    captions: Mapping[str, Any], source: str, result: CaptionRows
) -> Iterator[CaptionRow]:
    """An object of captions by name."""
    for name, value in captions.items():
        place = f"entry {name}"
        try:
            rejected = isinstance(value, Mapping) and is_rejected(value)
            yield CaptionRow(place, clean(name), "", "", texts_of(value, source, place), rejected)
        except BadInputError as error:
            result.problems.append(str(error))


def _coco(
    images: list[Any], annotations: list[Any], source: str, result: CaptionRows
) -> Iterator[CaptionRow]:
    """COCO: the images first, then a row for each annotation."""
    known: dict[str, tuple[str, str]] = {}
    for rows_of, records in ((_image_rows, images), (_annotation_rows, annotations)):
        for number, record in enumerate(records):
            try:
                yield from rows_of(record, known, source, number)
            except BadInputError as error:
                result.problems.append(str(error))


def _image_rows(
    image: Any, known: dict[str, tuple[str, str]], source: str, number: int
) -> Iterator[CaptionRow]:
    place = f"images[{number}]"
    if not isinstance(image, Mapping) or "id" not in image:
        raise BadInputError(f"{source}, {place} has no id: it is not {EXPECTED}")
    image_id = identifier_of(image["id"], source, f"{place}.id")
    names = [image.get(name) or "" for name in ("file_name", "coco_url", "flickr_url")]
    if not names[0]:
        names[0] = next((image[k] for k in image if plain_name(k) in NAME_COLUMNS), "") or ""
    if not all(isinstance(name, str) for name in names):
        raise BadInputError(f"{source}, {place}: file_name and coco_url must be texts")
    names = [clean(name) for name in names]
    known[image_id] = names[0], names[1] or names[2]
    yield CaptionRow(place, *known[image_id], image_id, [])
    if any(key in image for key in ("caption", "captions", "sentences")):
        texts = image.get("captions", image.get("sentences", image.get("caption")))
        said = texts_of(texts, source, place)
        yield CaptionRow(place, *known[image_id], image_id, said, is_rejected(image))


def _annotation_rows(
    annotation: Any, known: dict[str, tuple[str, str]], source: str, number: int
) -> Iterator[CaptionRow]:
    place = f"annotations[{number}]"
    if not isinstance(annotation, Mapping) or not {"image_id", "caption"} <= annotation.keys():
        says = "has no image_id and caption: it"
        if isinstance(annotation, Mapping) and "category_id" in annotation:
            says = "tells of an object, not of the image: name the file of captions; this"
        raise BadInputError(f"{source}, {place} {says} is not {EXPECTED}")
    image_id = identifier_of(annotation["image_id"], source, f"{place}.image_id")
    if image_id not in known:
        raise BadInputError(
            f"{source}, {place} names an image that its 'images' list lacks: {image_id}"
        )
    texts = texts_of(annotation["caption"], source, place)
    yield CaptionRow(place, *known[image_id], image_id, texts or [""], is_rejected(annotation))


EXPECTED = (
    "COCO's caption format (an object with 'images' [id, file_name] and 'annotations' "
    "[image_id, caption])"
)


def _flat(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """A record with what its objects hold as columns of its own (`exifInfo.description`), and, of a
    task of Label Studio's, what was typed."""
    objects = {key: value for key, value in record.items() if isinstance(value, Mapping)}
    often = Counter(itertools.chain.from_iterable(objects.values()))  # a caption a language
    inner = {
        f"{key}.{name}": entry
        for key, value in objects.items()
        for name, entry in value.items()
        if often[name] == 1
    }
    annotations = record.get("annotations")
    if "data" not in objects or not isinstance(annotations, list):
        return {**record, **inner}
    typed = [
        entry.get("value")
        for task in _objects(annotations)
        if not is_rejected(task)
        for entry in _objects(task.get("result"))
        if entry.get("type") == "textarea"
    ]
    return {"caption": typed, **record, **inner}  # not a draft among the data


def _objects(value: Any) -> list[Mapping[str, Any]]:
    entries = value if isinstance(value, list | tuple) else ()
    return [entry for entry in entries if isinstance(entry, Mapping)]


def record_rows(
    records: Sequence[Any], source: str, unit: str, result: CaptionRows
) -> Iterator[CaptionRow]:
    """The rows of a list of objects, each a `unit` for errors, such as a line."""
    keys = dict.fromkeys(str(key) for record in _objects(records) for key in record)
    if keys and choose_columns(keys) is None:
        inner = [e for record in _objects(records) for v in record.values() for e in _objects(v)]
        if inner and _say_their_image(inner):  # posts of several pictures each
            yield from record_rows(inner, source, unit, result)
            return
        records = [_flat(record) if isinstance(record, Mapping) else record for record in records]
        keys = dict.fromkeys(str(key) for record in _objects(records) for key in record)
    if not keys and any(records):
        first = next(filter(None, records))
        raise BadInputError(f"{source} holds {kind_of(first)} where an object is expected")
    columns = require_columns(list(keys), source)
    note_choice(keys, columns, source, result)
    shapes: dict[tuple[str, ...], Columns] = {}
    for number, record in enumerate(records, 1):
        if record is None:
            continue
        try:
            if not isinstance(record, Mapping):
                raise BadInputError(
                    f"{source}, {unit} {number} holds {kind_of(record)} where an object is expected"
                )
            shape = tuple(map(str, record))
            if shape not in shapes:
                shapes[shape] = choose_columns(shape) or columns
            yield row_of(record, shapes[shape], source, f"{unit} {number}")
        except BadInputError as error:
            result.problems.append(str(error))
