"""The whole path: describe, train, embed, evaluate, and a page of sample queries.

What is already done and still valid is skipped, so a rerun after a failure goes on from there.
"""

import argparse
import hashlib
import json
from typing import Any, NoReturn

from jobs import command
from jobs import embed_database as embedding_job
from jobs import evaluate as evaluation_job
from jobs import extract_descriptors as extraction_job
from jobs import query as query_job
from jobs import train_embedder as training_job
from lib.errors import BadInputError, MissingError
from lib.storage import (
    absolute,
    filesystem,
    join,
    list_files,
    read_bytes,
    read_json,
    write_json_atomic,
)

TEST_SHARE = 0.1
SAMPLE_QUERIES = 12


def build_parser() -> argparse.ArgumentParser:
    """Arguments of this job."""
    made = command.parser(
        "pipeline",
        __doc__ or "",
        "python -m jobs.pipeline --images photos/ --captions captions.json --db my.db",
    )
    extraction_job.add_images(made)
    made.add_argument("--captions", required=True, metavar="FILE", help="training captions")
    made.add_argument("--validation-captions", metavar="FILE", help="see jobs.train_embedder")
    made.add_argument(
        "--test-captions",
        metavar="FILE",
        help="captions to evaluate on; default: those of 10%% of the images, which training "
        "then does not see",
    )
    command.add_database(made)
    made.add_argument("--backbone", default="resnet18", metavar="NAME", help="resnet18, auto, …")
    made.add_argument("--weights", metavar="FILE_OR_URL", help="state dict of the backbone")
    made.add_argument("--word-vectors", metavar="FILE", help="see jobs.train_embedder")
    made.add_argument(
        "--query", action="append", metavar="TEXT", help="for the page; default: test captions"
    )
    made.add_argument("--k", type=int, default=10, help="images per sample query (default: 10)")
    made.add_argument("--page", metavar="FILE", help="default: DB/queries.html")
    return made


def pipeline(options: argparse.Namespace) -> dict[str, Any]:
    """Run every stage in one Ray session; returns each stage's summary."""
    from lib.cluster import connect

    training, test = caption_files(options)
    summary: dict[str, Any] = {}
    with connect():
        _announce(1, "describe the images")
        ids = _option("--captions", options.captions, options.validation_captions, test)
        arguments = ["--images", options.images, "--db", options.db, *ids]
        arguments += ["--backbone", options.backbone, *_option("--weights", options.weights)]
        arguments += ["--include-hidden"] * options.include_hidden
        arguments += ["--allow-private-addresses"] * options.allow_private_addresses
        summary["extract_descriptors"] = extraction_job.extract_descriptors(
            extraction_job.build_parser().parse_args(arguments)
        )
        _announce(2, "train the embedder")
        summary["train_embedder"] = train_unless_valid(options, training)
        _announce(3, "embed the database")
        summary["embed_database"] = embedding_job.embed(
            embedding_job.build_parser().parse_args(["--db", options.db])
        )
        _announce(4, "evaluate on images that training did not see")
        arguments = ["--db", options.db, "--captions", test]
        arguments += _option("--word-vectors", options.word_vectors)
        summary["evaluate"] = evaluation_job.evaluate(
            evaluation_job.build_parser().parse_args(arguments)
        )
        _announce(5, "answer sample queries")
        page = options.page or join(options.db, "queries.html")
        arguments = ["--db", options.db, "--k", str(options.k), "--output", page]
        arguments += [
            *_option("--captions", test),
            *_option("--word-vectors", options.word_vectors),
        ]
        queries = options.query or sample_queries(test)
        summary["query"] = query_job.query(
            query_job.build_parser().parse_args([*arguments, "--", *queries])
        )
    print(f"\nopen {page}")
    return summary


def caption_files(options: argparse.Namespace) -> tuple[str, str]:
    """Training and test captions: the files given, or two parts of one, kept in the database."""
    from lib.datasets.captions import held_out, load_captions, select, write_captions

    if options.test_captions:
        return options.captions, options.test_captions
    captions = load_captions(options.captions)
    apart = held_out(captions.images, TEST_SHARE, purpose="test")
    if not apart or len(apart) == len(captions.images):
        raise BadInputError(
            f"{options.captions} names too few images ({len(captions.images)}) to keep some for "
            "the evaluation; give --test-captions"
        )
    parts = []
    for name, images in (("training", set(captions.images) - apart), ("test", apart)):
        parts.append(join(options.db, "captions", f"{name}.parquet"))
        write_captions(parts[-1], select(captions, images))
    return parts[0], parts[1]


def train_unless_valid(options: argparse.Namespace, training: str) -> dict[str, Any]:
    """Train, unless the embedder that is there came from the same inputs."""
    from lib.embedder.space import load_semantic_space

    record = join(options.db, "embedder", "pipeline.json")
    inputs = _inputs_digest(options, training)
    try:
        done = read_json(record)
        current = load_semantic_space(options.db, options.word_vectors).digest
        if done["inputs"] == inputs and done["summary"]["digest"] == current:
            print("the embedder is up to date")
            return done["summary"]
    except MissingError:
        pass
    arguments = ["--db", options.db, "--captions", training]
    arguments += _option("--validation-captions", options.validation_captions)
    arguments += _option("--word-vectors", options.word_vectors)
    summary = training_job.train_embedder(training_job.build_parser().parse_args(arguments))
    write_json_atomic(record, {"inputs": inputs, "summary": summary})
    return summary


def _inputs_digest(options: argparse.Namespace, training: str) -> str:
    """Digest of all that training depends on."""
    files = list_files(join(absolute(options.db), "descriptors"), ".parquet")
    states = [filesystem(file)[0].checksum(filesystem(file)[1]) for file in files]
    texts = [training, *_option("", options.validation_captions)[1:]]
    content = [hashlib.sha256(read_bytes(text)).hexdigest() for text in texts]
    described = json.dumps([files, [str(s) for s in states], content, options.word_vectors])
    return hashlib.sha256(described.encode()).hexdigest()


def sample_queries(test: str) -> list[str]:
    """Captions of a dozen test images, spread over the file."""
    from lib.datasets.captions import load_captions

    first = [texts[0] for texts in load_captions(test).by_image().values()]
    return first[:: max(1, len(first) // SAMPLE_QUERIES)][:SAMPLE_QUERIES]


def _option(name: str, *values: str | None) -> list[str]:
    return [word for value in values if value for word in (name, value)]


def _announce(number: int, text: str) -> None:
    print(f"\n[{number}/5] {text}", flush=True)


def main(argv: list[str] | None = None) -> NoReturn:
    """Run this job as a command."""
    command.run(build_parser(), pipeline, argv)


if __name__ == "__main__":
    main()
