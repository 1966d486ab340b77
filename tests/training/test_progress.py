"""How a training's progress is shown while it runs."""

import logging
import re

import pytest

from pipeline_lib.pipeline import steps
from pipeline_lib.training import progress
from pipeline_lib.training.progress import ProgressSnapshot, TrainingProgress, duration


def record(step, metric, value, split="train", epoch=1):
    return {"step": step, "epoch": epoch, "split": split, "metric": metric, "value": value}


def trained(step, loss, epoch=1):
    return [record(step, "loss", loss, epoch=epoch), record(step, "learning_rate", 1e-3), record(step, "tokens", 50)]


@pytest.fixture
def quick(monkeypatch):
    """Standings follow each other without a pause worth mentioning."""
    monkeypatch.setattr(progress, "SHOW_EVERY", 0.02)
    monkeypatch.setattr(progress, "LOG_EVERY", 0.0)


def test_standings_hold_the_numbers_of_the_training_and_the_watch_is_asked(recipe, monkeypatch):
    shown, passed_on = [], []
    watch = lambda records, steps: passed_on.append((len(records), steps)) or "no hope"  # noqa: E731
    with TrainingProgress(recipe, shown.append) as progress:
        watch_again = progress.wrap_watch(watch, lambda: "http://mlflow/page")
        assert watch_again([], 12) == "no hope"
        watch_again(trained(1, 2.0), 12)
        watch_again(trained(2, 1.0), 12)
        watch_again([record(2, "accuracy", 0.75, "validation"), record(2, "loss", 0.5, "validation")], 12)
        watch_again(trained(3, 0.6, epoch=2), 12)
    last = shown[-1]
    assert (last.step, last.steps, last.epoch, last.epochs, last.percent) == (3, 12, 2, 6, 25.0)
    assert last.loss == pytest.approx(1.2)
    assert last.learning_rate == 1e-3
    assert last.tokens_per_second > 0
    assert last.seconds_left > 0
    assert last.validation == "validation after step 2: accuracy 0.7500, loss 0.5000"
    assert last.page == "http://mlflow/page"
    assert passed_on == [(0, 12), (3, 12), (3, 12), (2, 12), (3, 12)]


def test_a_resumed_training_counts_its_pace_from_where_it_goes_on(recipe, caplog):
    caplog.set_level(logging.INFO, "tunesmith")
    shown = []
    with TrainingProgress(recipe, shown.append) as progress:
        watch_again = progress.wrap_watch(lambda records, steps: None, lambda: None)
        watch_again([*trained(7, 1.0, epoch=3), *trained(8, 1.0, epoch=4)], 12)
        watch_again(trained(9, 0.5, epoch=4), 12)
    assert caplog.messages[0] == "finetune    resumed after step 8: 6 epochs, 12 steps"
    assert (shown[-1].step, shown[-1].loss) == (9, 0.5)
    assert shown[-1].seconds_left < 60  # three steps at the pace of the one that was seen


def test_what_fails_to_show_progress_ends_neither_the_training_nor_its_log_lines(recipe, quick, caplog):
    caplog.set_level(logging.INFO, "tunesmith")

    def failing(progress):
        raise ConnectionError("nobody answers")

    with TrainingProgress(recipe, failing) as progress:
        watch_again = progress.wrap_watch(lambda records, steps: None, lambda: None)
        watch_again([], 12)
        watch_again(trained(1, 2.0), 12)
    assert caplog.messages.count("finetune    stopped showing progress: nobody answers") == 1
    assert caplog.messages[-1].startswith(
        "finetune    epoch 1 of 6, step 1 of 12, loss 2.0000, learning rate 1.00e-03, "
    )


def test_a_stopped_training_says_how_it_goes_on_instead_of_how_long_it_takes(recipe, quick, caplog):
    caplog.set_level(logging.INFO, "tunesmith")
    shown = []
    with pytest.raises(KeyboardInterrupt), TrainingProgress(recipe, shown.append) as progress:
        watch_again = progress.wrap_watch(lambda records, steps: None, lambda: None)
        watch_again([], 12)
        watch_again(trained(1, 2.0), 12)
        before = len(caplog.messages)
        raise KeyboardInterrupt
    assert shown[-1].seconds_left is None
    assert shown[-1].facts()[-1] == "stopped; a retry continues from the last checkpoint"
    assert caplog.messages[before:] == []


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.processes)])
def test_a_real_training_is_shown_to_its_end_and_every_log_line_names_its_step(recipe, processes, quick, caplog):
    caplog.set_level(logging.INFO, "tunesmith")
    recipe = recipe.model_copy(update={"execution": recipe.execution.model_copy(update={"processes": processes})})
    data = steps.prepare(recipe, steps.encode(recipe))
    shown = []
    steps.finetune(recipe, data, steps.initialise(recipe, data), show=shown.append)
    assert (shown[-1].step, shown[-1].epoch, shown[-1].percent) == (shown[-1].steps, recipe.training.epochs, 100.0)
    named = ("encode", "shard", "prepare", "initialise", "finetune", "features", "base", "mlflow")
    ours = [record.getMessage() for record in caplog.records if record.name == "tunesmith"]
    assert [line for line in ours if not line.startswith(named)] == []
    assert any("loss" in line and "tokens/s" in line for line in caplog.messages)
    lines = [line for line in ours if line.startswith("finetune    epoch")]
    states = [(re.search(r"step [\d,]+", line)[0], line.partition("validation")[2]) for line in lines]
    assert len(states) == len(set(states))  # no line repeats the one before


def test_numbers_that_are_not_known_yet_are_left_out():
    assert ProgressSnapshot(0, 100, 1, 3).facts() == ["epoch 1 of 3", "step 0 of 100"]
    assert ProgressSnapshot(0, 100, 1, None).facts() == ["epoch 1", "step 0 of 100"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.4, "4 s"), (59.7, "1 min 0 s"), (3599, "59 min 59 s"), (7325, "2 h 2 min")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text
