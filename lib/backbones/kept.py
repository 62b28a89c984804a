"""What earlier runs kept of networks, so that PyTorch, seconds to import, is loaded for news alone.

Kept are the origin of a file of weights, and a network's graphs: in float32, and in int8 as far as
a search went. All lie in the user's cache, with checksums: what is damaged is made again.
"""

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from lib.backbones import graphs
from lib.backbones.graphs import Graph
from lib.backbones.origin import DEFAULT, Origin, absolute_weights, choose_name
from lib.errors import MissingError
from lib.images.preprocessing import Preprocessing
from lib.schemas import require_same
from lib.storage import cache_directory, digest_of, keep_in_cache

if TYPE_CHECKING:
    from lib.backbones.backbone import Backbone

_FORM = 5  # goes up where what is kept of the same network comes to be another


@dataclass(frozen=True)
class LazyBackbone(Origin):
    """A backbone of which the origin is known, and whose network is loaded where one needs it."""

    load: Callable[[], "Backbone"]

    def loaded(self) -> "Backbone":
        """With its network; raises what `lib.backbones.backbone.load_backbone` does, and
        MismatchError where the file of weights has changed meanwhile.
        """
        loaded = self.load()
        require_same(
            f"the weights of backbone {self.name} now and when the run began",
            self.weights_digest,
            loaded.weights_digest,
            "Run again, and leave the file of weights as it is meanwhile",
        )
        return replace(loaded, preprocessing=self.preprocessing)


AnyBackbone: TypeAlias = "Backbone | LazyBackbone"


def open_backbone(name: str = DEFAULT, weights: str | None = None) -> AnyBackbone:
    """A backbone as `lib.backbones.backbone.load_backbone` loads it, and raises.

    Where an earlier run loaded it from a file that still has the same content, it is not loaded.
    """
    name = choose_name(name, weights)
    place = place_of_weights("backbones", name, weights)

    def load() -> "Backbone":
        from lib.backbones.backbone import load_backbone

        return load_backbone(name, weights)

    if kept := kept_of_weights(place):
        return LazyBackbone(**_origin(kept[0]), load=load)
    backbone = load()
    keep_of_weights(place, backbone.file, asdict(backbone.origin))
    return backbone


def kept_graph(backbone: AnyBackbone) -> Graph | None:
    """The packed float32 graph of a backbone, where an earlier `converted` kept it."""
    kept = _read(_graph(backbone))
    return kept and kept.graph


def converted(backbone: AnyBackbone) -> Graph | None:
    """The packed float32 graph of a backbone, see `lib.backbones.conversion.convert`."""
    if graphs.openvino is None:
        return None
    if graph := kept_graph(backbone):
        return graph
    from lib.backbones import conversion

    model = conversion.convert(backbone.loaded())
    if model is None:
        return None
    graph = graphs.pack(model)
    _write(_graph(backbone), NamedGraph(graph, "float32"))
    return graph


class NamedGraph(NamedTuple):
    """A graph, and what it computes in, in words; None where a search ended without one."""

    graph: Graph | None
    name: str


def kept_int8(backbone: AnyBackbone, bfloat16: bool) -> NamedGraph | None:
    """What `keep_int8` kept."""
    return _read(_graph(backbone, f"int8 {bfloat16}"))


def keep_int8(backbone: AnyBackbone, bfloat16: bool, form: NamedGraph) -> None:
    """Keep what a search for convolutions that can be int8 came to, on such a processor."""
    _write(_graph(backbone, f"int8 {bfloat16}"), form)


def _graph(backbone: AnyBackbone, form: str = "float32") -> Path:
    compiler = graphs.openvino and graphs.openvino.__version__
    return _place("graphs", f"{backbone.provenance('float32')} {form} {compiler}")


def _read(place: Path) -> NamedGraph | None:
    kept = _read_arrays(place)
    if not kept:
        return None
    graph = Graph(kept["xml"].tobytes(), kept["weights"])
    return NamedGraph(graph if graph.xml else None, str(kept["name"]))


def _write(place: Path, named: NamedGraph) -> None:
    graph = named.graph or Graph(b"", np.empty(0, np.uint8))
    xml = np.frombuffer(graph.xml, np.uint8)
    _write_arrays(place, xml=xml, weights=graph.weights, name=np.array(named.name))


def place_of_weights(kind: str, name: str, weights: str | None) -> Path:
    """Where something of weights is kept: by what they are asked for with, here."""
    return _place(kind, f"{name} {absolute_weights(weights)}")


def kept_of_weights(place: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """What `keep_of_weights` kept, where the file still has the content that it had."""
    arrays = _read_arrays(place)
    if arrays:
        file, digest, about = json.loads(str(arrays.pop("about")))
        with suppress(OSError, MissingError):
            if digest_of(file).sha256 == digest:
                return about, arrays
    return None


def keep_of_weights(
    place: Path, file: Path | None, about: Mapping[str, Any], **arrays: np.ndarray
) -> None:
    """Keep what was read of weights; nothing where their file is not known, or gone already."""
    if file is not None:
        with suppress(OSError, MissingError):
            told = json.dumps([str(file), digest_of(str(file)).sha256, about])
            _write_arrays(place, about=np.array(told), **arrays)


def _read_arrays(place: Path) -> dict[str, np.ndarray]:
    """No arrays where nothing is kept, or it is damaged, which shows in many ways."""
    with suppress(Exception), np.load(place) as kept:
        return dict(kept)
    return {}


def _write_arrays(place: Path, **arrays: np.ndarray) -> None:
    sink = io.BytesIO()
    np.savez(sink, allow_pickle=False, **arrays)
    keep_in_cache(place, sink.getbuffer())


def _place(kind: str, what: str) -> Path:
    told = f"{what} {_versions()} {_FORM}"
    name = hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return cache_directory() / kind / f"{name}.npz"


def _versions() -> str:
    """Of the packages that say what a network computes."""
    told = []
    for package in ("torch", "torchvision", "timm"):
        with suppress(PackageNotFoundError):
            told.append(f"{package} {version(package)}")
    return ", ".join(told)


def _origin(kept: dict[str, Any]) -> dict[str, Any]:
    """Fields of an `Origin` as JSON holds them."""
    own = kept["preprocessing"]
    numbers = {name: tuple(own[name]) for name in ("mean", "std")}
    return kept | {"preprocessing": Preprocessing(**own | numbers)}
