"""Checkpoints in the store that machines share. `pytest tests/training/distributed/test_shared_checkpoints.py`"""

import json
from types import SimpleNamespace

import pytest

from pipeline_lib.store.digests import describe
from pipeline_lib.store.manifests import MANIFEST
from pipeline_lib.training.distributed.shared_checkpoints import SharedCheckpoints

FINGERPRINT = "f" * 64


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """The checkpoints as a machine sees them, whose only process is rank 0."""
    monkeypatch.setattr(SharedCheckpoints, "_gather", lambda self, value: [json.loads(json.dumps(value))])
    rank = SimpleNamespace(is_main_process=True, is_local_main_process=True)

    def on(name):
        folder = tmp_path / name / FINGERPRINT
        folder.mkdir(parents=True, exist_ok=True)
        return SharedCheckpoints(f"file://{tmp_path / 'shared'}", folder, rank)

    return on


def write(folder, text="weights", **files):
    folder.mkdir()
    for name, content in ({"weights": text} | files).items():
        (folder / name).write_text(content)
    return folder


def commit(checkpoints, name, keep=(), **files):
    partial = write(checkpoints.folder / f"partial-{name}", name, **files)
    committed = checkpoints.commit(partial, name, keep)
    (partial / MANIFEST).write_text(json.dumps(committed))
    partial.rename(checkpoints.folder / name)


def names(checkpoints):
    return sorted(path.name for path in checkpoints.folder.iterdir())


def test_another_machine_gets_the_checkpoints_that_are_kept(machine, tmp_path):
    first = machine("first")
    commit(first, "step-000000001-0")
    commit(first, "best-1")
    commit(first, "step-000000002-0", keep=("step-000000002-0", "best-1"), state="2")
    second = machine("second")
    second.fetch()
    assert names(second) == ["best-1", "step-000000002-0"]
    for name in names(second):
        assert describe(second.folder / name) == json.loads((second.folder / name / MANIFEST).read_text())
    stored = {path.name for path in (tmp_path / "shared" / "work" / FINGERPRINT[:16]).iterdir() if any(path.rglob("*"))}
    assert "step-000000001-0" not in stored


def test_only_what_is_missing_is_downloaded(machine, monkeypatch):
    commit(machine("first"), "best-1", mine="1", other="2")
    second = machine("second")
    write(second.folder / "best-1", "best-1", mine="1")  # what its own processes have written
    got = []
    monkeypatch.setattr(type(second.objects), "get", get_and_note(second.objects, got))
    second.fetch(only="best-1")
    assert [name.rpartition("/")[2] for name in got] == ["other"]
    assert (second.folder / "best-1" / "other").read_text() == "2"


def get_and_note(objects, got):
    get = type(objects).get

    def noting(self, name, file):
        got.append(name)
        get(self, name, file)

    return noting


def test_a_checkpoint_that_not_all_machines_can_get_is_not_used(machine, tmp_path, caplog):
    first = machine("first")
    commit(first, "step-000000001-0")
    commit(first, "step-000000002-0")
    stored = tmp_path / "shared" / "work" / FINGERPRINT[:16] / "step-000000002-0" / "weights"
    stored.write_text("other")
    second = machine("second")
    write(second.folder / "step-000000002-0", "half")
    second.fetch()
    assert names(second) == ["fetched", "step-000000001-0"]
    assert "skipped checkpoint step-000000002-0" in caplog.text


def test_a_training_that_went_on_alone_goes_on_with_others(machine):
    first = machine("first")
    alone = write(first.folder / "step-000000005-1")
    (alone / MANIFEST).write_text(json.dumps(describe(alone)))
    first.fetch()
    second = machine("second")
    second.fetch()
    assert (second.folder / alone.name / "weights").read_text() == "weights"


def test_nothing_is_left_when_the_training_is_done(machine, tmp_path):
    first = machine("first")
    commit(first, "best-1")
    first.clear()
    assert [path for path in (tmp_path / "shared").rglob("*") if path.is_file()] == []
