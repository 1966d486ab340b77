"""Bring files and folders to the disk before they count.

A rename can reach the disk before the bytes that it publishes: after a power failure the name would stand for zeros. So
contents are synced first, then they are renamed, then the folder that holds the new name is synced.
"""

import errno
import os
import uuid
from contextlib import suppress
from pathlib import Path


def sync(path: Path) -> None:
    """Wait until a file's bytes, or the names in a folder, are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(number)


def sync_tree(folder: Path) -> None:
    """Sync all files below a folder, and the folders that hold them."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync(Path(place, name))
        sync(Path(place))


def publish_folder(aside: Path, place: Path) -> None:
    """Rename a folder that was written aside, with its contents on the disk before and the new name after."""
    sync_tree(aside)
    os.rename(aside, place)
    sync(place.parent)


def write_durably(path: Path, text: str) -> None:
    """Write a text file whole or not at all, in place of the one before."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        aside.write_text(text, encoding="utf-8")
        sync(aside)
        os.replace(aside, path)
    finally:
        with suppress(FileNotFoundError):
            aside.unlink()
    sync(path.parent)
