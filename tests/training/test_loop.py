"""What training promises: exact accumulation, the best checkpoint, the same bytes after a kill.

`pytest tests/training/test_loop.py`
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from loops import ALONE, loop_of
from safetensors.torch import load_file

from pipeline_lib.data.examples import Examples, Ragged
from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe.schema import check
from pipeline_lib.training.checkpoint import Checkpoints
from pipeline_lib.training.settings import Training
from pipeline_lib.training.step import Stepper
from pipeline_lib.training.validation import validate


def one_step(recipe, folder):
    """Record and gradients of a single step on eight rows, without dropout."""
    loop = loop_of(recipe, folder)
    for module in loop.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    loop.begin()
    gradients = {}
    loop.optimizer.step = lambda: gradients.update({n: p.grad.clone() for n, p in loop.model.named_parameters()})
    return loop.stepper.step(np.arange(8), 0, 1.0), gradients


def test_accumulation_equals_the_full_batch(document, tmp_path):
    document["training"]["max_grad_norm"] = 1e9
    whole, gradients = one_step(check(document), tmp_path / "a")
    document["training"]["batch_tokens"] = 17  # two rows at a time, the last part holds fewer
    parts, others = one_step(check(document), tmp_path / "b")
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-5)
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, others[name], rtol=1e-3, atol=1e-6), name


@pytest.mark.parametrize(("most", "left"), [(0.5, 0.5), (1e9, None)])
def test_gradients_above_the_most_are_scaled_down_to_it(document, tmp_path, most, left):
    document["training"] |= {"max_grad_norm": most}
    loop = loop_of(check(document), tmp_path / "work")
    loop.begin()
    norm = loop.stepper.step(np.arange(8), 0, 1.0)["grad_norm"]
    assert norm > 0.5
    means = [state["exp_avg"] for state in loop.optimizer.state.values()]  # 0.1 of what AdamW was given
    assert torch.nn.utils.get_total_norm(means) / 0.1 == pytest.approx(left or norm, rel=1e-5)


def test_the_loss_falls_and_frozen_weights_keep_their_bytes(document, tmp_path):
    document["strategies"] = [{"kind": "partial", "last_layers": 1}]
    document["training"]["learning_rate"] = 1e-2
    loop = loop_of(check(document), tmp_path / "work")
    before = {name: p.detach().clone() for name, p in loop.model.named_parameters()}
    state = loop.run()
    losses = [r["value"] for r in state.history if r["split"] == "train" and r["metric"] == "loss"]
    assert np.mean(losses[-9:]) < np.mean(losses[:9])
    for row in loop.table:
        now = dict(loop.model.named_parameters())[row.name]
        assert torch.equal(now, before[row.name]) != row.trained, row.name


def test_the_best_weights_are_kept(document, tmp_path):
    document["training"] |= {"learning_rate": 0.02, "epochs": 6}  # a rate that wanders
    loop = loop_of(check(document), tmp_path / "work")
    state = loop.run()
    scores = [
        (r["value"], r["step"]) for r in state.history if r["split"] == "validation" and r["metric"] == "accuracy"
    ]
    assert state.best == max(score for score, _ in scores)
    assert state.best_step == next(step for score, step in scores if score == state.best)  # the first of equals
    now = validate(loop.recipe.objective, loop.model, loop.validation, loop.pad, 4096, loop.accelerator, None)
    assert now["accuracy"] == state.best


def test_early_stopping_ends_after_its_patience(document, tmp_path):
    document["regularizers"] = [{"kind": "early_stopping", "metric": "accuracy", "patience": 2}]
    document["training"] |= {"epochs": 30, "learning_rate": 1e-12}  # nothing is learned
    state = loop_of(check(document), tmp_path / "work").run()
    assert (state.epoch, state.validations_without_gain) == (3, 2)


def test_validation_rows_are_scored_within_epochs_and_the_last_step_ends_the_training(document, tmp_path):
    document["training"] |= {"epochs": 3, "evaluate_every": 0.5, "max_steps": 13}
    loop = loop_of(check(document), tmp_path / "work")
    steps = len(loop.plans[0])
    state = loop.run()
    validated = [r["step"] for r in state.history if (r["split"], r["metric"]) == ("validation", "loss")]
    assert validated == [round(steps / 2), steps, steps + 2, 13]
    assert (state.step, state.epoch, loop.steps) == (13, 2, 13)


def test_patience_counts_validations(document, tmp_path):
    document["training"] |= {"epochs": 3, "learning_rate": 1e-12, "evaluate_every": 2}
    document["regularizers"] = [{"kind": "early_stopping", "patience": 2}]
    state = loop_of(check(document), tmp_path / "work").run()
    assert (state.step, state.best_step, state.validations_without_gain) == (6, 2, 2)


@pytest.mark.parametrize(
    ("every", "steps", "points"),
    [(1.0, 9, {9}), (0.5, 9, {4, 9}), (0.25, 2, {1, 2}), (4, 9, {4, 8, 9}), (100, 9, {9}), (0.3, 9, {3, 6, 9})],
)
def test_when_validation_rows_are_scored(every, steps, points):
    assert Training(evaluate_every=every).validation_points(steps) == points


def test_an_undefined_score_is_never_the_best_and_leaves_no_nan_in_json(document, tmp_path, monkeypatch):
    losses = iter([np.nan, 0.25, np.nan, 0.5])
    monkeypatch.setattr("pipeline_lib.training.loop.validate", lambda *_: {"loss": 1.0, "accuracy": next(losses)})
    document["training"] |= {"epochs": 4}
    document["execution"]["checkpoint_seconds"] = 1e-9  # one after every step
    loop = loop_of(check(document), tmp_path / "work")
    state = loop.run()
    assert (state.best, state.best_step, state.validations_without_gain) == (0.5, state.step, 0)
    (place,) = (tmp_path / "work").glob("step-*")
    assert "NaN" not in (place / "state.json").read_text()
    again = loop_of(check(document), tmp_path / "work")
    again.begin()
    values = [record["value"] for record in again.state.history if record["metric"] == "accuracy"]
    np.testing.assert_array_equal(values, [np.nan, 0.25, np.nan, 0.5])


def test_where_every_score_is_undefined_the_last_weights_are_kept(document, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline_lib.training.loop.validate", lambda *_: {"loss": 1.0, "accuracy": np.nan})
    document["regularizers"] = [{"kind": "early_stopping", "metric": "accuracy", "patience": 2}]
    document["training"] |= {"epochs": 5}
    state = loop_of(check(document), tmp_path / "work").run()
    assert (state.best, state.best_step, state.epoch) == (None, None, 2)


def test_without_validation_the_last_weights_are_kept(document, tmp_path):
    document["data"]["split"]["validation"] = 0
    state = loop_of(check(document), tmp_path / "work").run()
    assert state.best_step is None
    assert {r["split"] for r in state.history} == {"train"}


def test_weights_that_are_no_numbers_stop_the_training_at_its_first_step(document, tmp_path):
    loop = loop_of(check(document), tmp_path / "work")
    with torch.no_grad():
        loop.model.classifier.bias.fill_(float("inf"))
    with pytest.raises(RecipeError, match=r"^model\.base .*not numbers \(classifier\.bias\)"):
        loop.run()


def test_a_learning_rate_at_which_the_loss_is_no_number_stops_the_training(document, tmp_path):
    document["training"]["learning_rate"] = 1e30
    with pytest.raises(RecipeError, match=r"^training\.learning_rate = 1e\+30: the loss is nan at step 2. Lower it"):
        loop_of(check(document), tmp_path / "work").run()


def test_biases_and_norms_do_not_decay(document, tmp_path):
    document["regularizers"] = [{"kind": "weight_decay", "value": 0.1}]
    loop = loop_of(check(document), tmp_path / "work")
    assert {row.weight_decay for row in loop.table if "LayerNorm" in row.name or row.name.endswith("bias")} == {0.0}
    assert {row.weight_decay for row in loop.table if row.name.endswith("dense.weight")} == {0.1}


def test_bf16_trains(document, tmp_path):
    document["execution"]["precision"] = "bf16"
    loop = loop_of(check(document), tmp_path / "work")
    state = loop.run()
    assert loop.accelerator.mixed_precision == "bf16"
    assert state.best > 0.5


@pytest.mark.parametrize(("precision", "rounded"), [("bf16", True), ("fp32", False)])
def test_only_steps_in_bf16_are_padded_to_a_multiple(document, tmp_path, precision, rounded):
    document["execution"]["precision"] = precision
    document["training"] |= {"batch_size": 1, "epochs": 1}
    loop, widths = loop_of(check(document), tmp_path / "work"), set()
    loop.model.register_forward_pre_hook(
        lambda _, args, given: widths.add(given["input_ids"].shape[1]), with_kwargs=True
    )
    loop.begin()
    for row in range(len(loop.train)):
        loop.stepper.step(np.array([row]), row, 1.0)
    longest = loop.train.ids.longest
    exactly = set(loop.train.ids.lengths.tolist())
    assert widths == ({min(-(-length // 4) * 4, longest) for length in exactly} if rounded else exactly)


def test_padding_to_a_multiple_changes_no_gradient(document, tmp_path, monkeypatch):
    plain, gradients = one_step(check(document), tmp_path / "a")
    monkeypatch.setattr(Stepper, "multiple", 64)
    monkeypatch.setattr(Ragged, "longest", 64)
    padded, others = one_step(check(document), tmp_path / "b")
    assert padded["loss"] == pytest.approx(plain["loss"], rel=1e-5)
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, others[name], rtol=1e-3, atol=1e-6), name


@pytest.mark.kill
def test_a_training_that_is_killed_again_and_again_goes_on_and_ends_with_the_same_bytes(document, tmp_path):
    document["training"] |= {"epochs": 12}
    document["regularizers"] = [{"kind": "early_stopping", "patience": 12}]
    document["execution"] |= {"checkpoint_seconds": 0.05}
    straight = document | {"execution": document["execution"] | {"store": str(tmp_path / "straight")}}
    recipe_file, reference = tmp_path / "killed.json", tmp_path / "straight.json"
    recipe_file.write_text(json.dumps(document))
    reference.write_text(json.dumps(straight))
    _train(reference).communicate()
    for seconds in (0.0, 0.1, 0.3):
        process = _train(recipe_file)
        _wait_for(tmp_path / "store" / "work", process)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    again = _train(recipe_file)
    assert b"Traceback" not in again.communicate()[1]
    first, second = (_files(tmp_path / store / "steps" / "finetune") for store in ("straight", "store"))
    assert first.keys() == second.keys()
    assert all(first[name] == second[name] for name in first), [name for name in first if first[name] != second[name]]
    assert not any((tmp_path / "store" / "work").iterdir())


def _train(recipe_file):
    code = (
        "import json, sys; from pipeline_lib.pipeline import steps; from pipeline_lib.recipe.schema import check\n"
        "recipe = check(json.load(open(sys.argv[1]))); data = steps.prepare(recipe)\n"
        "steps.finetune(recipe, data, steps.initialise(recipe, data))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(recipe_file)], stderr=subprocess.PIPE, start_new_session=True
    )


def _wait_for(work: Path, process) -> None:
    """Until a checkpoint stands that was not there before."""
    before = {*work.glob("*/step-*")}
    while process.poll() is None and not {*work.glob("*/step-*")} - before:
        time.sleep(0.01)


def _files(folder: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in folder.rglob("*") if f.is_file() and f.name != "manifest.json"}


def test_checkpoints_whose_bytes_changed_are_passed_over(document, tmp_path):
    document["execution"]["checkpoint_seconds"] = 1e-6
    loop = loop_of(check(document), tmp_path / "work")
    loop.run()
    (place,) = (tmp_path / "work").glob("step-*")
    (weights,) = place.glob("*.safetensors")
    assert load_file(weights)
    flipped = bytearray(weights.read_bytes())
    flipped[-1] ^= 1
    weights.write_bytes(flipped)
    assert Checkpoints(tmp_path / "work", ALONE).restore(loop.stepper.weights, loop.optimizer.optimizer) is None


def test_encoded_rows_have_lengths():
    assert Examples(Ragged.from_lists([[1, 2], [3]]), np.zeros(2)).lengths.tolist() == [2, 1]
