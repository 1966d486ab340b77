"""What a command says while Prefect's server starts. `pytest tests/test_console.py`."""

import logging

from pipeline_lib import console


class Server:
    """Answers at the `calls`-th question."""

    def __init__(self, calls):
        self.left = calls

    def answers(self):
        self.left -= 1
        return self.left < 0


def test_a_command_says_what_it_waits_for_and_when_it_is_ready(monkeypatch, caplog):
    monkeypatch.setattr(console, "WAITING_EVERY", 0.0)
    monkeypatch.setattr(console, "HEAVY", ("json",))
    with caplog.at_level(logging.INFO, "tunesmith"):
        console._import_while_it_starts(Server(3))
    first, waiting, last = caplog.messages
    assert "starting its server" in first and "waiting for its server" in waiting and "ready after" in last


def test_where_a_server_answers_already_nothing_is_said(caplog):
    with caplog.at_level(logging.INFO, "tunesmith"):
        console._import_while_it_starts(Server(0))
    assert caplog.messages == []
