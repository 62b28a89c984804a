"""Where this project keeps what it can make again."""

import os
from pathlib import Path


def cache_directory() -> Path:
    """Below XDG_CACHE_HOME, else ~/.cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "semantic-image-search"
