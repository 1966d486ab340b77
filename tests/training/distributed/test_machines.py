"""A training on two machines: two agents on loopback with separate homes and caches, and one store in a bucket.

`pytest tests/training/distributed/test_machines.py`
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow_server import free_port
from safetensors.torch import load_file

from pipeline_lib.pipeline import steps
from pipeline_lib.recipe.schema import check

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-c", "from pipeline_lib.cli.main import app; app()", "worker"]


@pytest.fixture
def second_machine(tmp_path):
    """Starts `tunesmith worker` with a home, a cache and a working folder of its own; ends what it started."""
    started = []

    def start(recipe, *options, name="second"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        own = {"HOME": str(folder), "TUNESMITH_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
        command = [*COMMAND, "--rendezvous", recipe.execution.rendezvous, *options]
        log = (folder / "log").open("a")
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
    (weights,) = model.folder.glob("model/*.safetensors")
    alone = on_two["execution"] | {"machines": 1, "processes": 2, "store": str(tmp_path / "alone")}
    (others,) = trained(check(on_two | {"execution": alone})).folder.glob("model/*.safetensors")
    assert weights.read_bytes() == others.read_bytes()
    assert load_file(weights)
