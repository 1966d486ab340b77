"""Steps for which memory does not suffice are repeated in parts. `pytest tests/training/test_out_of_memory.py`"""

import json

import numpy as np
import pytest
import torch
from loops import loop_of
from mlflow import MlflowClient

from pipeline_lib.errors import RecipeError
from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import check
from pipeline_lib.training.out_of_memory import is_out_of_memory, read_in_halves
from pipeline_lib.training.step import Stepper


@pytest.fixture
def small_memory(monkeypatch):
    """Lets passes of more than `rows` rows end as they do on a full GPU."""
    backward = Stepper._backward_part

    def limit(rows):
        def run(self, part, *others):
            loss = backward(self, part, *others)
            if len(part) > rows:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return loss

        monkeypatch.setattr(Stepper, "_backward_part", run)

    return limit


def gradients_of_a_step(document, folder):
    loop = loop_of(check(document), folder)
    loop.begin()
    gradients = {}
    loop.optimizer.step = lambda: gradients.update({n: p.grad.clone() for n, p in loop.model.named_parameters()})
    record = loop.stepper.step(np.arange(8), 0, 1.0)
    return record, gradients, loop.stepper.batch_tokens


def test_a_repeated_step_has_the_same_gradients(document, tmp_path, small_memory, caplog):
    document["regularizers"] = [{"kind": "dropout", "value": 0.0}, {"kind": "mixout", "probability": 0.5}]
    document["training"]["max_grad_norm"] = 1e9
    whole, gradients, tokens = gradients_of_a_step(document, tmp_path / "whole")
    assert tokens == 4096
    small_memory(2)
    parts, others, tokens = gradients_of_a_step(document, tmp_path / "parts")
    assert tokens < 30
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-5)
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, others[name], rtol=1e-3, atol=1e-6), name
    assert "out of memory in step 1 with 4,096 tokens per pass; at most" in caplog.text


def test_a_single_row_that_does_not_fit_ends_the_training(document, tmp_path, small_memory):
    small_memory(0)
    with pytest.raises(
        RecipeError, match=r"training.batch_tokens = \d+: does not fit into memory, .* one row of \d+ tokens"
    ):
        gradients_of_a_step(document, tmp_path / "work")


def test_a_run_finds_its_size_once_and_mlflow_says_so(document, small_memory, caplog):
    small_memory(2)
    outcome = run(check(document))
    assert caplog.text.count("out of memory in step") <= 3
    used = json.loads((outcome.model.folder / "summary.json").read_text())["batch_tokens"]
    assert used < 4096
    assert json.loads((outcome.model_folder / "tunesmith.json").read_text())["batch_tokens"] == used
    client = MlflowClient(document["execution"]["tracking_uri"])
    experiment = client.get_experiment_by_name(document["execution"]["experiment"])
    tags = [run.data.tags.get("tunesmith.out_of_memory") for run in client.search_runs([experiment.experiment_id])]
    assert f"memory ran out with 4,096 tokens per pass; {used:,} were used" in tags


def test_a_resumed_training_keeps_the_size(document, tmp_path, small_memory):
    small_memory(2)
    loop = loop_of(check(document), tmp_path / "work")
    loop.run()
    loop.checkpoint_policy.save(loop.state)
    resumed = loop_of(check(document), tmp_path / "work")
    resumed.begin()
    assert resumed.stepper.batch_tokens == loop.stepper.batch_tokens < 4096


def test_rows_are_read_in_halves():
    seen = []

    def read(rows):
        seen.append(len(rows))
        if len(rows) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [10 * row for row in rows]

    assert [*read_in_halves(read, np.arange(10))] == [10 * row for row in range(10)]
    assert seen == [10, 5, 2, 3, 5, 2, 3]


def test_errors_are_told_apart():
    with pytest.raises(RuntimeError) as full:
        torch.empty(2**60)
    assert is_out_of_memory(full.value)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(ValueError, match="another"):
        read_in_halves(lambda rows: (_ for _ in ()).throw(ValueError("another")), np.arange(4))
