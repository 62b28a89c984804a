"""A small database for tests of the service: drawn pictures, a real network, a made-up embedder."""

import csv
import dataclasses
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from gensim.models import KeyedVectors
from PIL import Image, ImageDraw

from lib.backbones.backbone import Backbone, as_batch, load_backbone
from lib.database.manifest import Manifest, commit_version, write_embeddings
from lib.embedder.model import Embedder
from lib.embedder.space import keep_embedder, save_semantic_space
from lib.images.preprocessing import decode
from lib.schemas import content_digest, embedding_schema, vectors_to_column
from lib.text.encoder import TextEncoder, fit_idf
from lib.text.word_vectors import PACKAGED, load_word_vectors, word_vectors_digest

BACKBONE = "resnet18"
WEIGHTS = "random"
COLOURS = ("orange", "red", "green", "blue", "black", "white")
THINGS = ("ball", "box")
# Names that people give files, and that addresses must carry.
NAMES = ["orange/1 ball.jpg", "orange/ø–é 100%.jpg", "a&b=c?d#e.jpg"]
NAMES += ["ends/thumbnail", "two\nlines.jpg"]
COPY = 23  # 23.jpg is 22.jpg once more


@cache
def backbone() -> Backbone:
    return load_backbone(BACKBONE, WEIGHTS)


@cache
def _word_vectors() -> KeyedVectors:
    return load_word_vectors()


@cache
def _describe(content: bytes) -> tuple[tuple[int, int], np.ndarray]:
    """Width and height of an image file, and its descriptor (512,)."""
    picture = decode(content, backbone().preprocessing)
    descriptor = backbone().extract(as_batch(picture.pixels))[0].numpy()
    return (picture.width, picture.height), descriptor


def captions_file(directory: Path) -> Path:
    return directory / "captions.csv"


def make_database(directory: Path, images: int = 24) -> Path:
    """Draw pictures, describe them, and write version 1 of a database; returns its directory."""
    db = directory / "db"
    captions = []
    for place in range(images):
        name = NAMES[place] if place < len(NAMES) else f"{place}.jpg"
        number = 22 if place == COPY else place
        colour, thing = COLOURS[number % 6], THINGS[number // 6 % 2]
        _draw(directory / "images" / name, colour, thing, number)
        captions.append((name, f"a {colour} {thing} on a table"))
    with captions_file(directory).open("w", newline="") as file:
        rows = [row for row in captions if "\n" not in row[0]]  # no name goes over two lines
        csv.writer(file).writerows([("image", "caption"), *rows])
    write_version(directory, db, [name for name, _ in captions], version=1)
    return db


def write_version(
    directory: Path, db: Path, names: Sequence[str], version: int, digest: str | None = None
) -> None:
    """Commit a version of the database that holds some of the drawn pictures.

    `digest`: of the embedder, where it is to be a wrong one.
    """
    random = np.random.default_rng(5)
    embedder = Embedder(
        random.normal(size=(512, 50)).astype(np.float32),
        random.normal(size=50).astype(np.float32),
    )
    vectors = _word_vectors()
    encoder = TextEncoder(
        vectors, fit_idf([f"a {c} {t} on a table" for c in COLOURS for t in THINGS])
    )
    digest_of_space = save_semantic_space(
        str(db),
        encoder,
        embedder,
        {
            "descriptors": dataclasses.asdict(backbone().provenance("float32")),
            "word_vectors": {
                "source": PACKAGED,
                "digest": word_vectors_digest(vectors),
                "dimension": 50,
            },
        },
    )
    contents = [(directory / "images" / name).read_bytes() for name in names]
    sizes, descriptors = zip(*map(_describe, contents), strict=True)
    columns: list[list[object]] = [
        list(names),
        [str(directory / "images" / name) for name in names],
        list(names),
        [width for width, _ in sizes],
        [height for _, height in sizes],
        [len(content) for content in contents],
        ["1"] * len(names),
        [content_digest(content) for content in contents],
    ]
    schema = embedding_schema(50, {})
    arrays = [pa.array(values, schema.field(i).type) for i, values in enumerate(columns)]
    table = pa.Table.from_arrays(
        [*arrays, vectors_to_column(embedder.se_image(np.stack(descriptors)))], schema=schema
    )
    keep_embedder(str(db), digest_of_space)
    file = write_embeddings(str(db), f"version-{version}.parquet", table)
    commit_version(str(db), Manifest(version - 1, digest or digest_of_space, (file,)))


def _draw(path: Path, colour: str, thing: str, number: int) -> None:
    width, height = (320, 200) if number % 3 else (200, 300)
    image = Image.new("RGB", (width, height), "#c8b8a0")
    shape = ImageDraw.Draw(image)
    box = (40 + number, 50, 130 + number, 140)
    (shape.ellipse if thing == "ball" else shape.rectangle)(box, fill=colour, outline="#444")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, "JPEG")
