"""What this account may do in a folder of this machine: write, and lock."""

import errno
import fcntl
import os
import tempfile
from contextlib import suppress
from pathlib import Path

LOCKS_MISSING = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


def existing_part(path: Path) -> Path:
    """A path, or the nearest folder above it that exists."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def is_writable(path: Path) -> bool:
    """Whether this account may write a file, or into a folder."""
    return os.access(path, os.W_OK | (os.X_OK if path.is_dir() else 0))


def why_unusable(folder: Path) -> str | None:
    """Write, lock, read and remove a file in a folder; why that does not work, or None where it does."""
    data = b"written by tunesmith to see whether it may"
    try:
        number, name = tempfile.mkstemp(prefix=".tunesmith-probe-", dir=folder)
    except OSError as error:
        return f"cannot be written ({error.strerror})"
    try:
        os.write(number, data)
        os.fsync(number)
        if Path(name).read_bytes() != data:
            return "does not give back what was written to it"
        return _why_no_locks(number, name)
    except OSError as error:
        return f"cannot be written ({error.strerror})"
    finally:
        os.close(number)
        with suppress(OSError):
            os.unlink(name)


def _why_no_locks(number: int, name: str) -> str | None:
    """Whether a second holder of a file's lock is refused: some network file systems grant every lock, or none."""
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in LOCKS_MISSING:
            return "is on a file system without file locks"
        raise
    with open(name, "rb") as other:
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
    return "is on a file system whose locks do not exclude one another"
