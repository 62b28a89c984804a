"""State dicts of networks: read from a file or an address, checked, and told apart."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from lib.datasets.pretrained import fetch_weights
from lib.errors import BadInputError, MissingError
from lib.storage import absolute


class Weights(NamedTuple):
    """A state dict, and the file that it was read from; None where that is not known."""

    state: Mapping[str, torch.Tensor]
    file: Path | None = None


def read_weights(source: str) -> Weights:
    """The state dict of a file (.pth, .pt or .safetensors), or of a URL, kept in torch's cache.

    Raises MissingError where it cannot be had, BadInputError where it is no state dict.
    """
    place = absolute(source) if "://" in source else source
    path = fetch_weights(place) if "://" in place else Path(place).absolute()
    if not path.exists():
        raise MissingError(f"no weights at {source}")
    return Weights(_read(path, source), path)


def _read(path: Path, source: str) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BadInputError(f"{source} cannot be read as weights: {error}") from error
    except Exception as error:  # torch's own text advises to run any code that is in the file
        raise BadInputError(
            f"{source} cannot be read as weights: it is damaged, or holds more than tensors; give "
            "a state dict that torch.save or safetensors wrote"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in content.items()
    ):
        raise BadInputError(f"{source} is no state dict (names and tensors)")
    return content


def of_network(
    state: Mapping[str, torch.Tensor], classifier: nn.Module
) -> Mapping[str, torch.Tensor]:
    """A state by the network's own names, without what a training put before all of them.

    That is `module.`, `_orig_mod.`, or the network's place in a larger one, of which the rest is
    left out. As it is where no such place is the only one.
    """
    own = [*classifier.state_dict()]
    places = {name.removesuffix(own[0]) for name in state if name.endswith(own[0])}
    held = {place: sum(place + name in state for name in own) for place in places}
    most = max(held.values(), default=0)
    chosen = [place for place, count in held.items() if count == most > len(own) / 2]
    if len(chosen) != 1 or not chosen[0].endswith("."):
        return state
    return {
        name.removeprefix(chosen[0]): value
        for name, value in state.items()
        if name.startswith(chosen[0])
    }


def state_digest(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256, hexadecimal, over the names, types, shapes and values of a state dict."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_state(
    classifier: nn.Module, state: Mapping[str, torch.Tensor], name: str, source: str
) -> None:
    """Put a state into a network, its last layer aside. Raises BadInputError, naming up to three
    differences of each sort, where the state is another network's.
    """
    own = classifier.state_dict()
    fitting = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
    differences = {
        "missing": [key for key in own if key not in state and "num_batches_tracked" not in key],
        "unexpected": [key for key in state if key not in own],
        "shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
            for key in own
            if key in state and key not in fitting
        ],
    }
    # A classification layer of another size, or none, does no harm: it is taken out anyway.
    last = [key.rpartition(".")[0] for key in own][-1]
    problems = []
    for what, keys in differences.items():
        if keys := [key for key in keys if not key.startswith(f"{last}.")]:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            problems.append(f"{what} {', '.join(keys[:3])}{more}")
    if problems:
        raise BadInputError(f"the weights of {source} are not of {name}: {'; '.join(problems)}")
    try:
        classifier.load_state_dict(fitting, strict=False)
    except RuntimeError as error:
        raise BadInputError(
            f"the weights of {source} are quantized, sparse or without values; {name} takes plain "
            "tensors"
        ) from error
