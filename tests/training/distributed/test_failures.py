"""Which failure of several processes is the cause, and which are worth a restart. `pytest tests/training`"""

import json

import pytest
import torch

from pipeline_lib.errors import RecipeError, ServiceUnavailable
from pipeline_lib.training.distributed.failures import Failure, first_cause, process_name, recurs
from pipeline_lib.training.distributed.remote_errors import describe_error
from pipeline_lib.training.out_of_memory import PassTooLarge
from pipeline_lib.util.signals import Pruned


def failure(rank, error):
    return Failure(process_name(rank), json.loads(json.dumps(describe_error(error), default=str)), recurs(error))


def ended(rank, code):
    return Failure(process_name(rank), exit_code=code)


LOST = failure(0, RuntimeError("Connection closed by peer"))


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (RecipeError("a.b", 1, "is wrong", "Correct it"), True),
        (ServiceUnavailable("execution.store", "s3://there", "does not answer", "Start it"), False),
        (FloatingPointError("the loss is nan"), True),
        (Pruned("it had no hope"), True),
        (KeyError("text"), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (OSError(28, "No space left on device"), True),
        (ConnectionResetError(104, "Connection reset by peer"), False),
        (TimeoutError("no progress for 40 seconds"), False),
        (RuntimeError("Connection closed by peer"), False),
        (PassTooLarge(2048), False),
        (torch.distributed.DistNetworkError("Connection was likely closed"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_restart_is_for_what_can_pass(error, again):
    assert recurs(error) is again


@pytest.mark.parametrize(
    "error, kind, words",
    [
        (RecipeError("a.b", {"c": 1}, "is wrong", "Mend it"), RecipeError, "a.b = {'c': 1}: is wrong. Mend it."),
        (OSError(28, "No space left on device", "x"), OSError, "No space left on device: 'x'"),
        (torch.OutOfMemoryError("no room"), torch.OutOfMemoryError, "no room"),
        (TimeoutError("no progress for 40 seconds"), TimeoutError, "no progress for 40 seconds"),
    ],
)
def test_an_error_of_its_own_is_the_cause_and_keeps_its_words(error, kind, words):
    killed_by_the_agent = ended(2, -9)
    revived = first_cause([LOST, failure(1, error), killed_by_the_agent]).rebuild()
    assert isinstance(revived, kind)
    assert words in str(revived)


def test_a_killed_rank_comes_before_those_that_lost_it():
    failures = [
        LOST,
        ended(0, 1),
        ended(2, -15),
        ended(1, -9),
    ]
    assert str(first_cause(failures)) == "training process 1 was ended by SIGKILL"
    message = str(first_cause(failures).rebuild())
    assert message == "training process 1 was ended by SIGKILL; run again to continue from its last checkpoint"


def test_the_first_of_several_errors_is_the_cause():
    later = failure(1, RuntimeError("Connection reset by peer"))
    assert str(first_cause([LOST, later])) == "training process 0 failed (RuntimeError: Connection closed by peer)"
    assert str(first_cause([ended(1, -15), ended(0, 3)])) == ("training process 0 exited with code 3")
