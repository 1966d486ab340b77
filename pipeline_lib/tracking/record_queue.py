"""A queue on disk for the records of a training's history until they are sent to MLflow."""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline_lib.store.integrity import Damage
from pipeline_lib.store.sealed import seal, unseal
from pipeline_lib.util.strict_json import finite

Record = dict[str, Any]


class RecordQueue:
    """An append-only file of JSON lines, one for each record, in the order of the history.

    A training that resumes after a kill appends its history again from the first record. Records that the file already
    has are skipped by position, so each keeps its original timestamp. MLflow stores a metric with the same step, time
    and value only once, so a batch can be resent if its response was lost.
    """

    def __init__(self, path: Path):
        self.path = path
        self.length = cut_damaged_lines(path)
        """Records in the file."""
        self.offered = 0
        self.taken, self.offset = 0, 0
        """Number of records that `take` has returned, and their end in the file in bytes."""

    def append(self, records: Sequence[Record]) -> None:
        """Add the records that the file does not have yet."""
        new = list(records)[max(0, self.length - self.offered) :]
        self.offered += len(records)
        if not new:
            return
        now = int(time.time() * 1000)
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(seal(finite({"at": now, **record})) + "\n" for record in new))
        self.length += len(new)

    def rewind(self) -> None:
        """Start again from the first record."""
        self.taken, self.offset = 0, 0

    def skip_to(self, count: int) -> None:
        """Skip records until `count` are taken."""
        for _ in self._lines(count - self.taken):
            pass

    def take(self, most: int) -> list[Record]:
        """Return the next records, at most `most`."""
        return [unseal(line) for line in self._lines(most)]

    def _lines(self, most: int) -> Iterator[bytes]:
        most = min(most, self.length - self.taken)
        if most <= 0:
            return
        with self.path.open("rb") as file:
            file.seek(self.offset)
            for _ in range(most):
                line = file.readline()
                self.taken += 1
                self.offset += len(line)
                yield line


def cut_damaged_lines(path: Path) -> int:
    """Truncate the file at the first damaged line, and return the number of remaining lines.

    A resumed training appends its history again, so the removed records are restored.
    """
    if not path.exists():
        return 0
    count = whole = 0
    with path.open("rb+") as file:
        with suppress(Damage):
            for line in file:
                unseal(line if line.endswith(b"\n") else b"")
                count += 1
                whole += len(line)
        file.truncate(whole)
    return count


def cut_torn_line(path: Path) -> None:
    """Remove an incomplete last line, left by a kill, so that the next record starts on a new line."""
    if path.exists():
        with path.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
