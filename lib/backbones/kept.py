"""What earlier runs kept of networks, so that PyTorch, seconds to import, is loaded for news alone.

Kept are the origin of a file of weights, and a network's graphs: in float32, and in int8 as far as
a search went. All lie in the user's cache, with checksums: what is damaged is made again.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from lib.backbones import graphs
from lib.backbones.graphs import Graph
from lib.backbones.origin import DEFAULT, Origin, choose_name
from lib.errors import MissingError
from lib.images.preprocessing import Preprocessing
from lib.schemas import require_same
from lib.storage import cache_directory, digest_of, keep_in_cache

if TYPE_CHECKING:
    from lib.backbones.backbone import Backbone

_FORM = 3  # goes up where what is kept of the same network comes to be another


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
    entry = place_of_weights("backbones", name, weights, "txt")

    def load() -> "Backbone":
        from lib.backbones.backbone import load_backbone

        return load_backbone(name, weights)

    with suppress(OSError, MissingError, ValueError, KeyError, TypeError):
        checksum, body = entry.read_bytes().split(b"\n", 1)
        if checksum.decode() == hashlib.sha256(body).hexdigest():
            kept = json.loads(body)
            if is_unchanged(kept):
                return LazyBackbone(**_origin(kept["origin"]), load=load)
    backbone = load()
    if backbone.file is not None:
        with suppress(OSError, MissingError):  # a file that is gone already is read anew next time
            about = content_of(backbone.file) | {"origin": asdict(backbone.origin)}
            body = json.dumps(about, indent=1).encode()
            checksum = hashlib.sha256(body).hexdigest().encode()
            keep_in_cache(entry, checksum + b"\n" + body)
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


def _read(file: Path) -> NamedGraph | None:
    damage = OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile
    with suppress(*damage), np.load(file) as kept:
        graph = Graph(kept["xml"].tobytes(), kept["weights"])
        return NamedGraph(graph if graph.xml else None, str(kept["name"]))
    return None


def _write(file: Path, named: NamedGraph) -> None:
    graph = named.graph or Graph(b"", np.empty(0, np.uint8))
    xml = np.frombuffer(graph.xml, np.uint8)
    sink = io.BytesIO()
    np.savez(sink, xml=xml, weights=graph.weights, name=np.array(named.name))
    keep_in_cache(file, sink.getbuffer())


def _graph(backbone: AnyBackbone, form: str = "float32") -> Path:
    compiler = graphs.openvino and graphs.openvino.__version__
    what = f"{backbone.provenance('float32')} {form} {compiler} {_versions()} {_FORM}"
    return _place("graphs", what, "npz")


def place_of_weights(kind: str, name: str, weights: str | None, suffix: str) -> Path:
    """Where something of weights is kept: by what they are asked for with, here."""
    if weights is not None and "://" not in weights:
        weights = str(Path(weights).absolute())
    return _place(kind, f"{name} {weights} {_versions()} {_FORM}", suffix)


def content_of(file: Path) -> dict[str, Any]:
    """What `is_unchanged` later compares a file with. Raises MissingError where it is gone."""
    return {"file": str(file), "sha256": digest_of(str(file)).sha256}


def is_unchanged(kept: Mapping[str, Any]) -> bool:
    """Whether a file still has the content that it had. Raises MissingError where it is gone."""
    return digest_of(kept["file"]).sha256 == kept["sha256"]


def _place(kind: str, what: str, suffix: str) -> Path:
    name = hashlib.sha256(what.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return cache_directory() / kind / f"{name}.{suffix}"


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
