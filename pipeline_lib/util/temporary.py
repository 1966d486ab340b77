"""Temporary folders that record their process, so that folders of killed processes can be found and removed."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from pipeline_lib.tracking.process_marks import exists, own_mark

PREFIX, OWNER, FILES = "tunesmith-", "process", "files"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Create an empty folder in $TMPDIR, and remove it at the end."""
    with TemporaryDirectory(prefix=PREFIX) as folder:
        Path(folder, OWNER).write_text(own_mark(), encoding="ascii")
        files = Path(folder, FILES)
        files.mkdir()
        yield files


def find_left_folders() -> list[Path]:
    """Return this user's temporary folders whose processes no longer exist."""
    return [folder for folder in sorted(Path(gettempdir()).glob(f"{PREFIX}*")) if _is_left(folder)]


def _is_left(folder: Path) -> bool:
    try:
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            return False  # other users may write to $TMPDIR too
        return exists((folder / OWNER).read_text(encoding="ascii")) is False
    except (OSError, ValueError):  # just removed, or not a folder of ours
        return False
