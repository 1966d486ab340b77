"""The folder of this user's files that can be made again on this machine."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return `$TUNESMITH_CACHE`, or `~/.cache/tunesmith`; it may not exist yet."""
    return Path(os.environ.get("TUNESMITH_CACHE") or Path.home() / ".cache" / "tunesmith").absolute()
