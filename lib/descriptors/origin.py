"""Which network computes descriptors: all that is said of it, without the network."""

from dataclasses import dataclass

from lib.images.preprocessing import Preprocessing
from lib.schemas import Precision, Provenance


@dataclass(frozen=True)
class Origin:
    """What tells one `lib.descriptors.backbones.Backbone` from another."""

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
