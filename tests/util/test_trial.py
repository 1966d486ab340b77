"""A computation tried in a child process: what takes too much, and what only fails. `pytest tests/util`."""

import os
import signal

import pytest

from pipeline_lib.util.trial import takes_too_much


@pytest.mark.parametrize(
    ("work", "too_much"),
    [
        (lambda: None, False),
        (lambda: 1 / 0, False),
        (lambda: b"a" * 2**36, True),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), True),
    ],
)
def test_a_computation_that_ends_or_fills_its_process_takes_too_much(work, too_much):
    assert takes_too_much(work) is too_much
