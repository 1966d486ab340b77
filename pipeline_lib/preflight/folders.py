"""Check whether this account can write and lock files in a folder."""

import errno
import fcntl
import os
import tempfile
from pathlib import Path
from typing import IO

LOCKS_MISSING = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


def find_existing_parent(path: Path) -> Path:
    """Return the path, or its nearest parent that exists."""
    path = path.absolute()
    while not os.path.exists(path) and path != path.parent:
        path = path.parent
    return path


def is_writable(path: Path) -> bool:
    """Return whether this account may write to a file, or create files in a folder."""
    return os.access(path, os.W_OK | (os.X_OK if path.is_dir() else 0))


def why_unusable(folder: Path) -> str | None:
    """Write, read and lock a file in a folder; return why that fails, or None if it works.

    The file is unlinked at once, so that nothing is left behind if the process is killed.
    """
    data = b"written by tunesmith to see whether it may"
    try:
        number, name = tempfile.mkstemp(prefix=".tunesmith-probe-", dir=folder)
        with open(number, "wb", buffering=0) as file, open(name, "rb", buffering=0) as other:
            os.unlink(name)
            file.write(data)
            os.fsync(number)
            if other.read() != data:
                return "does not return what was written to it"
            return _why_no_locks(file, other)
    except OSError as error:
        return f"cannot be written ({error.strerror})"


def _why_no_locks(file: IO[bytes], other: IO[bytes]) -> str | None:
    """Return why file locks do not work, or None if they do.

    The second lock must be refused; some network file systems grant every lock, or none.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno in LOCKS_MISSING:
            return "is on a file system without file locks"
        raise
    return "is on a file system whose locks do not exclude one another"
