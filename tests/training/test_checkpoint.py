"""Checkpoints and best weights are what was written, or are not read. `pytest tests/training/test_checkpoint.py`"""

import pytest
import torch
from loops import ALONE

from pipeline_lib.errors import RecipeError
from pipeline_lib.training.checkpoint import Checkpoints, State

FILE = "shard-00001-model-00001-of-00001.safetensors"


@pytest.fixture
def weights():
    return {"a": torch.nn.Parameter(torch.ones(3, 2))}


@pytest.fixture
def saved(tmp_path, weights):
    """A checkpoint of step 5, whose best weights are those of step 3."""
    checkpoints, optimizer = Checkpoints(tmp_path, ALONE), torch.optim.AdamW(weights.values())
    state = State(epoch=1, position=1, step=5, best=0.5, best_step=3)
    checkpoints.save_best(state, weights)
    checkpoints.save(state, weights, optimizer)
    return checkpoints, state, optimizer


def flip(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_what_was_saved_comes_back(saved, weights):
    checkpoints, state, optimizer = saved
    with torch.no_grad():
        weights["a"].zero_()
    assert checkpoints.restore(weights, optimizer) == state
    assert weights["a"].sum() == 6
    checkpoints.restore_best(state, weights)


def test_a_checkpoint_whose_best_weights_are_damaged_is_passed_over(saved, weights, caplog):
    checkpoints, state, optimizer = saved
    flip(checkpoints.best_folder(state) / FILE)
    assert checkpoints.restore(weights, optimizer) is None
    assert "damaged" in caplog.text


def test_best_weights_that_changed_during_the_training_are_not_published(saved, weights):
    checkpoints, state, _ = saved
    flip(checkpoints.best_folder(state) / FILE)
    with pytest.raises(RecipeError, match="changed on disk"):
        checkpoints.restore_best(state, weights)


def test_saving_removes_what_is_no_longer_needed(saved, weights, tmp_path):
    checkpoints, _, optimizer = saved
    later = State(epoch=2, step=9, best=0.6, best_step=9)
    checkpoints.save_best(later, weights)
    checkpoints.save(later, weights, optimizer)
    assert {path.name for path in tmp_path.iterdir()} == {"step-000000009-2", "best-9"}
