"""The whole path: describe, an embedder, embed, evaluate, and a page of sample queries.

Captions are not needed: without them the embedder is made from the names that the backbone's
classes have, or comes from elsewhere. Captions of some images make it better, and the last two
stages tell by how much. What is already done and still valid is skipped, so that the same command
goes on after a failure, and after new images does what is new.
"""

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from jobs import command
from jobs import extract_descriptors as extraction_job
from jobs import query as query_job
from lib.datasets.captions import Captions, held_out, select, write_captions
from lib.errors import BadInputError, MissingError
from lib.storage import join, read_json, write_json_atomic

if TYPE_CHECKING:
    from lib.descriptors.store import DescriptorIndex

TEST_SHARE = 0.1
SAMPLE_QUERIES = 12
SAMPLED_IMAGES = 2_000  # of those that suggest queries


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this job."""
    arguments = command.parser(
        __doc__,
        "python -m jobs.pipeline --images photos/ --db my.db",
        "--images --include-hidden --allow-private-addresses --db "
        "--backbone --weights --embedder --word-vectors --prune",
    )
    arguments.add_argument("--captions", metavar="FILE", help="captions of some images, or of all")
    arguments.add_argument("--validation-captions", metavar="FILE", help="see jobs.train_embedder")
    arguments.add_argument(
        "--test-captions",
        metavar="FILE",
        help="captions to evaluate on; default: those of 10%% of the images, if ten or more have "
        "some, which training then does not see",
    )
    arguments.add_argument(
        "--retrain", action="store_true", help="train though nothing has changed"
    )
    arguments.add_argument(
        "--query",
        action="append",
        metavar="TEXT",
        help="for the page; default: test captions, else words that the images suggest",
    )
    arguments.add_argument(
        "--k", type=command.at_least(1), default=10, help="images per sample query (default: 10)"
    )
    arguments.add_argument("--page", metavar="FILE", help="default: DB/queries.html")
    return arguments


def pipeline(options: argparse.Namespace) -> dict[str, Any]:
    """Run every stage in one Ray session; returns each stage's summary."""
    from lib.cluster import connect
    from lib.database.embed import embed_database
    from lib.descriptors.head_start import head_start
    from lib.descriptors.shards import ExtractionSettings
    from lib.descriptors.store import index_descriptors
    from lib.search.results import require_known_ending
    from lib.tasks import run_on_workers

    if options.page:  # else the run would end at its last stage
        require_known_ending(options.page, "--page")
    captions = load_parts(options)
    summary: dict[str, Any] = {}
    page = options.page or join(options.db, "queries.html")
    backbone = extraction_job.load_meanwhile(options.backbone, options.weights)
    settings = ExtractionSettings(
        include_hidden=options.include_hidden, private_addresses=options.allow_private_addresses
    )
    named = captions.read
    with head_start(options.images, options.db, backbone, settings, named) as head, connect():
        _announce("describe the images")
        summary["extract_descriptors"] = extraction_job.extract_source(
            options.images,
            options.db,
            backbone,
            settings,
            named,
            prune=options.prune,
            head_start=head,
        )
        _announce("find the embedder" if options.embedder else "train the embedder")
        summary["train_embedder"] = choose_embedder(options, captions)
        _announce("embed the database")
        report = embed_database(options.db, run_on_workers)
        print(f"{report.images:,} images can be searched; {report.files_embedded} files embedded")
        summary["embed_database"] = vars(report)
        test = captions.test
        tested = [*test.texts_in(index_descriptors(options.db).images()).values()] if test else []
        if captions.read:
            _announce("evaluate on images that training did not see")
        if test and tested:
            from jobs.evaluate import evaluate  # PyTorch, as above

            summary["evaluate"] = evaluate(options.db, test, options.word_vectors)
        elif captions.read:
            print(
                f"no image of the collection is kept apart: {options.captions} names too few of "
                "them; to evaluate, give --test-captions"
            )
        _announce("answer sample queries")
        arguments = ["--db", options.db, "--k", str(options.k), "--distinct", "--output", page]
        if test and tested:
            arguments += ["--captions", test.source]
        if options.word_vectors:
            arguments += ["--word-vectors", options.word_vectors]
        queries = options.query or (sample_queries(tested) if tested else words_for(options))
        summary["query"] = query_job.query(
            query_job.build_parser().parse_args([*arguments, "--", *queries])
        )
    print(f"\nopen {page}")
    if not captions.read:
        print(
            "To make it better: captions for some of the images (--captions FILE, a CSV with the "
            "columns image and caption), or an embedder that was trained elsewhere (--embedder)"
        )
    return summary


@dataclass(frozen=True)
class CaptionParts:
    """Captions by what they are for, and as they were read."""

    training: Captions | None = None
    validation: Captions | None = None
    test: Captions | None = None  # their source is a file to read them from
    read: tuple[Captions, ...] = ()  # of each file named: they say which images they are of


def load_parts(options: argparse.Namespace) -> CaptionParts:
    """The captions of the files given, or two parts of one, kept in the database."""
    if not options.captions:
        if options.validation_captions:
            raise BadInputError("--validation-captions judge what --captions train; give both")
        if options.test_captions:
            test = command.load_captions(options.test_captions)
            return CaptionParts(test=test, read=(test,))
        return CaptionParts()
    captions = command.load_captions(options.captions)
    validation = options.validation_captions and command.load_captions(options.validation_captions)
    read = (captions, validation) if validation else (captions,)
    if options.test_captions:
        test = command.load_captions(options.test_captions)
        return CaptionParts(captions, validation, test, (*read, test))
    captioned = set(captions.image_ids)
    apart = held_out(captioned, TEST_SHARE, purpose="test")
    if not apart or len(captioned) * TEST_SHARE < 1:
        return CaptionParts(captions, validation, None, read)
    training = select(captions, captioned - apart)
    write_captions(join(options.db, "captions", "training.parquet"), training)
    url = join(options.db, "captions", "test.parquet")
    test = replace(select(captions, apart), source=url)
    write_captions(url, test)
    return CaptionParts(training, validation, test, read)


def choose_embedder(options: argparse.Namespace, captions: CaptionParts) -> Mapping[str, Any]:
    """The embedder that was named, else the one that is there if it is still valid, else train.

    It is valid until pairs of caption and image, or the word vectors, change; without captions,
    until the collection has twice as many images.
    """
    from lib.descriptors.store import index_descriptors
    from lib.embedder.space import adopt_embedder, load_semantic_space

    if options.embedder:
        adopted = adopt_embedder(options.db, options.embedder, options.word_vectors)
        print(f"embedder {adopted.digest[:12]} of {options.embedder}")
        return {"digest": adopted.digest, "from": options.embedder}
    record = join(options.db, "embedder", "pipeline.json")
    index = index_descriptors(options.db)
    pairs = _digest_of_pairs(options, captions, index)
    try:
        done = read_json(record)
        grown = not captions.read and len(index) >= 2 * done["images"]
        current = load_semantic_space(options.db, options.word_vectors).digest
        same = done["pairs"] == pairs and done["summary"]["digest"] == current
        if same and not grown and not options.retrain:
            print("the embedder is up to date")
            return done["summary"]
    except (MissingError, KeyError):  # none yet, or one of an older program
        pass
    # PyTorch takes seconds to import, in which images are described.
    from jobs.train_embedder import split, teach
    from lib.embedder.fitting import FitSettings

    training, validation = captions.training, captions.validation
    if training and not validation:
        training, validation = split(training)
    summary = teach(
        options.db,
        options.word_vectors,
        training=training,
        validation=validation,
        settings=FitSettings(),
        rejoin=options.validation_captions is None,
        weights=options.weights,
    )
    kept = {"pairs": pairs, "images": len(index), "summary": command.as_json(summary)}
    write_json_atomic(record, kept)
    return summary


def _digest_of_pairs(
    options: argparse.Namespace, captions: CaptionParts, index: "DescriptorIndex"
) -> str:
    """Digest of all that training depends on, but for images without a caption."""
    from lib.descriptors.store import read_contents

    lines = [f"{index.provenance}", f"{options.word_vectors}"]
    named = (("training", captions.training), ("validation", captions.validation))
    parts = [(name, part, part.rows_among(index.images())) for name, part in named if part]
    if parts:
        rows = np.unique(np.concatenate([rows for *_, rows in parts]))
        contents = read_contents(index.files, rows[rows >= 0])
        for name, part, rows in parts:
            pairs = zip(rows, part.texts, strict=True)
            lines += sorted(f"{name} {contents[row]} {text}" for row, text in pairs if row >= 0)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def sample_queries(tested: Sequence[Sequence[str]]) -> list[str]:
    """Captions of a dozen test images, spread over them; `tested` holds those of each."""
    first = [texts[0] for texts in tested]
    return first[:: max(1, len(first) // SAMPLE_QUERIES)][:SAMPLE_QUERIES]


def words_for(options: argparse.Namespace) -> list[str]:
    """A dozen words that say most of some of the collection's images."""
    from lib.descriptors.store import index_descriptors, read_descriptors
    from lib.embedder.space import load_semantic_space
    from lib.search.suggestions import words_of_images

    space = load_semantic_space(options.db, options.word_vectors)
    index = index_descriptors(options.db)
    count = len(index)
    rows = np.unique(np.linspace(0, count - 1, min(count, SAMPLED_IMAGES)).astype(int))
    images = space.se_image(read_descriptors(index.files, rows))
    return words_of_images(space.text, images, SAMPLE_QUERIES)


def _announce(text: str) -> None:
    print(f"\n== {text}", flush=True)


main = command.main(build_parser, pipeline)

if __name__ == "__main__":
    main()
