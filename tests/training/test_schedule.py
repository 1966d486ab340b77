"""The learning rate by step, against values worked out by hand. `pytest tests/training/test_schedule.py`."""

import pytest

from pipeline_lib.training.schedule import rate


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant", "inverse_sqrt"])
def test_the_rate_rises_linearly_to_its_peak(schedule):
    # 4 warm-up steps of 40: 1/5, 2/5, 3/5, 4/5, then the peak
    assert [rate(schedule, 0.1, step, 40) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


@pytest.mark.parametrize(
    ("schedule", "at", "expected"),
    [
        ("linear", 22, 0.5),  # half of the 36 steps after the warm-up are done
        ("linear", 39, 1 / 36),
        ("cosine", 22, 0.5),
        ("cosine", 13, 0.8535533905932737),  # a quarter: (1 + cos(pi / 4)) / 2
        ("constant", 39, 1.0),
        ("inverse_sqrt", 16, 0.5),  # sqrt(4 / 16)
    ],
)
def test_the_rate_then_follows_its_formula(schedule, at, expected):
    assert rate(schedule, 0.1, at, 40) == pytest.approx(expected)


def test_without_warm_up_the_first_step_has_the_peak():
    assert rate("linear", 0.0, 0, 10) == 1.0
