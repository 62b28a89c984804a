"""What a backbone's own classifier knows: the layer that extraction takes out, by class name."""

from dataclasses import dataclass

import numpy as np
import torch

from lib.descriptors.backbones import RANDOM, classification_layer, official_classifier
from lib.descriptors.weights import load_state, read_state, state_digest
from lib.errors import MissingError


@dataclass(frozen=True)
class ClassifierHead:
    """Logits of classes are x·weight + bias for a descriptor x."""

    weight: np.ndarray  # (descriptor_size, C) float32
    bias: np.ndarray  # (C,) float32
    names: list[str]  # C, synonyms parted by commas
    weights_digest: str  # as in Provenance


def classifier_head(name: str, weights: str | None = None) -> ClassifierHead:
    """The last layer of an ImageNet classifier of torchvision or timm, with its class names.

    `weights`: a file or URL of a state dict; without it the official ones. The names are those of
    timm's ImageNetInfo (WordNet's synonyms), else of torchvision's metadata. Raises MissingError
    where the weights cannot be had, lack the layer, or tell classes that have no names here.
    """
    if weights == RANDOM:
        raise MissingError("an untrained network knows no classes")
    classifier, pretrained = official_classifier(name)
    state = read_state(weights) if weights is not None else pretrained()
    layer = classification_layer(classifier)
    source = weights or f"{name}'s own weights"
    values = state.get(f"{layer}.weight")
    if values is None or values.ndim != 2:
        raise MissingError(f"{source} lack the layer that tells classes ({layer or 'none'})")
    load_state(classifier, state, name, source)
    bias = state.get(f"{layer}.bias", torch.zeros(len(values)))
    return ClassifierHead(
        values.float().numpy().T,
        bias.float().numpy(),
        class_names(len(values)),
        state_digest(classifier.state_dict()),
    )


def class_names(count: int) -> list[str]:
    """Names of the classes of an ImageNet classifier with this many. Raises MissingError."""
    try:
        from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset
    except ImportError:
        subset = None
    else:
        subset = infer_imagenet_subset({"num_classes": count})
    if subset is not None:
        info = ImageNetInfo(subset)
        return [str(info.index_to_description(index)) for index in range(count)]
    if count == 1000:
        import torchvision

        return list(torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"])
    raise MissingError(f"a classifier of {count} classes: what they are is not known here")
