"""Files become shards: only those that are not there, side by side, and one that fails stops no other.

pytest tests/data/test_encoding.py
"""

import gzip
import os
import signal
import subprocess
import sys
import time
from textwrap import dedent

import pytest

from pipeline_lib.data import encoding
from pipeline_lib.errors import RecipeError
from pipeline_lib.pipeline import steps
from pipeline_lib.recipe.schema import check
from pipeline_lib.util import process_pool
from pipeline_lib.util.process_pool import side_by_side


@pytest.fixture
def folder(document, moods_csv, tmp_path):
    """Writes the rows into so many files of a folder, which becomes the recipe's source."""

    def write(number):
        (tmp_path / "rows").mkdir()
        header, *rows = moods_csv.read_text().splitlines()
        for index in range(number):
            (tmp_path / "rows" / f"{index:02}.csv").write_text("\n".join([header, *rows[index::number]]) + "\n")
        document["data"]["source"]["train"] = str(tmp_path / "rows")
        return tmp_path / "rows"

    return write


@pytest.fixture
def no_pool(monkeypatch):
    """Fails where a process is started."""
    monkeypatch.setattr(process_pool, "ProcessPoolExecutor", lambda *_: pytest.fail("a pool was started"))


@pytest.mark.parametrize("kind", ["data", "base"])
def test_a_file_that_changes_while_it_is_read_is_not_kept(recipe, moods_csv, tiny_bert, monkeypatch, kind):
    """What was read under the old digest would be reused whenever the old bytes come back."""
    changing = moods_csv if kind == "data" else tiny_bert / "config.json"
    before, name = changing.read_bytes(), "write_shard" if kind == "data" else "copy_base"
    sound = getattr(encoding, name)

    def read_then_change(*given):
        sound(*given)
        changing.write_bytes(before + b"\n")

    monkeypatch.setattr(encoding, name, read_then_change)
    try:
        with pytest.raises(RecipeError, match="changed while it was being read. Run again when nothing writes to it"):
            steps.encode(recipe)
        monkeypatch.undo()
        assert not list((moods_csv.parent / "store" / "steps").glob(f"{'shard' if kind == 'data' else 'base'}/*"))
    finally:
        changing.write_bytes(before)
    assert steps.encode(recipe).newly_encoded == 1


def times(tmp_path):
    """When each shard was made, by the name of its folder."""
    return {file.parent.name: file.stat().st_ctime_ns for file in (tmp_path / "store/steps/shard").glob("*/*.parquet")}


def encode(document, workers=1):
    document["execution"]["workers"] = workers
    return steps.encode(check(document))


def break_off(file):
    """Cut a file's compressed bytes, far behind the rows that are looked at before any work."""
    whole = gzip.compress(
        b"text,mood\n" + b"".join(b"%d %s,glad\n" % (i, os.urandom(8).hex().encode()) for i in range(6000))
    )
    file.write_bytes(whole[: len(whole) * 3 // 4])
    return whole


# What is encoded


def test_one_more_file_in_a_folder_of_thirty_is_the_only_one_encoded(document, folder, tmp_path, no_pool):
    rows = folder(30)
    assert encode(document).message == "0 of 30 files reused"
    before = times(tmp_path)
    assert len(before) == 30
    (rows / "30.csv").write_text("text,mood\na sweet song in the sun,glad\n")
    assert encode(document, workers=4).message == "30 of 31 files reused"  # one file is not a work for a pool
    after = times(tmp_path)
    assert len(after) == 31
    assert before.items() <= after.items()
    assert encode(document, workers=4).message == "31 of 31 files reused"


def test_files_of_the_same_bytes_are_encoded_once(document, folder, tmp_path, no_pool):
    rows = folder(2)
    (rows / "copy.csv").write_bytes((rows / "01.csv").read_bytes())
    assert encode(document).newly_encoded == 2
    assert len(steps.prepare(check(document)).made) and len(times(tmp_path)) == 2


def test_a_damaged_shard_is_made_again(document, folder, tmp_path, no_pool):
    folder(3)
    first = steps.prepare(check(document))
    (victim, *_) = (tmp_path / "store/steps/shard").glob("*/rows.parquet")
    victim.write_bytes(b"other bytes")
    assert steps.prepare(check(document)).digest == first.digest
    assert victim.read_bytes() != b"other bytes"


# Side by side


@pytest.mark.processes
def test_processes_give_the_same_bytes(document, folder, tmp_path):
    folder(4)
    alone = steps.prepare(check(document))
    document["execution"] |= {"store": str(tmp_path / "other"), "workers": 2}
    together = steps.prepare(check(document))
    assert not together.reused
    assert (together.fingerprint, together.digest) == (alone.fingerprint, alone.digest)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.processes)])
def test_of_many_files_two_fail_and_a_rerun_encodes_those_alone(document, folder, tmp_path, workers):
    rows = folder(4)
    whole = {name: break_off(rows / f"{name}.csv.gz") for name in ("00b", "02b")}
    with pytest.raises(RecipeError, match="00b.csv.gz.*damaged gzip") as failed:
        encode(document, workers)
    message = "\n".join(failed.value.__notes__)
    assert "02b.csv.gz" in message and "damaged gzip" in message and "are kept" in message
    shard_times = times(tmp_path)
    assert len(shard_times) == 4
    for name, content in whole.items():
        (rows / f"{name}.csv.gz").write_bytes(content)
    assert encode(document).newly_encoded == 2
    assert shard_times.items() <= times(tmp_path).items()


def test_a_file_that_changes_after_the_first_look_is_noticed(document, folder, monkeypatch):
    rows = folder(2)

    def change_first(*given):
        (rows / "01.csv").write_text("text,mood\nso,glad\n")
        yield from encoding.here(*given)

    with pytest.raises(
        RecipeError, match=r"01\.csv.*differs from the start of the run \(the content of the file changed\)"
    ):
        steps.encode(check(document), spread=change_first)


def test_a_worker_that_dies_is_reported():
    for _, outcome in side_by_side(os._exit, [3, 4], 2):
        assert str(outcome).startswith("execution.workers = 2: a worker process died. Use fewer workers")


def test_workers_share_the_cores_unless_the_user_has_said_otherwise(monkeypatch):
    monkeypatch.setattr("pipeline_lib.util.cpu.usable", lambda: 12)
    monkeypatch.delenv("RAYON_NUM_THREADS", raising=False)
    process_pool.join_in(4)
    assert os.environ.pop("RAYON_NUM_THREADS") == "3"
    monkeypatch.setenv("RAYON_NUM_THREADS", "5")
    process_pool.join_in(4)
    assert os.environ["RAYON_NUM_THREADS"] == "5"


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    code = """
        import os, time
        from pipeline_lib.util.process_pool import side_by_side

        def tell(number):
            print(os.getpid(), flush=True)
            time.sleep(600)

        if __name__ == "__main__":
            list(side_by_side(tell, [1, 2], 2))
    """
    (tmp_path / "script.py").write_text(dedent(code))
    with subprocess.Popen([sys.executable, "script.py"], stdout=subprocess.PIPE, text=True, cwd=tmp_path) as parent:
        workers = [int(parent.stdout.readline()) for _ in range(2)]
        parent.send_signal(signal.SIGKILL)
        until = time.monotonic() + 120
        while any(os.path.exists(f"/proc/{pid}") for pid in workers) and time.monotonic() < until:
            time.sleep(0.1)
        assert not any(os.path.exists(f"/proc/{pid}") for pid in workers)
