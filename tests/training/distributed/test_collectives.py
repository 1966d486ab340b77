"""Training in several processes: what one would give, the same bytes after a kill, and errors as one tells them.

Each start of two processes imports torch twice: what needs no training is tested with processes that have nothing to
import. `pytest tests/training/distributed/test_collectives.py`
"""

import json
import subprocess
import sys
import time
from contextlib import nullcontext
from types import SimpleNamespace
from unittest.mock import Mock

import psutil
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from pipeline_lib.cli.main import app
from pipeline_lib.errors import RecipeError
from pipeline_lib.pipeline import input_checks, steps
from pipeline_lib.recipe.schema import check
from pipeline_lib.tracking import live_run
from pipeline_lib.training import device
from pipeline_lib.training.distributed import agent, collectives, launch
from pipeline_lib.training.finetune import write_finetuned
from pipeline_lib.training.inputs import Inputs
from pipeline_lib.training.step import Stepper

TAKEN_APART = {  # passes of two rows at most, and a penalty that must be counted once
    "strategies": [{"kind": "full"}],
    "regularizers": [{"kind": "dropout", "value": 0.0}, {"kind": "l2_sp", "value": 0.1}],
    "training": {"epochs": 2, "learning_rate": 1e-3, "batch_size": 5, "batch_tokens": 17},
}
ROW_BY_ROW = {  # one rank has no row, and its mask must be the other one's
    "strategies": [{"kind": "lora", "rank": 4, "targets": ["query", "value"], "rate": 20, "start_epoch": 1}],
    "regularizers": [{"kind": "dropout", "value": 0.0}, {"kind": "mixout", "probability": 0.5}],
    "training": {"epochs": 2, "learning_rate": 1e-3, "batch_size": 1},
}


def job(document, tmp_path, name, processes, **changes):
    """What `write_finetuned` and `launch_finetuned` are called with, without the watch; the last folder is empty."""
    recipe = check(document | {"execution": document["execution"] | {"processes": processes}} | changes)
    data = steps.prepare(recipe)
    start, base = steps.initialise(recipe, data), steps.fetch_base(recipe)
    work, folder = tmp_path / f"{name}-work", tmp_path / name
    work.mkdir()
    folder.mkdir()
    inputs = Inputs(data.folder, tmp_path / "store" / "steps" / "shard", base.folder, start.folder)
    return recipe, inputs, work, folder


def trained(*job):
    """The trained model's tensors and history; what is watched is the history."""
    *given, folder = job
    watched = []
    train = launch.launch_finetuned if job[0].execution.processes > 1 else write_finetuned
    train(*given, lambda records, steps: watched.extend(records), folder)
    (weights,) = (folder / "model").glob("*.safetensors")
    assert json.loads((folder / "summary.json").read_text())["processes"] == job[0].execution.processes
    assert watched == pq.read_table(folder / "history.parquet").to_pylist()
    return load_file(weights), watched


@pytest.mark.parametrize("sharding", ["none", "full"])
@pytest.mark.parametrize(
    "changes", [TAKEN_APART, pytest.param(ROW_BY_ROW, marks=pytest.mark.processes)], ids=["full", "lora"]
)
def test_two_processes_train_as_one(document, tmp_path, changes, sharding):
    one, history = trained(*job(document, tmp_path, "one", 1, **changes))
    document["execution"]["sharding"] = sharding
    two, other = trained(*job(document, tmp_path, "two", 2, **changes))
    assert [{**record, "value": None} for record in other] == [{**record, "value": None} for record in history]
    assert [r["value"] for r in other] == pytest.approx([r["value"] for r in history], rel=1e-4, abs=1e-6)
    for name, tensor in one.items():
        if not name.endswith("key.bias"):  # softmax makes its gradient zero: what AdamW scales up there is noise
            assert torch.allclose(two[name], tensor, rtol=0, atol=1e-5), name


ONE_RANK_IS_FULL = """
import torch
from pipeline_lib.training.distributed import worker
from pipeline_lib.training.step import Stepper
backward = Stepper._backward_part
def fill(self, rows, *others, **more):
    loss = backward(self, rows, *others, **more)
    if len(rows) > 1 and self.accelerator.process_index == 1:
        raise torch.OutOfMemoryError("CUDA out of memory")
    return loss
Stepper._backward_part = fill
worker.main(sys.argv[2])
"""


@pytest.mark.processes
@pytest.mark.parametrize("sharding", ["none", "full"])
def test_all_ranks_take_smaller_passes_when_the_memory_of_one_does_not_suffice(
    document, tmp_path, monkeypatch, caplog, sharding
):
    _, history = trained(*job(document, tmp_path, "one", 1, **TAKEN_APART))
    document["execution"]["sharding"] = sharding
    monkeypatch.setattr(agent, "START", f"import os, sys; sys.path.insert(0, sys.argv[1])\n{ONE_RANK_IS_FULL}")
    other, (*given, folder) = [], job(document, tmp_path, "two", 2, **TAKEN_APART)
    launch.launch_finetuned(*given, lambda records, steps: other.extend(records), folder)
    assert [r["value"] for r in other] == pytest.approx([r["value"] for r in history], rel=1e-4, abs=1e-6)
    assert "with 17 tokens per pass; at most 8" in caplog.text
    again = "training process 1 failed (PassTooLarge: out of memory; at most 8 tokens per pass from now on): attempt 2"
    assert (again in caplog.text) is (sharding == "full")
    assert json.loads((folder / "summary.json").read_text())["batch_tokens"] == 8


@pytest.mark.processes
def test_two_processes_train_as_one_from_packed_rows(document, tiny, tmp_path):
    changes = {
        "model": {"base": str(tiny["llama"])},
        "objective": {"kind": "language_modeling", "modeling": "causal", "block_size": 16},
        "regularizers": [{"kind": "dropout", "value": 0.0}],
        "training": {"batch_size": 5, "batch_tokens": 40, "packing": True, "optimizer": {"kind": "sgd"}},
    }
    one, history = trained(*job(document, tmp_path, "one", 1, **changes))
    two, other = trained(*job(document, tmp_path, "two", 2, **changes))
    assert [r["value"] for r in other] == pytest.approx([r["value"] for r in history], rel=1e-4, abs=1e-6)
    for name, tensor in one.items():
        assert torch.allclose(two[name], tensor, rtol=0, atol=1e-6), name


@pytest.mark.kill
@pytest.mark.parametrize("sharding", ["none", "full"])
def test_a_killed_training_leaves_no_rank_behind_and_ends_with_the_same_bytes(document, tmp_path, sharding):
    document["training"] |= {"epochs": 12}  # with the model's own dropout, other in each rank
    document["execution"] |= {"checkpoint_seconds": 0.05, "sharding": sharding}
    given = job(document, tmp_path, "killed", 2)
    process = start(given)
    while process.poll() is None and not list(given[-2].glob("step-*")):
        time.sleep(0.01)
    began = psutil.Process(process.pid).children()
    assert len(began) == 2
    process.kill()
    process.wait()
    assert psutil.wait_procs(began, timeout=120)[1] == []
    assert list(given[-2].glob("step-*"))
    trained(*given)
    trained(*job(document, tmp_path, "straight", 2))
    assert files(tmp_path / "killed") == files(tmp_path / "straight")


@pytest.mark.kill
@pytest.mark.parametrize("counts", [(2, 1), (1, 2), (2, 3)], ids=str)
def test_any_number_of_processes_goes_on_from_a_sharded_checkpoint(document, tmp_path, counts):
    # AdamW would turn the rounding of next to no gradient into whole steps
    document["training"] |= {"epochs": 4, "learning_rate": 1e-2, "optimizer": {"kind": "sgd"}}
    document["regularizers"] = [{"kind": "dropout", "value": 0.0}]
    document["execution"] |= {"checkpoint_seconds": 0.01, "sharding": "full"}
    straight, history = trained(*job(document, tmp_path, "straight", 1))
    *first, folder = job(document, tmp_path, "killed", counts[0])
    process = start([*first, folder])
    while process.poll() is None and not list(first[-1].glob("step-*")):
        time.sleep(0.01)
    process.kill()
    assert process.wait() < 0  # killed in the middle
    recipe, *_ = job(document, tmp_path, "resumed", counts[1])
    resumed, other = trained(recipe, *first[1:], tmp_path / "resumed")
    assert [r["value"] for r in other] == pytest.approx([r["value"] for r in history], rel=1e-5, abs=1e-6)
    for name, tensor in straight.items():
        assert torch.allclose(resumed[name], tensor, rtol=0, atol=1e-6), name


def start(job):
    """A training in a process of its own."""
    code = (
        "import json, sys; from pathlib import Path; from pipeline_lib.recipe.schema import check\n"
        "from pipeline_lib.training.distributed.launch import launch_finetuned\n"
        "from pipeline_lib.training.inputs import Inputs\n"
        "recipe, inputs, work, folder = json.loads(sys.argv[1])\n"
        "inputs = Inputs(*map(Path, inputs))\n"
        "launch_finetuned(check(recipe), inputs, Path(work), lambda records, steps: None, Path(folder))"
    )
    recipe, inputs, work, folder = job
    read = [str(path) for path in inputs if path]
    arguments = json.dumps([recipe.model_dump(mode="json"), read, str(work), str(folder)])
    return subprocess.Popen([sys.executable, "-c", code, arguments], stderr=subprocess.DEVNULL)


def files(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_ranks_draw_together_until_they_part():
    drawn = []
    for rank in (0, 1, 2):
        torch.manual_seed(5)
        together = torch.rand(4)
        stepper = SimpleNamespace(accelerator=SimpleNamespace(process_index=rank), _seed=torch.manual_seed)
        Stepper._part_ways(stepper)
        drawn.append((together.tolist(), torch.rand(4).tolist()))
    assert len({str(together) for together, _ in drawn}) == 1
    assert len({str(apart) for _, apart in drawn}) == 3


def test_gradients_go_in_buckets(monkeypatch):
    monkeypatch.setattr(collectives, "BUCKET", 5)
    weights = [torch.zeros(count) for count in (2, 3, 1, 9, 1)]
    assert [[len(w) for w in bucket] for bucket in collectives._buckets(weights)] == [[2, 3], [1], [9], [1]]


def test_weights_that_drifted_apart_are_refused(monkeypatch):
    here, weights = SimpleNamespace(num_processes=2, process_index=1), [torch.tensor([1.0, -2.0])]
    answers = [7, int(torch.hash_tensor(weights[0]).view(torch.int64))]
    monkeypatch.setattr(collectives, "broadcast_from_first", lambda make, accelerator: answers)
    collectives.refuse_drift(weights, 7, here)
    for drifted, step in ((weights, 8), ([torch.tensor([1.0, -2.0000002])], 7)):
        with pytest.raises(RuntimeError, match="process 1 no longer has the weights of process 0"):
            collectives.refuse_drift(drifted, step, here)


@pytest.mark.parametrize("field", ["cuda", "auto"])
def test_each_process_needs_a_gpu_of_its_own(document, monkeypatch, field):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(device, "_has_no_gpu", lambda: False)  # as where a driver is installed
    document["execution"] |= {"device": field, "processes": 2}
    with pytest.raises(RecipeError, match="execution.processes = 2: needs as many GPUs, and torch can use 1"):
        input_checks.check_inputs(check(document))


def test_how_many_processes_is_no_part_of_what_is_computed(document, tmp_path, monkeypatch):
    (tmp_path / "moods.yaml").write_text(json.dumps(document))
    plans = [
        CliRunner().invoke(app, ["plan", "--json", str(tmp_path / "moods.yaml"), f"execution.processes={processes}"])
        for processes in (1, 2)
    ]
    assert plans[0].exit_code == 0
    assert plans[0].output == plans[1].output
    started = []
    monkeypatch.setattr(live_run, "LiveRun", lambda *_: nullcontext(Mock(facts=dict, return_value=None)))

    def train_here(*given, step):
        started.append(step)
        write_finetuned(*given)

    monkeypatch.setattr(launch, "launch_finetuned", train_here)
    document["training"]["epochs"] = 1
    for processes in (2, 1):  # what two have trained is reused by one
        document["execution"]["processes"] = processes
        recipe = check(document)
        data = steps.prepare(recipe)
        model = steps.finetune(recipe, data, steps.initialise(recipe, data))
    assert (len(started), model.reused) == (1, True)
