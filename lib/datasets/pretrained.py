"""Pretrained parts from their official hosts: GloVe word vectors, torchvision's weights."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from lib.datasets.archives import unpack
from lib.datasets.download import DownloadError, RemoteFile, download, published
from lib.errors import BadArgumentError, BadInputError, MissingError

_GLOVE = "https://nlp.stanford.edu/data/glove.6B.zip"
_GLOVE_MIRROR = "https://downloads.cs.stanford.edu/nlp/data/glove.6B.zip"
# As torchtext, Embeddings.jl and others record it; Stanford itself publishes no digest.
_GLOVE_SIZE = 862_182_613
_GLOVE_SHA256 = "617afb2fe6cbd085c235baf7a465b96f4112bd7f7ccb2b2cbd649fed9cbcf2fb"
# As torchvision has it, which takes seconds to import.
RESNET18_URL = "https://download.pytorch.org/models/resnet18-f37072fd.pth"


def prepare_glove(dimension: int, directory: Path, base_url: str | None = None) -> Path:
    """Bring `glove.6B.<dimension>d.txt` below `directory`, as far as it is not there.

    The zip holds 50, 100, 200 and 300 dimensions and stays beside it, so that others are unpacked
    without a second download. Raises DownloadError where it cannot be had.
    """
    name = f"glove.6B.{dimension}d.txt"
    target = directory / name
    if target.exists():
        return target
    archive = directory / "glove.6B.zip"
    remote = published(_GLOVE, archive, base_url, _GLOVE_SIZE, f"sha256:{_GLOVE_SHA256}")
    if base_url is None:
        remote = replace(remote, urls=(_GLOVE, _GLOVE_MIRROR))
    download(remote)

    def only_it(member: str) -> str | None:
        return name if PurePosixPath(member).name == name else None

    if not unpack(archive, directory, only_it):
        raise BadInputError(f"{archive} holds no {name}")
    return target


def prepare_weights(model: str, base_url: str | None = None) -> Path:
    """Bring torchvision's weights of a model into torch's cache, where they are looked for.

    Their file name holds the start of their SHA-256, which is checked. Raises BadArgumentError
    where torchvision has no such model, DownloadError where they cannot be had.
    """
    import torchvision

    try:
        url = torchvision.models.get_model_weights(model).DEFAULT.url
    except ValueError as error:
        raise BadArgumentError(
            f"torchvision has no model {model!r}; one that it has is resnet18"
        ) from error
    target, digest = _cached(url)
    download(published(url, target, base_url, digest=digest))
    return target


def fetch_weights(url: str) -> Path:
    """File of a URL in torch's cache; an interrupted download goes on in the next run.

    A name such as resnet18-f37072fd.pth holds the start of its SHA-256, which is checked. Raises
    MissingError where it cannot be had.
    """
    path, digest = _cached(url)
    if not path.exists():
        try:
            download(RemoteFile((url,), path, digest=digest))
        except DownloadError as error:
            raise MissingError(f"{error}, or give --weights FILE") from error
    return path


def _cached(url: str) -> tuple[Path, str]:
    """File of a URL in torch's cache, and the digest whose start its name holds, if any.

    Without one, as in pytorch_model.bin, the name may be that of many files: the URL tells them
    apart.
    """
    name = PurePosixPath(urlsplit(url).path)
    mark = name.stem.rpartition("-")[2]
    if len(mark) >= 8 and set(mark) <= set("0123456789abcdef"):
        return torch_cache() / name.name, f"sha256:{mark}"
    return torch_cache() / f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name.name}", ""


def torch_cache() -> Path:
    """Where torch keeps downloaded weights (as torch.hub.get_dir, without importing torch)."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or f"{cache}/torch"
    return Path(home).expanduser() / "hub" / "checkpoints"
