"""Killed anywhere and run again, a run ends with the bytes of one never killed. `pytest tests/kill`

`python tests/kill/everywhere.py --points 300` tries hundreds of points.
"""

import signal

import pytest
from kill_ground import VARIANTS, document
from kill_harness import described, next_step, problems
from kill_witness import Point

SPREAD = 4
MOMENTS = {
    "half of the rows are written": ("shard", "write", "unusable", True),
    "half of a new head is written": ("initialise", "write", "new.safetensors", True),
    "half of a checkpoint's tensors is written": ("finetune", "write", "work/.*/partial$", True),
    "half of a checkpoint's manifest is written": ("finetune", "write", "partial/manifest", True),
    "a checkpoint is about to be renamed": ("finetune", "rename", "work/.*/partial", False),
    "half of the best weights is written": ("finetune", "write", "best.partial$", True),
    "the best weights are about to be renamed": ("finetune", "rename", "best.partial", False),
    "a checkpoint of epoch 9 is half removed": ("finetune", "remove", "step-.*-9/", False),
    "the best weights of before are about to go": ("finetune", "remove", "best-", False),
    "half of the trained model is written": ("finetune", "write", "model/model.safetensors", True),
    "the model is about to be published": ("finetune", "rename", "partial/", False),
    "the model is published, its checkpoints are there": ("between", "rmtree", "work/", False),
    "half of the predictions is written": ("evaluate", "write", "predictions", True),
}
SAMPLE = ("half of a checkpoint's tensors is written", "the model is about to be published")
"""The moments that the quick tests try."""


@pytest.mark.kill
@pytest.mark.parametrize("place", range(SPREAD))
@pytest.mark.parametrize("variant", VARIANTS)
def test_killed_anywhere_a_run_ends_with_the_same_bytes(reference, variant, place, tmp_path):
    of = reference(variant)
    phase = ([*VARIANTS].index(variant) + 0.5) / len(VARIANTS)  # alike before training: each its own points
    point = of.points(SPREAD, phase)[place]
    assert not problems(of, [point], tmp_path / "store"), described(of, [point])


@pytest.mark.parametrize(
    "moment", [moment if moment in SAMPLE else pytest.param(moment, marks=pytest.mark.kill) for moment in MOMENTS]
)
def test_killed_when(reference, moment, tmp_path):
    of = reference("stopping")
    point = of.moment(*MOMENTS[moment])
    assert not problems(of, [point], tmp_path / "store"), described(of, [point])


@pytest.mark.kill
@pytest.mark.parametrize("second", [Point(1, "load"), Point(2, "load"), Point(2, "step"), Point(40)])
def test_killed_twice(reference, second, tmp_path):
    """The second time while the checkpoint is read, and after few steps."""
    of = reference("start")
    points = [Point(6, "step"), second]
    assert not problems(of, points, tmp_path / "store"), described(of, points)


@pytest.mark.kill
def test_a_fault_is_noticed(reference, tmp_path):
    """These tests can fail: bytes that nobody would find by themselves, and a checkpoint that is none."""

    def forget(store):
        for state in store.glob("work/*/step-*/state.json"):
            state.write_text("{}")

    found = problems(reference("gradual"), [Point(9, "step")], tmp_path / "store", forget)
    assert any("damaged" in text for text in found)
    assert any(text.startswith("training began at step 0 where step") for text in found)


def test_checkpoints_are_what_training_goes_on_from(reference, zygote, tmp_path):
    of = reference("head_first")
    recipe = document("head_first", zygote.ground, tmp_path / "store")
    assert zygote.live(recipe, Point(6, "step")).status == -signal.SIGKILL
    assert next_step(tmp_path / "store", of.steps) == 5
    assert zygote.live(recipe).lines_of("step") == [str(step) for step in range(5, of.steps)]
