"""A training on two machines: two agents on loopback with separate homes and caches, and one store in a bucket.

`pytest tests/training/distributed/test_machines.py`
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from mlflow_server import free_port
from typer.testing import CliRunner

from pipeline_lib.cli.main import app
from pipeline_lib.errors import RecipeError
from pipeline_lib.pipeline import fingerprints, steps
from pipeline_lib.recipe.schema import check
from pipeline_lib.store.object_storage import Objects
from pipeline_lib.training.distributed import agent, job

ROOT = Path(__file__).parents[3]
WORKER = "from pipeline_lib.cli.main import app; app()"
FAILS = """
import os, sys, json
sys.path.insert(0, sys.argv[1])
from pipeline_lib.training.distributed import messages
store = messages.connect_store(json.loads(sys.argv[2])["endpoint"])
messages.report_error(store, f"training process {os.environ['RANK']}", FloatingPointError("the loss is nan"))
sys.exit(1)
"""


@pytest.fixture
def second_machine(tmp_path):
    """Starts `tunesmith worker` with a home, a cache and a working folder of its own; ends what it started."""
    started = []

    def start(recipe, *options, code=WORKER):
        folder = tmp_path / "second"
        folder.mkdir(exist_ok=True)
        own = {"HOME": str(folder), "TUNESMITH_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", code, "worker", "--rendezvous", recipe.execution.rendezvous, *options]
        with (folder / "log").open("a") as log:
            started.append(subprocess.Popen(command, cwd=folder, env=os.environ | own, stderr=log))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def on_two(document, bucket, tmp_path, monkeypatch, unpublished):
    """The recipe of a training on two machines, of which this process is the first."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "first"))
    endpoint = f"127.0.0.1:{free_port()}"
    document["execution"] |= {"store": bucket, "machines": 2, "rendezvous": endpoint}
    document["training"]["epochs"] = 2
    return document


def trained(recipe):
    data = steps.prepare(recipe)
    return steps.finetune(recipe, data, steps.initialise(recipe, data))


@pytest.mark.remote
def test_two_machines_train_the_same_bytes_as_two_processes(on_two, second_machine, tmp_path):
    recipe = check(on_two)
    worker = second_machine(recipe, "--once")
    model = trained(recipe)
    assert worker.wait(60) == 0
    assert not Objects(on_two["execution"]["store"]).fs.find(on_two["execution"]["store"] + "/work")
    assert not list((tmp_path / "second" / "cache").glob("*/work/*"))
    alone = on_two["execution"] | {"machines": 1, "processes": 2, "store": str(tmp_path / "alone")}
    assert trained(check(on_two | {"execution": alone})).digest == model.digest


@pytest.mark.remote
@pytest.mark.processes
def test_hybrid_shards_on_two_machines_of_two_processes_train_as_one_process(on_two, second_machine, tmp_path):
    on_two["regularizers"] = [{"kind": "dropout", "value": 0.0}]
    on_two["training"] |= {"epochs": 1, "learning_rate": 1e-4}
    on_two["execution"] |= {"processes": 2, "sharding": "hybrid"}
    worker = second_machine(check(on_two), "--once")
    model = trained(check(on_two))
    assert worker.wait(60) == 0
    summary = json.loads((model.folder / "summary.json").read_text())
    assert (summary["processes"], summary["sharding"]) == (4, "hybrid")
    alone = on_two["execution"] | {"machines": 1, "processes": 1, "store": str(tmp_path / "alone"), "sharding": "none"}
    assert losses(model) == pytest.approx(losses(trained(check(on_two | {"execution": alone}))), rel=1e-6)


def losses(model):
    """The losses of all steps and validations of a trained model."""
    history = pq.read_table(model.folder / "history.parquet").to_pylist()
    return [record["value"] for record in history if record["metric"] == "loss"]


@pytest.mark.remote
@pytest.mark.kill
def test_a_killed_machine_that_comes_back_goes_on_from_the_last_checkpoint(on_two, second_machine, tmp_path, caplog):
    on_two["execution"]["checkpoint_seconds"] = 0.05
    on_two["training"]["epochs"] = 30
    recipe = check(on_two)
    worker = second_machine(recipe)
    training = subprocess.Popen(
        [sys.executable, "-c", TRAIN, json.dumps(on_two)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=-1,
        text=True,
    )
    store = Objects(on_two["execution"]["store"])
    while not store.fs.glob(f"{on_two['execution']['store']}/work/*/index.json"):
        assert training.poll() is None
        store.fs.invalidate_cache()
        time.sleep(0.1)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    second_machine(recipe)
    _, log = training.communicate(timeout=300)
    assert training.returncode == 0, log
    assert "attempt 2 continues from step" in log
    model = trained(recipe)
    alone = on_two["execution"] | {"machines": 1, "processes": 2, "store": str(tmp_path / "alone")}
    assert (trained(check(on_two | {"execution": alone})).digest, model.reused) == (model.digest, True)


TRAIN = """
import json, logging, sys
from pipeline_lib.pipeline import steps
from pipeline_lib.recipe.schema import check
from pipeline_lib.tracking.live_run import LiveRun
LiveRun._work = lambda self: None
logging.basicConfig()
recipe = check(json.loads(sys.argv[1]))
data = steps.prepare(recipe)
steps.finetune(recipe, data, steps.initialise(recipe, data))
"""


@pytest.mark.remote
def test_an_error_on_another_machine_keeps_its_class(on_two, second_machine, monkeypatch):
    monkeypatch.setattr(agent, "START", "import time; time.sleep(60)")
    recipe = check(on_two)
    patched = f"from pipeline_lib.training.distributed import agent; agent.START = {FAILS!r}; {WORKER}"
    worker = second_machine(recipe, "--once", code=patched)
    with pytest.raises(FloatingPointError, match="the loss is nan") as raised:
        trained(recipe)
    assert raised.value.__notes__[0].startswith("in training process 1:")
    assert worker.wait(60) == 1


def test_a_machine_that_would_train_something_else_is_refused(recipe, monkeypatch):
    step = fingerprints.finetune_step(recipe, {"prepare": "aa", "initialise": "bb", "base": "cc"})
    theirs = json.loads(json.dumps({"step": step.identity()}))
    assert job.refuse_other_code(recipe, theirs).fingerprint == step.fingerprint
    theirs["step"]["libraries"]["torch"] = "1.0"
    with pytest.raises(RecipeError, match=r"would train something else \(torch 1.0 → "):
        job.refuse_other_code(recipe, theirs)


def test_the_worker_refuses_what_is_no_address():
    done = CliRunner().invoke(app, ["worker", "--rendezvous", "somewhere"])
    assert done.exit_code == 2
    assert "--rendezvous = 'somewhere': must be HOST:PORT" in done.output
