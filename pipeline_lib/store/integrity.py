"""Detect damaged artifacts and disk problems: changed files, links in place of files, failed reads and writes."""

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
    """An artifact differs from what was published; the message says how."""


DAMAGE = (ValueError, FileNotFoundError, IsADirectoryError, NotADirectoryError)
"""Errors that mean changed or missing files. Any other OSError is a problem of the disk or of permissions."""


def regular_files(folder: Path) -> dict[str, Path]:
    """Return every file below a folder by relative path; raises Damage for a link, a pipe or a device.

    Links are not followed: their targets lie outside the artifact and can change independently.
    """
    found = {}
    for place, folders, names in os.walk(folder, onerror=_raise):  # rglob would silently skip an unreadable folder
        for path in (Path(place, name) for name in (*folders, *names)):
            mode, name = path.lstat().st_mode, path.relative_to(folder).as_posix()
            if stat.S_ISREG(mode):
                found[name] = path
            elif not stat.S_ISDIR(mode):
                raise Damage(f"{name} is a link or a device, not a file")
    return dict(sorted(found.items()))


def set_aside(root: Path, folder: Path) -> Path:
    """Move a damaged artifact to ROOT/damaged; returns its new folder."""
    aside = root / "damaged" / f"{folder.parent.name}-{folder.name}-{uuid.uuid4().hex[:8]}"
    aside.parent.mkdir(exist_ok=True)
    os.rename(folder, aside)
    return aside


@contextmanager
def describe_damage(root: Path, every: bool = False, field: str = "execution.store") -> Iterator[None]:
    """Turn disk errors into a RecipeError: a full disk, or a failed access below `root`; with `every`, any OSError."""
    try:
        yield
    except Exception as error:
        if isinstance(error, RecipeError):
            raise
        if _full(error):
            hint = "Free some space, for example with `tunesmith cache gc --older-than 30d`"
            raise RecipeError(field, str(root), "the disk is full", hint) from error
        if isinstance(error, OSError) and (every or _is_refused(error, root)):
            hint = "No artifact was changed: check the disk and this account's permissions, then run again"
            raise RecipeError(field, str(root), f"cannot be read or written ({error})", hint) from error
        raise


def _full(error: Exception) -> bool:
    """Return whether the disk is full; safetensors and others raise their own errors with the system's message."""
    return getattr(error, "errno", None) in FULL or os.strerror(errno.ENOSPC) in str(error)


def _is_refused(error: OSError, root: Path) -> bool:
    return error.errno in REFUSED and error.filename is not None and Path(str(error.filename)).is_relative_to(root)


def _raise(error: OSError) -> None:
    raise error
