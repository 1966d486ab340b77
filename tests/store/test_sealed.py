"""What is read back carries its digest, and is on the disk before it counts. `pytest tests/store/test_sealed.py`"""

import os

import pytest

from pipeline_lib.store import durable
from pipeline_lib.store.artifacts import Step
from pipeline_lib.store.durable import publish_folder, write_durably
from pipeline_lib.store.integrity import Damage
from pipeline_lib.store.sealed import seal, unseal
from pipeline_lib.store.store import Store
from pipeline_lib.tracking.record_queue import RecordQueue

VALUE = {"text": "a “b” \n", "number": 0.1, "big": 2**60, "list": [1, None, True], "nested": {"b": 1, "a": 2}}


def test_a_sealed_value_comes_back():
    assert unseal(seal(VALUE)) == VALUE
    assert unseal(seal({})) == {}


def test_every_flipped_bit_and_every_cut_is_noticed():
    sealed = seal(VALUE).encode()
    for place in range(len(sealed)):
        for bit in range(8):
            changed = bytearray(sealed)
            changed[place] ^= 1 << bit
            with pytest.raises(Damage):
                unseal(bytes(changed))
        with pytest.raises(Damage):
            unseal(sealed[:place])


@pytest.mark.parametrize("text", ["", "[]", "1", "null", '"sha256"', "{}", '{"sha256": null}', "[" * 100_000, "NaN"])
def test_what_was_never_sealed_is_damaged(text):
    with pytest.raises(Damage):
        unseal(text)


@pytest.fixture
def events(monkeypatch):
    """Syncs and renames in their order, by the names of what they concern."""
    seen, rename, replace = [], os.rename, os.replace
    monkeypatch.setattr(durable, "sync", lambda path: seen.append(f"sync {path.name}"))
    monkeypatch.setattr(os, "rename", lambda *paths: (seen.append("rename"), rename(*paths)))
    monkeypatch.setattr(os, "replace", lambda *paths: (seen.append("rename"), replace(*paths)))
    return seen


def test_a_folder_is_on_the_disk_before_its_name_is(tmp_path, events):
    (tmp_path / "aside" / "inner").mkdir(parents=True)
    (tmp_path / "aside" / "inner" / "file").write_text("x")
    publish_folder(tmp_path / "aside", tmp_path / "place")
    assert events == ["sync file", "sync inner", "sync aside", "rename", f"sync {tmp_path.name}"]


def test_a_file_is_on_the_disk_before_its_name_is(tmp_path, events):
    write_durably(tmp_path / "file", "x")
    assert [event.split()[0] for event in events] == ["sync", "rename", "sync"]
    assert events[-1] == f"sync {tmp_path.name}"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_artifact_is_on_the_disk_before_its_name_is(tmp_path, events):
    step = Step("prepare", 1, {"seed": 7}, {"file": "00ff"})
    artifact = Store(tmp_path).ensure(step, lambda folder: (folder / "rows").write_text("one") and None)
    renamed = events.index("rename")
    assert {f"sync {file.name}" for file in artifact.folder.rglob("*")} <= {*events[:renamed]}
    assert events[renamed + 1] == f"sync {artifact.folder.parent.name}"


def test_records_behind_a_damaged_one_are_written_again(tmp_path):
    records = [{"step": step, "value": step / 3} for step in range(6)]
    queue = RecordQueue(tmp_path / "records")
    queue.append(records)
    lines = (tmp_path / "records").read_bytes().splitlines(keepends=True)
    (tmp_path / "records").write_bytes(b"".join([*lines[:2], lines[2].replace(b"0.66", b"0.67"), *lines[3:]]))
    again = RecordQueue(tmp_path / "records")
    assert again.length == 2
    again.append(records)  # a training that goes on offers its whole history
    taken = again.take(99)
    assert [{name: record[name] for name in ("step", "value")} for record in taken] == records
