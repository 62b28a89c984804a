"""The ceiling of caption→image retrieval on the sample: what perfect sight would reach."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import numpy as np


def scene_caption_oracle(
    stated: Sequence[AbstractSet[str]], described: Sequence[AbstractSet[str]]
) -> list[np.ndarray]:
    """For every caption the images that it cannot tell apart: those of which all it states holds.

    `stated[i]` are the facts that caption i states, `described[j]` all facts of image j, as
    `scenes.json` has them. Returns for each caption the rows of `described`, ascending, int64.
    A caption of the sample names all kinds of its image and chooses what else to say by odds that
    do not depend on the image, so all images of which it is true are equally likely: no reader of
    the scene descriptions can do better than to guess among them.
    """
    holders: dict[str, list[int]] = {}
    for row, facts in enumerate(described):
        for fact in facts:
            holders.setdefault(fact, []).append(row)
    tied: list[np.ndarray] = []
    for facts in stated:
        candidates: Sequence[int] = range(len(described))
        if facts:
            candidates = min((holders.get(fact, []) for fact in facts), key=len)
        tied.append(np.array([row for row in candidates if facts <= described[row]], np.int64))
    return tied


def expected_recall(tied: Sequence[np.ndarray], k: int) -> float:
    """Expected recall@k when each caption's tied images come first, in random order.

    The caption's own image is among its n tied ones, so it is within the first k with
    probability min(1, k / n); the mean of that over the captions.
    """
    return float(np.mean([min(1.0, k / max(1, len(rows))) for rows in tied]))
