"""What bytes are told by. `pytest tests/store/test_digests.py`."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from pipeline_lib.store import digests
from pipeline_lib.store.digests import file_digest


@pytest.fixture
def opened(monkeypatch):
    """The files that were opened to be read."""
    names, own = [], Path.open

    def counted(path, *how, **named):
        names.append(path.name)
        return own(path, *how, **named)

    monkeypatch.setattr(Path, "open", counted)
    return names


def test_a_settled_file_is_read_once_and_again_when_it_is_another(tmp_path, opened, monkeypatch):
    file = tmp_path / "weights.bin"
    file.write_bytes(b"first")
    monkeypatch.setattr(digests, "SETTLED", -1.0)
    opened.clear()
    for _ in range(3):
        assert file_digest(file) == hashlib.sha256(b"first").hexdigest()
    assert opened == ["weights.bin"]
    before = file.stat()
    time.sleep(0.05)
    file.write_bytes(b"other")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # as if nothing had been written
    assert file_digest(file) == hashlib.sha256(b"other").hexdigest()


def test_a_file_that_was_just_written_is_read_every_time(tmp_path, opened):
    file = tmp_path / "rows.bin"
    file.write_bytes(b"rows")
    opened.clear()
    assert file_digest(file) == file_digest(file)
    assert opened == ["rows.bin"] * 2
