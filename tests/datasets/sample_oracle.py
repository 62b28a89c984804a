"""The ceiling of caption→image retrieval on the sample: what perfect sight would reach."""

import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from lib.datasets.sample.composing import Description
from lib.datasets.sample.kinds import KINDS, PALETTE
from lib.datasets.sample.scenes import SCENES
from lib.datasets.sample.wording import NUMBERS

_AMOUNTS = {"some": "some", "a group of": "some", "several": "several", "a few": "several"}
_AMOUNTS |= {"a": "1", "an": "1", "a couple of": "2", **{n: str(i) for i, n in enumerate(NUMBERS)}}


def facts_of(description: Description) -> frozenset[str]:
    """Every fact that a caption of the image may state.

    "kinds: dog, kite" (a caption names all kinds), "dog: 2", "dog: some" (two or more),
    "dog: several" (three or more), "dog is brown", "place: beach", "mood: beach, sunset".
    """
    scene, mood = description.scene, description.mood
    facts = {_kinds(description), f"place: {scene}", f"mood: {scene}, {mood}"}
    for group in description.groups:
        amounts = [str(group.count), *["some", "several"][: group.count - 1]]
        facts |= {f"{group.kind}: {amount}" for amount in amounts}
        facts |= {f"{group.kind} is {group.colour}"} if group.colour else set()
    return frozenset(facts)


def stated_in(caption: str, description: Description) -> frozenset[str]:
    """The facts that a caption states, read out of its words.

    The description says only which kinds and scenes the words can be about. Raises AssertionError
    where a kind of it is not named.
    """
    text = caption.lower().rstrip(".")
    facts = {_kinds(description)}
    amounts, colours = "|".join(_AMOUNTS), "|".join(sorted(PALETTE, key=len, reverse=True))
    for group in description.groups:
        nouns = "|".join(noun for pair in KINDS[group.kind].nouns for noun in pair[::-1])
        nouns = re.sub(r"(pairs?) of ", rf"\1 of (?:(?:{colours}) )?", nouns)
        named = re.search(rf"\b({amounts}) (?:(?:{colours}) )?(?:{nouns})\b", text)
        assert named, (caption, group)
        facts.add(f"{group.kind}: {_AMOUNTS[named[1]]}")
        colour = re.search(rf"\b(?:{colours})\b", named[0])
        facts |= {f"{group.kind} is {colour[0]}"} if colour else set()
    for name, scene in SCENES.items():
        moods = {m for m, phrases in scene.moods.items() if text.endswith(tuple(phrases))}
        facts |= {f"mood: {name}, {mood}" for mood in moods}
        settings = tuple(
            f"{article} {noun} with" for article in ("a", "an") for noun in scene.settings
        )
        if moods or text.endswith(scene.places) or text.startswith(settings):
            facts.add(f"place: {name}")
    return frozenset(facts)


def _kinds(description: Description) -> str:
    return "kinds: " + ", ".join(sorted(group.kind for group in description.groups))


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
