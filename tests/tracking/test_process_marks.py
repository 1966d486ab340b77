"""A live process is never taken for a dead one. `pytest tests/tracking/test_process_marks.py`"""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline_lib.tracking import process_marks
from pipeline_lib.tracking.process_marks import exists, own_mark, same_kernel

OTHER = """
import sys
from pipeline_lib.tracking.process_marks import own_mark
print(own_mark(), flush=True)
sys.stdin.read()
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only numbers are compared")


def changed(mark, **parts):
    """A mark with some parts replaced."""
    return " ".join((dict(zip(("number", "ticks", "boot", "namespace"), mark.split(), strict=True)) | parts).values())


def test_a_process_exists_until_it_ends_and_a_zombie_does_not():
    with subprocess.Popen([sys.executable, "-c", OTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        mark = other.stdout.readline().decode().strip()
        assert exists(mark)
        other.kill()
        for _ in range(100):
            if not exists(mark):
                break
            time.sleep(0.05)
        assert exists(mark) is False  # nobody has asked for its exit code yet
    assert exists(mark) is False


def test_setting_the_clock_changes_no_mark(monkeypatch):
    before, now = own_mark(), time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86_400)
    monkeypatch.setattr(psutil, "boot_time", lambda: now + 3600)
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: now + 3600)
    assert own_mark() == before
    assert exists(before)


@linux
def test_only_the_same_boot_and_namespace_are_judged():
    mine = own_mark()
    assert exists(changed(mine, ticks="1")) is False  # its number was given to another process
    assert exists(changed(mine, number="999999999")) is False
    for elsewhere in ({"boot": "0b5f8a3e-0000-4000-8000-000000000000"}, {"namespace": "1"}):
        for gone in ({}, {"ticks": "1"}, {"number": "999999999"}):
            assert exists(changed(mine, **elsewhere, **gone)) is None
    assert same_kernel(changed(mine, namespace="1"))
    assert not same_kernel(changed(mine, boot="0b5f8a3e-0000-4000-8000-000000000000"))


@pytest.mark.parametrize("mark", ["", "12", "OWN 1700000000.12", "word 1 2 3", "unknown"])
def test_what_is_no_mark_is_not_judged(mark):
    mark = mark.replace("OWN", str(os.getpid()))  # a test's name must be the same in each process of pytest-xdist
    assert exists(mark) is None
    assert not same_kernel(mark)


@linux
def test_a_process_that_proc_hides_exists(monkeypatch):
    """As /proc mounted with hidepid does with those of other accounts."""
    read = Path.read_text

    def hidden(path, *arguments, **options):
        if path.name == "stat":
            raise FileNotFoundError(path)
        return read(path, *arguments, **options)

    mine = own_mark()
    monkeypatch.setattr(Path, "read_text", hidden)
    monkeypatch.setattr(Path, "exists", lambda self: False)
    assert exists(mine)
    assert exists(changed(mine, number="999999999")) is False


@linux
def test_nobody_is_judged_where_proc_is_that_of_another_namespace(monkeypatch):
    mine, link = own_mark(), os.readlink
    monkeypatch.setattr(os, "readlink", lambda path: "1" if path == "/proc/self" else link(path))
    assert own_mark().endswith(process_marks.UNKNOWN)
    assert exists(own_mark()) is None
    assert exists(mine) is None
