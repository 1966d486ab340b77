"""The store: made once, published whole, verified on read. `pytest tests/store/test_store.py`."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline_lib.errors import RecipeError
from pipeline_lib.store.artifacts import Step
from pipeline_lib.store.digests import describe
from pipeline_lib.store.integrity import Damage
from pipeline_lib.store.store import Store
from pipeline_lib.util.times import humanize_time

ROOT = Path(__file__).parents[2]
STEP = Step("prepare", 1, {"seed": 7, "columns": {"text": "a"}}, {"file": "00ff"}, ("numpy",))


def write(folder):
    (folder / "inner").mkdir()
    (folder / "rows.txt").write_text("one\ntwo\n")
    (folder / "inner" / "labels.txt").write_text("a\nb\n")


def refuse(folder):
    raise AssertionError("made again")


def test_a_step_is_made_once_and_then_reused(tmp_path):
    store = Store(tmp_path)
    artifact, reused = store.ensure(STEP, write, made_by="me"), store.ensure(STEP, refuse)
    assert (artifact.reused, reused.reused) == (False, True)
    assert artifact.digest == reused.digest
    assert (reused.folder / "inner" / "labels.txt").read_text() == "a\nb\n"
    assert reused.message == f"reused {artifact.fingerprint[:8]}, created {humanize_time(reused.made['at'])} by me"


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


def swap(folder):
    rows, labels = folder / "rows.txt", folder / "inner" / "labels.txt"
    first, second = rows.read_bytes(), labels.read_bytes()
    rows.write_bytes(second)
    labels.write_bytes(first)


def link(folder):
    """The same bytes, but somewhere else, where they can change by themselves."""
    (folder / "rows.txt").rename(folder.parents[2] / "elsewhere.txt")
    (folder / "rows.txt").symlink_to(folder.parents[2] / "elsewhere.txt")


def link_a_folder(folder):
    (folder / "inner").rename(folder.parents[2] / "elsewhere")
    (folder / "inner").symlink_to(folder.parents[2] / "elsewhere")


def folder_for_file(folder):
    (folder / "rows.txt").unlink()
    (folder / "rows.txt").mkdir()


def no_manifest_but_a_folder(folder):
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").mkdir()


def manifest_by_a_pipe(folder):
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")


def manifest(change):
    """Damage that leaves the files alone and gives their manifest other bytes."""

    def damage(folder):
        path = folder / "manifest.json"
        text = change(path.read_text())
        path.write_text(text if isinstance(text, str) else json.dumps(text))

    return damage


def put(text, **parts):
    return json.loads(text) | parts


def listing(text, **files):
    return put(text, files=json.loads(text)["files"] | files)


def seed_of_another(text):
    other = json.loads(text)
    other["identity"]["recipe"]["seed"] = 9
    return other


AWAY = {"size": 3, "sha256": "0" * 64}
DAMAGES = {
    "flip a byte": (lambda folder: (folder / "rows.txt").write_text("one\ntwp\n"), "rows.txt changed"),
    "truncate": (lambda folder: (folder / "rows.txt").write_text("one\n"), "rows.txt changed"),
    "delete": (lambda folder: (folder / "inner" / "labels.txt").unlink(), "inner/labels.txt changed"),
    "add": (lambda folder: (folder / "more.txt").touch(), "more.txt changed"),
    "swap": (swap, "inner/labels.txt, rows.txt changed"),
    "a folder in place of a file": (folder_for_file, "rows.txt changed"),
    "a link in place of a file": (link, "rows.txt is a link"),
    "a link in place of a folder": (link_a_folder, "inner is a link"),
    "a pipe": (lambda folder: os.mkfifo(folder / "pipe"), "pipe is a link or a device"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "it has no manifest"),
    "a folder in place of the manifest": (no_manifest_but_a_folder, "it has no manifest"),
    "a pipe in place of the manifest": (manifest_by_a_pipe, "manifest.json is a link or a device"),
    "truncated manifest": (manifest(lambda text: text[:-20]), "its manifest is broken"),
    "empty manifest": (manifest(lambda text: ""), "its manifest is broken"),
    "deep manifest": (manifest(lambda text: "[" * 100_000), "its manifest is broken"),
    "manifest of zeros": (manifest(lambda text: "\0" * len(text)), "its manifest is broken"),
    "a list for a manifest": (manifest(lambda text: "[]"), "its manifest is broken"),
    "a list of files": (manifest(lambda text: put(text, files=["rows.txt"])), "its manifest is broken"),
    "files of numbers": (manifest(lambda text: put(text, files={"rows.txt": 1})), "its manifest is broken"),
    "nothing made it": (manifest(lambda text: put(text, made={})), "its manifest is broken"),
    "manifest of other files": (manifest(lambda text: listing(text, more=AWAY)), "more changed"),
    "a name that leads out": (manifest(lambda text: listing(text, **{"../../../x": AWAY})), "../../../x changed"),
    "a name from the root": (manifest(lambda text: listing(text, **{"/etc/hostname": AWAY})), "/etc/hostname changed"),
    "manifest of another step": (manifest(seed_of_another), "belongs to another step"),
    "manifest by another name": (manifest(lambda text: put(text, fingerprint="0" * 64)), "belongs to another step"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_noticed_set_aside_and_made_again(tmp_path, name, caplog):
    damage, what = DAMAGES[name]
    store = Store(tmp_path)
    artifact = store.ensure(STEP, write)
    damage(artifact.folder)
    again = store.ensure(STEP, write)
    assert (again.reused, again.digest) == (False, artifact.digest)
    assert what in caplog.text and "set aside" in caplog.text
    assert len(list((tmp_path / "damaged").iterdir())) == 1
    assert store.ensure(STEP, refuse).reused


def test_an_artifact_of_another_step_in_its_place_is_damage(tmp_path):
    store, other = Store(tmp_path), replace(STEP, version=2)
    here, there = store.ensure(STEP, write).folder, store.ensure(other, write).folder
    shutil.rmtree(here)
    shutil.copytree(there, here)
    assert store.find(STEP) is None
    assert store.find(other)


def test_a_step_that_writes_a_link_is_not_published(tmp_path):
    def linked(folder):
        (folder / "rows.txt").symlink_to("/etc/hostname")

    with pytest.raises(Damage, match="rows.txt is a link"):
        Store(tmp_path).ensure(STEP, linked)
    assert Store(tmp_path).find(STEP) is None


def test_reading_marks_the_last_use_and_changes_no_digest(tmp_path):
    store = Store(tmp_path)
    artifact = store.ensure(STEP, write)
    os.utime(artifact.folder / "manifest.json", (1, 1))
    before = time.time()
    assert store.ensure(STEP, refuse).digest == artifact.digest
    assert (artifact.folder / "manifest.json").stat().st_mtime >= before - 1
    assert describe(artifact.folder) == json.loads((artifact.folder / "manifest.json").read_text())["files"]


def test_a_store_that_may_not_be_touched_is_read_all_the_same(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.ensure(STEP, write)

    def refused(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refused)
    assert store.ensure(STEP, refuse).reused


BARE = Step("prepare", 1, STEP.recipe, STEP.inputs)
"""Without libraries: another account may not be able to read where they are installed."""


@pytest.fixture
def another_account():
    """A folder open to all, and an account that root's rights do not help."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        if os.geteuid():
            yield Path(folder)
            return
        os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)


@pytest.mark.parametrize("closed", ["inner", "inner/labels.txt", "manifest.json", "."])
def test_what_may_not_be_read_is_no_damage(another_account, closed):
    store = Store(another_account / "store")
    folder = store.ensure(BARE, write).folder
    mode = (folder / closed).stat().st_mode
    (folder / closed).chmod(0)
    try:
        with pytest.raises(RecipeError, match="cannot be read or written .*Permission denied"):
            store.ensure(BARE, refuse)
    finally:
        (folder / closed).chmod(mode)
    assert store.ensure(BARE, refuse).reused
    assert not (store.root / "damaged").exists()


@pytest.mark.parametrize("closed", ["partial", "locks", "."])
def test_where_nothing_may_be_written_is_a_clear_error(another_account, closed):
    store = Store(another_account / "store")
    (store.root / closed).mkdir(exist_ok=True)
    (store.root / closed).chmod(0o555)
    with pytest.raises(RecipeError, match="cannot be read or written .*Permission denied"):
        store.ensure(BARE, write)
    (store.root / closed).chmod(0o777)


def test_a_failing_disk_is_no_damage(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.ensure(STEP, write)

    def failing(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))  # read() names no file

    with monkeypatch.context() as patch:
        patch.setattr("pipeline_lib.store.digests.file_digest", failing)
        with pytest.raises(RecipeError, match="Input/output error"):
            store.ensure(STEP, refuse)
    assert store.ensure(STEP, refuse).reused


def test_what_a_step_cannot_open_elsewhere_stays_its_own_error(tmp_path):
    def elsewhere(folder):
        raise PermissionError(errno.EACCES, "Permission denied", "/somewhere/else.csv")

    with pytest.raises(PermissionError, match="else.csv"):
        Store(tmp_path).ensure(STEP, elsewhere)


def test_a_failure_leaves_nothing_behind(tmp_path):
    store = Store(tmp_path)

    def fail(folder):
        write(folder)
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        store.ensure(STEP, fail)
    assert store.find(STEP) is None
    assert not list((tmp_path / "partial").iterdir())


FULL_DISK = {
    "no space": OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "no quota": OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    "as safetensors says it": Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
}


@pytest.mark.parametrize("name", FULL_DISK)
def test_a_full_disk_is_a_clear_error_and_the_store_stays_sound(tmp_path, name):
    store = Store(tmp_path)

    def full(folder):
        raise FULL_DISK[name]

    with pytest.raises(RecipeError, match="the disk is full"):
        store.ensure(STEP, full)
    assert not list((tmp_path / "partial").iterdir())
    assert not store.ensure(STEP, write).reused


def test_no_space_for_a_folder_or_a_manifest_is_a_clear_error(tmp_path, monkeypatch):
    store = Store(tmp_path)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("mkdir", "write_text"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, name, full)
            with pytest.raises(RecipeError, match="the disk is full"):
                store.ensure(STEP, refuse)
    assert store.find(STEP) is None
    assert not store.ensure(STEP, write).reused


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 256 kB."""
    (tmp_path / "disk").mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", tmp_path / "disk"], capture_output=True)
    if done.returncode:
        pytest.skip(f"a disk can only be mounted by root: {done.stderr.decode().strip()}")
    yield tmp_path / "disk"
    subprocess.run(["umount", tmp_path / "disk"], check=True)


def big_file(folder):
    with (folder / "rows.bin").open("wb") as file:
        for _ in range(1000):
            file.write(bytes(1000))


def big_safetensors(folder):
    import numpy
    from safetensors.numpy import save_file

    save_file({"weight": numpy.zeros(10**6)}, folder / "model.safetensors")


def big_parquet(folder):
    import numpy
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"row": numpy.random.default_rng(7).random(10**6)}), folder / "rows.parquet")


@pytest.mark.parametrize("big", [big_file, big_safetensors, big_parquet])
def test_a_disk_that_is_really_full(small_disk, big):
    store, other = Store(small_disk), replace(STEP, version=2)
    store.ensure(other, write)
    with pytest.raises(RecipeError, match="the disk is full.*tunesmith cache gc"):
        store.ensure(STEP, big)
    assert store.ensure(other, refuse).reused
    assert not list((small_disk / "partial").iterdir())
    assert not store.ensure(STEP, write).reused


def test_a_disk_so_full_that_not_even_damage_can_be_set_aside(small_disk):
    store = Store(small_disk)
    folder = store.ensure(STEP, write).folder
    (folder / "inner" / "labels.txt").unlink()
    with suppress(OSError):
        for number in range(10_000):
            (small_disk / f"{number}").write_bytes(bytes(4096))
    with pytest.raises(RecipeError, match="the disk is full"):
        store.ensure(STEP, write)
    for file in small_disk.glob("[0-9]*"):
        file.unlink()
    assert not store.ensure(STEP, write).reused


MAKING = """
import sys, time
from pathlib import Path
from pipeline_lib.store.artifacts import Step
from pipeline_lib.store.store import Store

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


def test_who_waits_for_a_killed_holder_goes_on_and_makes_it(tmp_path):
    first = making(tmp_path / "store", tmp_path / "log", 60)
    while not (tmp_path / "log").exists():
        time.sleep(0.01)
    second = making(tmp_path / "store", tmp_path / "log", 0)
    time.sleep(1)  # it has begun to wait, or will find the lock free
    assert second.poll() is None
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert second.wait(timeout=120) == 0
    assert (tmp_path / "log").read_text() == "made\nmade\n"
    assert Store(tmp_path / "store").find(STEP)


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
