"""What the processes report, as the launching run sees it. `pytest tests/training/distributed/test_forwarding.py`"""

import logging

import pytest

from pipeline_lib.training.distributed.forwarding import Forwarder
from pipeline_lib.training.distributed.messages import host_store, send


def records(*steps):
    return {"kind": "records", "records": [{"step": step} for step in steps], "steps": 9}


def warning(rank, line):
    return {"kind": "log", "rank": rank, "logger": "some.library", "level": logging.WARNING, "line": line}


def test_records_are_forwarded_once_although_a_restart_repeats_them():
    watched = []
    forwarder = Forwarder(lambda records, steps: watched.append([record["step"] for record in records]))
    messages = [
        {"kind": "attempt", "step": 0},
        records(),  # of a training that begins
        records(1),
        records(2, 3),
        {"kind": "attempt", "step": 1},
        records(1),
        records(2),
        records(3, 4),
    ]
    for message in messages:
        forwarder.take(message)
    assert watched == [[], [1], [2, 3], [4]]


def test_an_attempt_that_failed_before_it_began_is_logged(caplog):
    watched = []
    forwarder = Forwarder(lambda records, steps: watched.append(len(records)))
    killed = {"kind": "exit", "who": "training process 1", "code": -9}
    for message in [killed, {"kind": "attempt", "step": 0}, records(), records(1)]:
        forwarder.take(message)
    assert watched == [0, 1]
    (line,) = (record.getMessage() for record in caplog.records)
    assert line == "finetune    training process 1 was ended by SIGKILL: attempt 2 continues from step 0"


def test_each_warning_of_the_other_ranks_is_logged_once_with_its_rank(caplog):
    forwarder = Forwarder(lambda records, steps: None)
    for message in [
        warning(1, "of all"),
        warning(2, "of rank 2"),
        warning(0, "of all"),
        records(1),
        warning(2, "of rank 2"),
        warning(0, "of all"),
        records(2),
    ]:
        forwarder.take(message)
    assert [record.getMessage() for record in caplog.records] == [
        "of all",
        "training process 2: of rank 2",
        "of all",
    ]


def test_an_error_of_the_watch_ends_the_training():
    def watch(records, steps):
        raise OSError(28, "No space left on device")

    store = host_store("127.0.0.1", 0)
    forwarder = Forwarder(watch)
    with forwarder.forward_messages(store, f"127.0.0.1:{store.port}"):
        send(store, "records", records=[], steps=1)
    assert store.check(["tunesmith/given-up"])
    with pytest.raises(OSError, match="No space left"):
        raise forwarder.first_error()
