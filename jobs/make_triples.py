"""Make triples (caption, good image, bad image) of a database's images, as a Parquet file."""

import argparse
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from jobs import command
from lib.descriptors.store import read_descriptors
from lib.embedder.space import load_with_descriptors
from lib.embedder.triples import STRATEGIES, draw_triples
from lib.errors import BadArgumentError
from lib.parquet import write_table_atomic


def build_parser() -> argparse.ArgumentParser:
    """Arguments of the job."""
    arguments = command.parser(
        __doc__,
        "python -m jobs.make_triples --db my.db --captions captions.json --output triples.parquet",
        "--db --word-vectors --seed",
    )
    arguments.add_argument("--captions", required=True, metavar="FILE")
    arguments.add_argument("--output", required=True, metavar="FILE", help="Parquet file to write")
    arguments.add_argument(
        "--strategy",
        choices=STRATEGIES,
        default="uniform",
        help="how bad images are drawn, see lib/embedder/triples.py (default: uniform)",
    )
    arguments.add_argument("--per-caption", type=int, default=1, metavar="N", help="default: 1")
    return arguments


def make_triples(options: argparse.Namespace) -> dict[str, Any]:
    """Draw the triples with the trained embedder's scores and write them."""
    if PurePosixPath(options.output).suffix != ".parquet":
        raise BadArgumentError(
            f"--output {options.output}: triples are written as Parquet; end the name in .parquet"
        )
    from lib.embedder.dataset import match_captions  # PyTorch, seconds: not for --help

    captions = command.load_captions(options.captions)
    space, index = load_with_descriptors(options.db, options.word_vectors)
    examples = match_captions(captions, index, space.text)
    triples = draw_triples(
        options.strategy,
        examples.texts,
        space.se_image(read_descriptors(index.files, examples.images)),
        np.searchsorted(examples.images, examples.rows),
        options.per_caption,
        np.random.default_rng(options.seed),
    )
    # Large: the texts of many triples are more than the 2 GB of which the others know the places.
    ids = pa.array(index.ids_of(examples.images), pa.large_string())
    texts = pa.array([captions.texts[place] for place in examples.captions], pa.large_string())
    table = pa.table(
        {
            "caption": texts.take(triples.caption),
            "good_image_id": ids.take(triples.good),
            "bad_image_id": ids.take(triples.bad),
        }
    )
    write_table_atomic(table, options.output)
    print(
        f"{len(triples)} triples ({options.strategy}) of {len(examples.rows)} captions and "
        f"{len(examples.images)} images written to {options.output}"
    )
    left_out = {
        "captions_of_absent_images": examples.absent,
        "captions_without_known_word": examples.wordless,
    }
    for name, count in left_out.items():
        if count:
            print(f"left out: {count} {name.replace('_', ' ')}")
    return {
        "triples": len(triples),
        "strategy": options.strategy,
        "output": options.output,
        **left_out,
    }


main = command.main(build_parser, make_triples, goes_on=False)

if __name__ == "__main__":
    main()
