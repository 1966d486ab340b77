"""The store: made once, published whole, verified on read. `pytest tests/test_store.py`."""

import errno
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline_lib.explain import when
from pipeline_lib.schema import RecipeError
from pipeline_lib.store import Step, Store

ROOT = Path(__file__).parents[1]
STEP = Step("prepare", 1, {"seed": 7, "columns": {"text": "a"}}, {"file": "00ff"}, ("numpy",))


def write(folder):
    (folder / "inner").mkdir()
    (folder / "rows.txt").write_text("one\ntwo\n")
    (folder / "inner" / "labels.txt").write_text("a\nb\n")


def refuse(folder):
    raise AssertionError("made again")


def test_a_step_is_made_once_and_then_reused(tmp_path):
    store = Store(tmp_path)
    made, reused = store.ensure(STEP, write, by="me"), store.ensure(STEP, refuse)
    assert (made.reused, reused.reused) == (False, True)
    assert made.digest == reused.digest
    assert (reused.folder / "inner" / "labels.txt").read_text() == "a\nb\n"
    assert reused.message == f"reused {made.fingerprint[:8]}, made {when(reused.made['at'])} by me"


@pytest.mark.parametrize(
    "changed",
    [
        replace(STEP, name="finetune"),
        replace(STEP, version=2),
        replace(STEP, recipe={"seed": 8, "columns": {"text": "a"}}),
        replace(STEP, inputs={"file": "00fe"}),
        replace(STEP, libraries=("numpy", "torch")),
    ],
)
def test_everything_in_a_step_is_in_its_fingerprint(changed):
    assert changed.fingerprint != STEP.fingerprint


def test_the_order_of_keys_is_not_in_the_fingerprint():
    assert replace(STEP, recipe={"columns": {"text": "a"}, "seed": 7}).fingerprint == STEP.fingerprint


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}])
def test_a_value_that_has_no_one_form_is_refused(value):
    with pytest.raises((TypeError, ValueError)):
        _ = replace(STEP, recipe={"x": value}).fingerprint


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "add", "swap", "manifest", "other manifest"])
def test_damage_is_noticed_set_aside_and_made_again(tmp_path, damage, caplog):
    store = Store(tmp_path)
    made = store.ensure(STEP, write)
    rows, labels, manifest = (
        made.folder / "rows.txt",
        made.folder / "inner" / "labels.txt",
        made.folder / "manifest.json",
    )
    if damage == "flip":
        rows.write_text("one\ntwp\n")
    elif damage == "truncate":
        rows.write_text("one\n")
    elif damage == "delete":
        labels.unlink()
    elif damage == "add":
        (made.folder / "more.txt").touch()
    elif damage == "swap":
        a, b = rows.read_bytes(), labels.read_bytes()
        rows.write_bytes(b)
        labels.write_bytes(a)
    elif damage == "manifest":
        manifest.write_text(manifest.read_text()[:-20])
    else:
        told = json.loads(manifest.read_text())
        told["identity"]["recipe"]["seed"] = 9
        manifest.write_text(json.dumps(told))
    again = store.ensure(STEP, write)
    assert (again.reused, again.digest) == (False, made.digest)
    assert "set aside" in caplog.text
    assert len(list((tmp_path / "damaged").iterdir())) == 1
    assert store.ensure(STEP, refuse).reused


def test_a_failure_leaves_nothing_behind(tmp_path):
    store = Store(tmp_path)

    def fail(folder):
        write(folder)
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        store.ensure(STEP, fail)
    assert store.find(STEP) is None
    assert not list((tmp_path / "partial").iterdir())


def test_a_full_disk_is_a_clear_error_and_the_store_stays_sound(tmp_path):
    store = Store(tmp_path)

    def full(folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(RecipeError, match="the disk is full"):
        store.ensure(STEP, full)
    assert not store.ensure(STEP, write).reused


MAKING = """
import sys, time
from pathlib import Path
from pipeline_lib.store import Step, Store

def make(folder):
    with open(sys.argv[2], "a") as log:
        log.write("made\\n")
    time.sleep(float(sys.argv[3]))
    (folder / "rows.txt").write_text("one")

step = Step("prepare", 1, {"seed": 7, "columns": {"text": "a"}}, {"file": "00ff"}, ("numpy",))
Store(sys.argv[1]).ensure(step, make)
"""


def making(root, log, seconds):
    """Another process that makes STEP, and takes its time."""
    return subprocess.Popen([sys.executable, "-c", MAKING, str(root), str(log), str(seconds)], cwd=ROOT)


def test_eight_processes_make_it_once(tmp_path):
    processes = [making(tmp_path / "store", tmp_path / "log", 0.5) for _ in range(8)]
    assert [process.wait() for process in processes] == [0] * 8
    assert (tmp_path / "log").read_text() == "made\n"


def test_a_killed_holder_frees_its_lock(tmp_path):
    process = making(tmp_path / "store", tmp_path / "log", 60)
    while not (tmp_path / "log").exists():
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not Store(tmp_path / "store").ensure(STEP, write).reused


def test_work_is_kept_until_the_step_is_published(tmp_path):
    store = Store(tmp_path)
    (store.work(STEP) / "checkpoint").touch()
    assert (store.work(STEP) / "checkpoint").exists()
    store.ensure(STEP, write)
    assert not (tmp_path / "work" / STEP.fingerprint).exists()


def test_a_root_that_is_a_url_or_a_file_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="local disk"):
        Store("s3://bucket/store")
    (tmp_path / "file").touch()
    with pytest.raises(RecipeError, match="writable folder"):
        Store(tmp_path / "file")
