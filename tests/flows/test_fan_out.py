"""Source files as task runs of their own, by every runner that is installed. `pytest tests/flows/test_fan_out.py`."""

import asyncio
import gzip
import os
import sys

import pytest
from prefect import flow
from prefect.client.orchestration import get_client

from flows.finetune import finetune
from pipeline_lib.errors import RecipeError
from pipeline_lib.pipeline.run import run
from pipeline_lib.pipeline.steps import prepare
from pipeline_lib.recipe.schema import check
from tasks import steps

pytestmark = pytest.mark.server


@pytest.fixture
def folder(document, moods_csv, tmp_path):
    """The rows in three files of a folder."""
    (tmp_path / "rows").mkdir()
    header, *rows = moods_csv.read_text().splitlines()
    for index in range(3):
        (tmp_path / "rows" / f"{index}.csv").write_text("\n".join([header, *rows[index::3]]) + "\n")
    document["data"]["source"]["train"] = str(tmp_path / "rows")
    return tmp_path / "rows"


@flow
def only_data(recipe):
    return steps.prepare(recipe, steps.encode(recipe))


def flow_and_task_runs():
    """Name -> (state's name, message) of the tasks of the last flow run."""

    async def read():
        async with get_client() as client:
            return await client.read_flow_runs(), await client.read_task_runs()

    flow_runs, task_runs = asyncio.run(read())
    last = max(flow_runs, key=lambda run: run.expected_start_time)
    found = {run.name.rsplit("-", 1)[0]: run.state for run in task_runs if run.flow_run_id == last.id}
    return {name: (state.name, state.message) for name, state in found.items()}


def states():
    """Name -> state's name of the tasks of the last flow run."""
    return {name: state for name, (state, _) in flow_and_task_runs().items()}


@pytest.mark.parametrize("kind", ["threads", "processes", "dask", "ray"])
def test_every_file_is_a_task_run_and_the_bytes_are_those_of_plain_calls(kind, document, folder, eventually, tmp_path):
    if kind in ("dask", "ray"):
        pytest.importorskip(f"prefect_{kind}")
    plain = prepare(check(document))
    document["execution"] |= {"store": str(tmp_path / "other"), "workers": 2, "task_runner": kind}
    only_data(check(document))
    again = prepare(check(document))
    assert (again.reused, again.digest) == (True, plain.digest)
    expected = dict.fromkeys(("encode", "prepare", "0.csv", "1.csv", "2.csv"), "Completed")
    assert eventually(states, expected) == expected
    assert flow_and_task_runs()["1.csv"][1].startswith("created ")
    assert flow_and_task_runs()["encode"][1] == "0 of 3 files reused"
    (folder / "3.csv").write_text("text,mood\na sweet song in the sun,glad\n")
    only_data(check(document | {"execution": document["execution"] | {"task_runner": "threads"}}))
    expected = dict.fromkeys(("encode", "prepare", "3.csv"), "Completed")
    assert eventually(states, expected) == expected


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_a_failed_file_is_the_only_one_that_a_rerun_encodes(kind, document, folder, eventually):
    lines = b"".join(b"%s,glad\n" % os.urandom(8).hex().encode() for _ in range(3000))
    whole = gzip.compress(b"text,mood\n" + lines)
    (folder / "0b.csv.gz").write_bytes(whole[: len(whole) * 3 // 4])
    document["execution"] |= {"workers": 2, "task_runner": kind}
    with pytest.raises(RecipeError, match="damaged gzip"):
        only_data(check(document))
    names = {"encode", "0.csv", "0b.csv.gz", "1.csv", "2.csv"}
    assert eventually(lambda: {*states()}, names) == names
    failed = dict.fromkeys(("encode", "0b.csv.gz"), "Failed")
    assert eventually(lambda: {name: states()[name] for name in failed}, failed) == failed
    (folder / "0b.csv.gz").write_bytes(whole)
    only_data(check(document))
    expected = dict.fromkeys(("encode", "prepare", "0b.csv.gz"), "Completed")
    assert eventually(states, expected) == expected


def test_where_all_is_there_no_runner_starts(document, folder, eventually, monkeypatch):
    only_data(check(document))
    monkeypatch.setattr("prefect.task_runners.ThreadPoolTaskRunner.__enter__", lambda *_: pytest.fail("was started"))
    steps.encode.fn(check(document))
    monkeypatch.undo()
    only_data(check(document))
    expected = {"encode": "Reused", "prepare": "Reused"}
    assert eventually(states, expected) == expected
    assert flow_and_task_runs()["encode"][1] == "3 of 3 files reused"


def test_a_runner_that_is_not_installed_is_reported_before_any_work(document, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "prefect_ray", None)
    document["execution"]["task_runner"] = "ray"
    with pytest.raises(RecipeError, match=r"'ray': needs prefect-ray .* pip install -c constraints.txt -e '.\[ray\]'"):
        only_data(check(document))
    assert not (tmp_path / "store").exists()


def test_the_flow_and_plain_calls_make_the_same_artifacts(document, folder, tmp_path):
    plain = run(check(document))
    document["execution"] |= {"store": str(tmp_path / "other"), "workers": 2}
    flown = finetune(check(document))
    for name in ("data", "start", "model", "scores"):
        assert not getattr(flown, name).reused
        assert getattr(flown, name).fingerprint == getattr(plain, name).fingerprint
        assert getattr(flown, name).digest == getattr(plain, name).digest, name
