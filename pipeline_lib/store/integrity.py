"""What a disk can do to a store: files that changed, files that are none, reads and writes that it refuses."""

import errno
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline_lib.errors import RecipeError

FULL = {errno.ENOSPC, errno.EDQUOT}
REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO}


class Damage(ValueError):
    """An artifact is not what was published; the message says what changed."""


DAMAGE = (ValueError, FileNotFoundError, IsADirectoryError, NotADirectoryError)
"""Errors that mean other bytes or none. Any other OSError is about the disk or its rights, not about the bytes."""


def regular_files(folder: Path) -> dict[str, Path]:
    """Every file below a folder by relative path; raises Damage for a link, a pipe or a device.

    A link is refused rather than followed: what it leads to lies outside the artifact and can change by itself.
    """
    found = {}
    for place, folders, names in os.walk(folder, onerror=_raise):  # rglob would pass over a folder it may not read
        for path in (Path(place, name) for name in (*folders, *names)):
            mode, name = path.lstat().st_mode, path.relative_to(folder).as_posix()
            if stat.S_ISREG(mode):
                found[name] = path
            elif not stat.S_ISDIR(mode):
                raise Damage(f"{name} is a link or a device, no file")
    return dict(sorted(found.items()))


def set_aside(root: Path, folder: Path) -> Path:
    """Move a damaged artifact out of the way, with all that is left of it; where it lies now."""
    aside = root / "damaged" / f"{folder.parent.name}-{folder.name}-{uuid.uuid4().hex[:8]}"
    aside.parent.mkdir(exist_ok=True)
    os.rename(folder, aside)
    return aside


@contextmanager
def describe_damage(root: Path, every: bool = False, field: str = "execution.store") -> Iterator[None]:
    """Raise a RecipeError where the disk is full or refuses a file below `root` (with `every`, any OSError at all)."""
    try:
        yield
    except Exception as error:
        if isinstance(error, RecipeError):
            raise
        if _full(error):
            hint = "Free some space, for example with `tunesmith cache gc --older-than 30d`"
            raise RecipeError(field, str(root), "the disk is full", hint) from error
        if isinstance(error, OSError) and (every or _refused(error, root)):
            hint = "Nothing was set aside: see to the disk and to this account's rights, then run again"
            raise RecipeError(field, str(root), f"cannot be read or written ({error})", hint) from error
        raise


def _full(error: Exception) -> bool:
    """Safetensors and others raise errors of their own, with the system's words in them."""
    return getattr(error, "errno", None) in FULL or os.strerror(errno.ENOSPC) in str(error)


def _refused(error: OSError, root: Path) -> bool:
    return error.errno in REFUSED and error.filename is not None and Path(str(error.filename)).is_relative_to(root)


def _raise(error: OSError) -> None:
    raise error
