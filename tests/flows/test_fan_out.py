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


def told():
    """Name -> (state's name, message) of the task runs since the last call."""

    async def read():
        async with get_client() as client:
            found = await client.read_task_runs()
            return {each.id: each for each in found}

    runs = asyncio.run(read())
    new = {each.name: each.state for id, each in runs.items() if id not in SEEN}
    SEEN.update(runs)
    return {name.rsplit("-", 1)[0]: (state.name, state.message) for name, state in new.items()}


SEEN = set()


@pytest.mark.parametrize("kind", ["threads", "processes", "dask", "ray"])
def test_every_file_is_a_task_run_and_the_bytes_are_those_of_plain_calls(kind, document, folder, tmp_path):
    if kind in ("dask", "ray"):
        pytest.importorskip(f"prefect_{kind}")
    plain = prepare(check(document))
    document["execution"] |= {"store": str(tmp_path / "other"), "workers": 2, "task_runner": kind}
    told()
    only_data(check(document))
    again = prepare(check(document))
    assert (again.reused, again.digest) == (True, plain.digest)
    names = told()
    assert names.keys() == {"encode", "prepare", "0.csv", "1.csv", "2.csv"}
    assert {state for state, _ in names.values()} == {"Completed"}
    assert names["1.csv"][1].startswith("created ")
    assert names["encode"][1] == "0 of 3 files reused"
    (folder / "3.csv").write_text("text,mood\na sweet song in the sun,glad\n")
    only_data(check(document | {"execution": document["execution"] | {"task_runner": "threads"}}))
    assert {name: state for name, (state, _) in told().items()} == dict.fromkeys(
        ("encode", "prepare", "3.csv"), "Completed"
    )


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_a_failed_file_is_the_only_one_that_a_rerun_encodes(kind, document, folder):
    lines = b"".join(b"%s,glad\n" % os.urandom(8).hex().encode() for _ in range(3000))
    whole = gzip.compress(b"text,mood\n" + lines)
    (folder / "0b.csv.gz").write_bytes(whole[: len(whole) * 3 // 4])
    document["execution"] |= {"workers": 2, "task_runner": kind}
    told()
    with pytest.raises(RecipeError, match="damaged gzip"):
        only_data(check(document))
    first = told()
    assert first.pop("0b.csv.gz")[0] == first.pop("encode")[0] == "Failed"
    assert first.keys() == {"0.csv", "1.csv", "2.csv"}
    (folder / "0b.csv.gz").write_bytes(whole)
    only_data(check(document))
    assert told().keys() == {"encode", "prepare", "0b.csv.gz"}


def test_where_all_is_there_no_runner_starts(document, folder, monkeypatch):
    only_data(check(document))
    told()
    monkeypatch.setattr("prefect.task_runners.ThreadPoolTaskRunner.__enter__", lambda *_: pytest.fail("was started"))
    steps.encode.fn(check(document))
    monkeypatch.undo()
    only_data(check(document))
    again = told()
    assert again["encode"] == ("Reused", "3 of 3 files reused")
    assert again["prepare"][0] == "Reused"
    assert again.keys() == {"encode", "prepare"}


def test_a_runner_that_is_not_installed_is_told_before_any_work(document, folder, tmp_path, monkeypatch):
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
