"""What a command says while Prefect's server starts. `pytest tests/cli/test_console.py`."""

import logging

import pytest

from pipeline_lib.cli import console


class Server:
    """Answers at the `calls`-th question."""

    def __init__(self, calls):
        self.left = calls

    def answers(self):
        self.left -= 1
        return self.left < 0

    def hand_over(self):
        pass


@pytest.mark.parametrize(
    ("calls", "lines"),
    [(3, ["starting its server", "s for its server", "server is ready"]), (0, [])],
    ids=["starts", "answers already"],
)
def test_a_command_says_what_it_waits_for(calls, lines, monkeypatch, caplog):
    monkeypatch.setattr(console, "WAITING_EVERY", 0.0)
    monkeypatch.setattr(console, "HEAVY", ("json",))
    monkeypatch.setattr(
        console, "_load_entry_point", lambda name: (lambda: Server(calls)) if name == "embedded" else name
    )
    monkeypatch.setattr("pipeline_lib.preflight.prefect_api.refuse_silent_prefect", lambda: None)
    monkeypatch.setattr(console.os, "environ", dict(console.os.environ))
    with caplog.at_level(logging.INFO, "tunesmith"):
        assert console.load_flow("prefect") == "prefect"
    assert len(caplog.messages) == len(lines)
    assert all(line in message for line, message in zip(lines, caplog.messages))
