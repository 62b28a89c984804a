"""Captions: five ways of saying what an image shows, each with the facts that it states."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lib.datasets.sample.composing import Description, Group
from lib.datasets.sample.kinds import KINDS
from lib.datasets.sample.scenes import SCENES

NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
CAPTIONS_PER_IMAGE = 5
PLURAL_OPENINGS = ("a couple of", "a group of", "a few")


@dataclass(frozen=True)
class Caption:
    """A caption and the facts it states, each true of the image (see `facts_of`)."""

    text: str
    facts: frozenset[str]


def facts_of(description: Description) -> frozenset[str]:
    """Every fact that a caption of the image may state.

    "kinds: dog, kite" (a caption names all kinds), "dog: 2", "dog: some" (two or more),
    "dog: several" (three or more), "dog is brown", "place: beach", "mood: beach, sunset".
    """
    facts = {_kinds(description), f"place: {description.scene}", _mood(description)}
    for group in description.groups:
        facts.add(f"{group.kind}: {group.count}")
        if group.count > 1:
            facts.add(f"{group.kind}: some")
        if group.count > 2:
            facts.add(f"{group.kind}: several")
        if group.colour:
            facts.add(f"{group.kind} is {group.colour}")
    return frozenset(facts)


def _kinds(description: Description) -> str:
    return "kinds: " + ", ".join(sorted(group.kind for group in description.groups))


def _mood(description: Description) -> str:
    return f"mood: {description.scene}, {description.mood}"


def with_article(noun: str) -> str:
    """The noun with "a" or "an" (by its first letter: no noun of the sample sounds otherwise)."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _coloured(noun: str, colour: str) -> str:
    """The noun with its colour where it belongs: "red car", "pair of red skis"."""
    if not colour:
        return noun
    for pair in ("pair of ", "pairs of "):
        if noun.startswith(pair):
            return f"{pair}{colour} {noun.removeprefix(pair)}"
    return f"{colour} {noun}"


class _Writer:
    """Writes one caption and notes what it states."""

    def __init__(self, description: Description, rng: np.random.Generator) -> None:
        self.description = description
        self.rng = rng
        self.scene = SCENES[description.scene]
        self.facts = {_kinds(description)}

    def pick(self, options: tuple[str, ...]) -> str:
        return options[int(self.rng.integers(len(options)))]

    def things(self, group: Group) -> str:
        """A noun phrase for a group: "two brown dogs", "a glass of orange juice"."""
        kind = KINDS[group.kind]
        noun, plural = kind.nouns[int(self.rng.integers(len(kind.nouns)))]
        colour = ""
        if group.colour and self.rng.random() < 0.65:
            colour = group.colour
            self.facts.add(f"{group.kind} is {group.colour}")
        if group.count == 1:
            self.facts.add(f"{group.kind}: 1")
            return with_article(_coloured(noun, colour))
        return f"{self.amount(group)} {_coloured(plural, colour)}"

    def amount(self, group: Group) -> str:
        """An exact number mostly, at times a vague one."""
        draw = self.rng.random()
        if draw < 0.12:
            self.facts.add(f"{group.kind}: some")
            return self.pick(("some", "a group of"))
        if draw < 0.24 and group.count > 2:
            self.facts.add(f"{group.kind}: several")
            return self.pick(("several", "a few"))
        self.facts.add(f"{group.kind}: {group.count}")
        if group.count == 2 and self.rng.random() < 0.25:
            return "a couple of"
        return NUMBERS[group.count]

    def where(self) -> str:
        """A phrase for the place, often with its mood."""
        self.facts.add(f"place: {self.description.scene}")
        if self.rng.random() < 0.4:
            self.facts.add(_mood(self.description))
            return self.pick(self.scene.moods[self.description.mood])
        return self.pick(self.scene.places)

    def subject(self, joint: str = "and") -> str:
        """All groups in an order of their own, joined."""
        order = self.rng.permutation(len(self.description.groups))
        phrases = [self.things(self.description.groups[i]) for i in order]
        if len(phrases) == 1:
            return phrases[0]
        return f"{', '.join(phrases[:-1])} {joint} {phrases[-1]}"

    @property
    def many(self) -> bool:
        return sum(group.count for group in self.description.groups) > 1

    def verb(self) -> str:
        """What they do; only words that fit every kind when there are several."""
        groups = self.description.groups
        if len(groups) == 1:
            return self.pick(KINDS[groups[0].kind].verbs)
        return self.pick(("seen", "together", "side by side"))


def _plain(writer: _Writer) -> str:
    return f"{writer.subject()} {writer.where()}"


def _doing(writer: _Writer) -> str:
    return f"{writer.subject()} {writer.verb()} {writer.where()}"


def _there_is(writer: _Writer) -> str:
    subject = writer.subject()
    one = subject.startswith(("a ", "an ")) and not subject.startswith(PLURAL_OPENINGS)
    return f"there {'is' if one else 'are'} {subject} {writer.where()}"


def _picture(writer: _Writer) -> str:
    opening = writer.pick(
        ("a photo of", "a picture of", "an image of", "a close up of", "a view of")
    )
    tail = f" {writer.where()}" if writer.rng.random() < 0.6 else ""
    return f"{opening} {writer.subject()}{tail}"


def _setting(writer: _Writer) -> str:
    writer.facts.add(f"place: {writer.description.scene}")
    return f"{with_article(writer.pick(writer.scene.settings))} with {writer.subject()}"


def _beside(writer: _Writer) -> str:
    if len(writer.description.groups) == 1:
        return f"{writer.subject()} {writer.where()}"
    return f"{writer.subject(writer.pick(('next to', 'beside', 'near', 'along with')))} " + (
        writer.where() if writer.rng.random() < 0.8 else ""
    )


def _that(writer: _Writer) -> str:
    subject = writer.subject()
    be = "are" if writer.many else "is"
    return f"{subject} that {be} {writer.where()}"


_FORMS: tuple[Callable[[_Writer], str], ...] = (
    _plain, _doing, _there_is, _picture, _setting, _beside, _that,
)  # fmt: skip


def captions_of(description: Description, rng: np.random.Generator) -> list[Caption]:
    """Five different captions, each in another form of sentence."""
    captions: list[Caption] = []
    for form in rng.permutation(len(_FORMS)):
        writer = _Writer(description, rng)
        text = " ".join(_FORMS[form](writer).split())
        text = text[0].upper() + text[1:] + "."
        if text not in [caption.text for caption in captions]:
            captions.append(Caption(text, frozenset(writer.facts)))
        if len(captions) == CAPTIONS_PER_IMAGE:
            break
    return captions
