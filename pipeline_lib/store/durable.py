"""Write files and folders so that they survive a power failure.

A rename can reach the disk before the renamed contents; after a power failure the file would then be full of zeros. So
the contents are synced first, then renamed, and then the parent folder with the new name is synced.
"""

import errno
import os
import uuid
from contextlib import suppress
from pathlib import Path


def sync(path: Path) -> None:
    """Wait until the contents of a file, or the names in a folder, are on disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(number)


def sync_tree(folder: Path) -> None:
    """Sync all files and folders below a folder, and the folder itself."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync(Path(place, name))
        sync(Path(place))


def publish_folder(aside: Path, place: Path) -> None:
    """Rename a temporary folder to its final name; syncs its contents before and the parent folder after."""
    sync_tree(aside)
    os.rename(aside, place)
    sync(place.parent)


def write_durably(path: Path, text: str) -> None:
    """Write or replace a text file atomically."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        aside.write_text(text, encoding="utf-8")
        sync(aside)
        os.replace(aside, path)
    finally:
        with suppress(FileNotFoundError):
            aside.unlink()
    sync(path.parent)
