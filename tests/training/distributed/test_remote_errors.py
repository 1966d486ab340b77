"""An error of a training process is raised in its own class and retried as with one. `pytest tests/training`."""

import json
from types import SimpleNamespace

import httpx
import pytest
import requests
import torch

from pipeline_lib.errors import RecipeError, ServiceUnavailable
from pipeline_lib.training.distributed import agent, launch
from pipeline_lib.training.distributed.remote_errors import describe_error, rebuild_error
from pipeline_lib.training.inputs import Inputs
from pipeline_lib.util.signals import Pruned
from tasks.retries import can_pass


class Odd(ValueError):
    """A class of a module that is not known."""


class Outside(Exception):
    """One without a known base class."""


def passed_on(error):
    return rebuild_error(json.loads(json.dumps(describe_error(error))))


def retried(error):
    return can_pass(None, None, SimpleNamespace(result=lambda raise_on_failure: error))


def too_large():
    """The error of a step that does not fit even row by row."""
    error = RecipeError("training.batch_tokens", 8, "does not fit into memory", "Shorten the rows")
    error.__cause__ = torch.OutOfMemoryError("CUDA out of memory")
    return error


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (too_large(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (ConnectionResetError(104, "Connection reset by peer"), True),
        (TimeoutError("no answer"), True),
        (OSError(116, "Stale file handle", "shard.parquet"), True),
        (OSError(28, "No space left on device", "x"), False),
        (httpx.ConnectError("refused"), True),
        (requests.exceptions.ConnectionError("refused"), False),
        (ServiceUnavailable("execution.tracking_uri", "http://there", "does not answer", "Start it"), True),
        (RecipeError("a.b", {"c": 1}, "is wrong", "Correct it"), False),
        (Pruned("it had no hope"), False),
        (FloatingPointError("the loss is nan"), False),
        (KeyError("text"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_keeps_its_class_and_is_retried_as_before(error, again):
    revived = passed_on(error)
    assert type(revived) is type(error)
    assert (str(revived), revived.args) == (str(error), error.args)
    assert (retried(error), retried(revived)) == (again, again)
    if isinstance(error, OSError):
        assert (revived.errno, revived.filename) == (error.errno, error.filename)


def test_an_unknown_class_becomes_its_nearest_known_one():
    assert repr(passed_on(Odd("bad row"))) == "ValueError('Odd: bad row')"
    assert repr(passed_on(Outside("bad row"))) == "RuntimeError('Outside: bad row')"


def test_causes_and_notes_are_passed_on():
    try:
        try:
            raise ConnectionRefusedError(111, "Connection refused")
        except OSError as refused:
            raise Outside("cannot fetch it") from refused
    except Outside as error:
        error.add_note("in shard 3")
        revived = passed_on(error)
    assert isinstance(revived.__cause__, ConnectionRefusedError)
    assert revived.__notes__ == ["in shard 3"]
    assert retried(revived)


RAISED = """
from pathlib import Path
import logging, time, warnings
from pipeline_lib.training.distributed import worker
from pipeline_lib.training import finetune
import torch
def fail(*given):
    if os.environ["RANK"] == "1":
        time.sleep(60)
    warnings.warn("a library warns")
    logging.getLogger("some.library").error("a library fails")
    try:
        raise ConnectionResetError(104, "Connection reset by peer")
    except OSError as error:
        raise torch.OutOfMemoryError("CUDA out of memory") from error
finetune.write_finetuned = fail
worker.main(sys.argv[2])
"""


@pytest.mark.processes
def test_two_processes_fail_as_one_would(recipe, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(agent, "START", f"import os, sys; sys.path.insert(0, sys.argv[1])\n{RAISED}")
    two = recipe.model_copy(update={"execution": recipe.execution.model_copy(update={"processes": 2})})
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory") as raised:
        launch.launch_finetuned(two, Inputs(*[tmp_path] * 4), tmp_path, lambda records, steps: None, tmp_path)
    assert retried(raised.value)
    assert isinstance(raised.value.__cause__, ConnectionResetError)
    assert "in training process 0" in raised.value.__notes__[-1]
    logged = {(record.name, record.levelname) for record in caplog.records}
    assert {("py.warnings", "WARNING"), ("some.library", "ERROR")} <= logged
