"""Which network computes descriptors: all that is said of it, without the network."""

import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Self

from lib.datasets.pretrained import RESNET18_URL, fetch_weights
from lib.errors import MissingError
from lib.images.preprocessing import Preprocessing
from lib.schemas import Precision, Provenance

DEFAULT = "resnet18"
PACKAGED = "efficientnet_lite0"
RANDOM = "random"


@dataclass(frozen=True)
class Origin:
    """What tells one `lib.backbones.backbone.Backbone` from another."""

    name: str
    preprocessing: Preprocessing
    descriptor_size: int
    weights_digest: str

    def provenance(self, precision: Precision) -> Provenance:
        """What a descriptor records of its origin."""
        return Provenance(
            backbone=self.name,
            weights_digest=self.weights_digest,
            preprocessing=str(self.preprocessing),
            precision=precision,
            descriptor_size=self.descriptor_size,
        )

    @property
    def origin(self) -> "Origin":
        """This alone, without the network that a subclass has."""
        return Origin(*(getattr(self, field.name) for field in fields(Origin)))

    def seeing_as(self, provenance: Provenance | None) -> Self:
        """The same, with the centre crop where that made a database's descriptors.

        Databases from before whole pictures so stay of use.
        """
        cropping = replace(self.preprocessing, whole=False)
        if provenance is None or provenance.preprocessing != str(cropping):
            return self
        return replace(self, preprocessing=cropping)


def absolute_weights(weights: str | None) -> str | None:
    """The same weights from any working directory."""
    if weights is None or weights == RANDOM or "://" in weights:
        return weights
    return str(Path(weights).absolute())


def choose_name(name: str, weights: str | None) -> str:
    """The name that `auto` stands for: resnet18, or the packaged one where resnet18's weights
    cannot be had. Any other name is its own.
    """
    if name != "auto":
        return name
    try:
        if weights is None:
            fetch_weights(RESNET18_URL)
    except MissingError as error:
        print(
            f"{DEFAULT} weights cannot be had, taking the packaged {PACKAGED} ({error})",
            file=sys.stderr,
        )
        return PACKAGED
    return DEFAULT
