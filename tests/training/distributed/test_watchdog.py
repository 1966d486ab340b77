"""When a process counts as hanging. `pytest tests/training/distributed/test_watchdog.py`"""

import pytest

from pipeline_lib.training.distributed import watchdog
from pipeline_lib.training.distributed.watchdog import MINIMUM, MULTIPLE, UNMEASURED, Watchdog, beat


class Counter:
    """What a store counts for all processes."""

    def __init__(self):
        self.count = 0

    def add(self, key, value):
        self.count += value
        return self.count


@pytest.fixture
def clock(monkeypatch):
    """Time as the watchdog sees it; add to its first element to let it pass."""
    now = [1000.0]
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: now[0])
    return now


def seconds_until_hanging(dog, clock, others=()):
    began = clock[0]
    while not dog.is_hanging():
        clock[0] += 1
        for other in others:
            other.is_hanging()
    return clock[0] - began


def test_limits_come_from_the_longest_gap_of_each_activity(clock):
    dog = Watchdog(Counter(), None)
    assert dog.limit() == UNMEASURED
    for seconds in (100, 2, 1):
        clock[0] += seconds
        dog.beat("training")
    assert dog.limit() == MINIMUM  # not measured by the 100 seconds until the first beat
    clock[0] += 60
    dog.beat("checkpoint")
    assert dog.limit() == UNMEASURED  # none was written yet
    clock[0] += 5
    dog.beat("training")
    assert dog.limit() == 60 * MULTIPLE


def test_a_process_without_beats_hangs(clock):
    dog = Watchdog(Counter(), None)
    dog.beat("training")
    dog.beat("training")
    assert seconds_until_hanging(dog, clock) == pytest.approx(MINIMUM + watchdog.GRACE, abs=3)


def test_a_process_waits_as_long_as_another_one_is_within_its_limit(clock):
    counter = Counter()
    waiting, writing = Watchdog(counter, None), Watchdog(counter, None)
    for dog in (waiting, writing):
        dog.beat("training")
        dog.beat("training")
    writing.beat("checkpoint")
    assert seconds_until_hanging(waiting, clock, [writing]) == pytest.approx(UNMEASURED + watchdog.GRACE, abs=3)


def test_beats_have_no_effect_without_a_watchdog():
    beat()
    beat("checkpoint")
