"""Does a minus keep images away without losing what was asked for?

Pairs (A, B) of words of the captions, both in some of a gallery's images and together in some. For
`A -B` an image is right where its captions say A and not B. Compared with plain `A`: mean average
precision, and how many of the first five images show B. Each gallery is unseen in training.

  python -m benchmarks.negation --db my.db --captions captions.json
"""

from typing import Any

import numpy as np
from gensim.parsing.preprocessing import STOPWORDS

import benchmarks
from benchmarks.embedder import Collection, folds, trained
from lib.datasets.captions import load_captions, select
from lib.descriptors.store import index_descriptors
from lib.text import query
from lib.text.encoder import tokenize

LEAST_A, LEAST_B, LEAST_BOTH, LEAST_RIGHT = 5, 5, 2, 3  # images of a gallery
TOP = 5


def average_precision(scores: np.ndarray, right: np.ndarray) -> float:
    """Mean of the precision at each right image; scores (N,), right (N,) bool."""
    ranked = right[np.argsort(-scores, kind="stable")]
    return float((np.cumsum(ranked)[ranked] / (np.flatnonzero(ranked) + 1)).mean())


def measure(collection: Collection, count: int, shares: list[float]) -> list[dict[str, Any]]:
    """For each share of the negative side: the figures over all pairs of all galleries."""
    rows: dict[float | None, list[tuple[float, float]]] = {share: [] for share in [None, *shares]}
    for fold, (training, test) in enumerate(folds(collection.captioned, count, 0)):
        text, se_image, _ = trained(collection, select(collection.captions, training), fold)
        captions = select(collection.captions, test).by_image()
        place = {
            image_id: row for row, image_id in enumerate(collection.index.image_ids.to_pylist())
        }
        images = se_image(collection.read(np.array([place[image_id] for image_id in captions])))
        said = [set(tokenize(" ".join(texts))) for texts in captions.values()]
        shown = {
            word: np.array([word in words for words in said])
            for word in sorted(set().union(*said) - STOPWORDS)
            if word.isalpha() and len(word) > 2 and text.knows(word)
        }
        for a, has_a in shown.items():
            for b, has_b in shown.items():
                right = has_a & ~has_b
                if (
                    a == b
                    or (has_a & has_b).sum() < LEAST_BOTH
                    or right.sum() < LEAST_RIGHT
                    or has_a.sum() < LEAST_A
                    or has_b.sum() < LEAST_B
                ):
                    continue
                for share, figures in rows.items():
                    query.NEGATIVE_SHARE = share or 0.0
                    written = a if share is None else f"{a} -{b}"
                    scores = images @ query.embed_query(text, written).embedding
                    first = np.argsort(-scores, kind="stable")[:TOP]
                    figures.append((average_precision(scores, right), has_b[first].mean()))
    plain = np.mean(rows[None], axis=0)
    means = {share: np.mean(figures, axis=0) for share, figures in rows.items()}
    return [
        {
            "share": share,
            "pairs": len(rows[share]),
            "map": float(mean[0]),
            "b_in_first_five": float(mean[1]),
            "map_ratio": float(mean[0] / plain[0]),
            "b_ratio": float(mean[1] / plain[1]),
        }
        for share, mean in means.items()
    ]


def main() -> None:
    """Print the table."""
    parser = benchmarks.parser(__doc__)
    parser.add_argument("--db", required=True, help="database whose descriptors are there")
    parser.add_argument("--captions", required=True, metavar="FILE")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument(
        "--shares", type=float, nargs="+", default=[0.4, 0.5, query.NEGATIVE_SHARE, 0.7]
    )
    options = parser.parse_args()
    collection = Collection(index_descriptors(options.db), load_captions(options.captions), None)
    table = measure(collection, options.folds, options.shares)
    for row in table:
        name = "A" if row["share"] is None else f"A - {row['share']:g} B"
        print(
            f"{name:10} {row['pairs']} pairs  MAP {row['map']:.3f} ({row['map_ratio']:.2f})  "
            f"B in first five {row['b_in_first_five']:.3f} ({row['b_ratio']:.2f})"
        )
    benchmarks.write_json(options.json, table)


if __name__ == "__main__":
    main()
