"""Captions: five ways of saying what an image shows."""

from dataclasses import dataclass

import numpy as np

from lib.datasets.sample.composing import Description, Group
from lib.datasets.sample.kinds import KINDS
from lib.datasets.sample.scenes import SCENES

NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
CAPTIONS_PER_IMAGE = 5
PLURAL_OPENINGS = ("a couple of", "a group of", "a few")
OPENINGS = ("a photo of", "a picture of", "an image of", "a close up of", "a view of")
FORMS = ("plain", "doing", "there is", "picture", "setting", "beside", "that")


def with_article(noun: str) -> str:
    """The noun with "a" or "an" (by its first letter: no noun of the sample sounds otherwise)."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _coloured(noun: str, colour: str) -> str:
    """The noun with its colour where it belongs: "red car", "pair of red skis"."""
    pair, of, rest = noun.rpartition(" of ")
    if pair.startswith("pair"):
        return f"{pair}{of}{colour} {rest}" if colour else noun
    return f"{colour} {noun}".strip()


@dataclass
class _Writer:
    """Writes captions of an image."""

    description: Description
    rng: np.random.Generator

    def pick(self, options: tuple[str, ...]) -> str:
        return options[int(self.rng.integers(len(options)))]

    def things(self, group: Group) -> str:
        """A noun phrase for a group: "two brown dogs", "a glass of orange juice"."""
        kind = KINDS[group.kind]
        noun, plural = kind.nouns[int(self.rng.integers(len(kind.nouns)))]
        colour = group.colour if group.colour and self.rng.random() < 0.65 else ""
        if group.count == 1:
            return with_article(_coloured(noun, colour))
        return f"{self.amount(group.count)} {_coloured(plural, colour)}"

    def amount(self, count: int) -> str:
        """An exact number mostly, at times a vague one."""
        draw = self.rng.random()
        if draw < 0.12:
            return self.pick(("some", "a group of"))
        if draw < 0.24 and count > 2:
            return self.pick(("several", "a few"))
        if count == 2 and self.rng.random() < 0.25:
            return "a couple of"
        return NUMBERS[count]

    def where(self) -> str:
        """A phrase for the place, often with its mood."""
        scene, with_mood = SCENES[self.description.scene], self.rng.random() < 0.4
        return self.pick(scene.moods[self.description.mood] if with_mood else scene.places)

    def subject(self, joint: str = "and") -> str:
        """All groups in an order of their own, joined."""
        order = self.rng.permutation(len(self.description.groups))
        phrases = [self.things(self.description.groups[i]) for i in order]
        if len(phrases) == 1:
            return phrases[0]
        return f"{', '.join(phrases[:-1])} {joint} {phrases[-1]}"

    def write(self, form: str) -> str:
        """The sentence in one of `FORMS`, without its capital and its full stop."""
        groups = self.description.groups
        if form == "setting":
            setting = self.pick(SCENES[self.description.scene].settings)
            return f"{with_article(setting)} with {self.subject()}"
        beside = self.pick(("next to", "beside", "near", "along with"))
        subject = self.subject(beside if form == "beside" else "and")
        if form == "picture":
            place = self.where() if self.rng.random() < 0.6 else ""
            return f"{self.pick(OPENINGS)} {subject} {place}"
        if form == "beside" and len(groups) > 1 and self.rng.random() < 0.2:
            return subject
        if form == "doing":
            # Only words that fit every kind where there are several.
            together = ("seen", "together", "side by side")
            verb = self.pick(KINDS[groups[0].kind].verbs if len(groups) == 1 else together)
            return f"{subject} {verb} {self.where()}"
        if form == "there is":
            one = subject.startswith(("a ", "an ")) and not subject.startswith(PLURAL_OPENINGS)
            return f"there {'is' if one else 'are'} {subject} {self.where()}"
        if form == "that":
            one = sum(group.count for group in groups) == 1
            return f"{subject} that {'is' if one else 'are'} {self.where()}"
        return f"{subject} {self.where()}"


def captions_of(description: Description, rng: np.random.Generator) -> list[str]:
    """Five different captions, each in another form of sentence."""
    writer = _Writer(description, rng)
    texts = [" ".join(writer.write(FORMS[form]).split()) for form in rng.permutation(len(FORMS))]
    captions = dict.fromkeys(text[0].upper() + text[1:] + "." for text in texts)
    return list(captions)[:CAPTIONS_PER_IMAGE]
