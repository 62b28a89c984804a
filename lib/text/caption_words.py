"""What English captions of photographs say: how many hold each word, and which words go together.

Facts of a public corpus, kept small (`caption_words.npz`), so that a collection without captions
has an inverse document frequency, and a class name ("golden retriever") the company that captions
keep it in ("dog", "grass", "frisbee"). Made from the captions of MS-COCO 2017 val (CC BY 4.0,
cocodataset.org):

  python -m lib.text.caption_words captions_val2017.json lib/text/caption_words.npz
"""

import argparse
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from scipy.sparse import csr_matrix

from lib.datasets.captions import load_captions
from lib.text.encoder import tokenize

WORDS = 8000  # the most frequent are kept
COMPANY = 20  # words that a word is most often seen with
LEAST = 10  # captions that a word's company is counted over, at least


@dataclass(frozen=True)
class CaptionWords:
    """Document frequencies of a caption corpus, most frequent word first."""

    words: list[str]
    counts: np.ndarray  # (W,) int64: captions that hold the word
    captions: int
    company: np.ndarray  # (C, COMPANY) uint16: for each of the first C words, other words
    together: np.ndarray  # (C, COMPANY) uint16: captions that hold both


@cache
def caption_words() -> CaptionWords:
    """The packaged table."""
    with (files("lib.text") / "caption_words.npz").open("rb") as file, np.load(file) as table:
        return CaptionWords(
            table["words"].tobytes().decode().split("\n"),
            table["counts"].astype(np.int64),
            int(table["captions"]),
            table["company"],
            table["together"],
        )


def count_caption_words(texts: list[str]) -> CaptionWords:
    """Count a corpus."""
    documents = [sorted(set(tokenize(text))) for text in texts]
    frequency = Counter(word for document in documents for word in document)
    ranked = sorted(frequency.items(), key=lambda item: (-item[1], item[0]))[:WORDS]
    words = [word for word, _ in ranked]
    counts = np.array([count for _, count in ranked], np.int64)
    held = int((counts >= LEAST).sum())
    place = {word: column for column, word in enumerate(words[:held])}
    columns = [[place[word] for word in document if word in place] for document in documents]
    ends = np.cumsum([0, *map(len, columns)])
    flat = np.concatenate([np.array(row, np.int64) for row in columns])
    holds = csr_matrix((np.ones(len(flat), np.int32), flat, ends), (len(texts), held))
    together = np.asarray((holds.T @ holds).todense())
    np.fill_diagonal(together, 0)
    company = np.argsort(-together, axis=1, kind="stable")[:, :COMPANY]
    shared = np.minimum(np.take_along_axis(together, company, axis=1), 65535)
    return CaptionWords(
        words, counts, len(texts), company.astype(np.uint16), shared.astype(np.uint16)
    )


def main() -> None:
    """Count the captions of a file and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("captions", help="COCO's caption JSON, or a CSV or Parquet file")
    parser.add_argument("output")
    options = parser.parse_args()
    table = count_caption_words(load_captions(options.captions).texts)
    np.savez_compressed(
        options.output,
        allow_pickle=False,
        words=np.frombuffer("\n".join(table.words).encode(), np.uint8),
        counts=table.counts.astype(np.uint32),
        captions=np.array(table.captions),
        company=table.company,
        together=table.together,
    )


if __name__ == "__main__":
    main()
