"""Processes that train together on request, for tests that compare a sharded training with a single process's."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from contract import HIDING, READ_PADDING

HERE = Path(__file__).parents[1]


class Ranks:
    """Processes that train together on request, on machines of `of_machine` processes each."""

    def __init__(self, count: int, of_machine: int | None = None):
        self.count, self.of_machine, self.processes = count, of_machine or count, []

    def _start(self):
        count = self.count
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        together = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": self.of_machine}
        together |= {"MASTER_ADDR": "localhost", "MASTER_PORT": port}
        own = [{"RANK": rank, "LOCAL_RANK": rank} | together if count > 1 else {} for rank in range(count)]
        environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(HERE)}
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "tests.sharded_rank"],
                cwd=HERE,
                env=environment | {name: str(value) for name, value in variables.items()},
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            for variables in own
        ]

    def train(self, base, objective, strategy, sharding="full", changes=None, dtype="auto"):
        """What each process answers."""
        request = {"base": str(base), "objective": objective, "strategy": strategy, "sharding": sharding}
        if not self.processes:
            self._start()
        line = json.dumps(request | {"changes": changes or {}, "dtype": dtype})
        for process in self.processes:
            print(line, file=process.stdin, flush=True)
        answers = []
        for process in self.processes:
            answer = next((line for line in process.stdout if line.startswith("ANSWER")), 'ANSWER {"error": "died"}')
            answers.append(json.loads(answer.removeprefix("ANSWER")))
        if any("error" in answer for answer in answers):
            self.close()
            raise AssertionError(str(answers))
        return answers

    def close(self):
        """End the processes."""
        for process in self.processes:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()
        self.processes = []


def compare(alone, several, *combination, sharding="full", rel=1e-6, **options):
    """The answers of several processes, if they are those of one; the one's if it is refused."""
    (one,) = alone.train(*combination, sharding="none", **options)
    if "refused" in one:
        return [one]
    answers = several.train(*combination, sharding=sharding, **options)
    base, objective, _ = combination
    # each process hides other tokens, and pads its rows to other widths
    if "refused" in answers[0] or objective in HIDING or base.name in READ_PADDING:
        return answers
    for answer in answers:
        for (loss, norm), (expected, expected_norm) in zip(answer["steps"], one["steps"], strict=True):
            assert loss == pytest.approx(expected, rel=rel), f"loss {loss} instead of {expected}"
            assert norm == pytest.approx(expected_norm, rel=100 * rel, abs=1e-6), f"norm {norm}, not {expected_norm}"
    saved, expected = answers[0]["loss"], one["loss"]
    assert saved == pytest.approx(expected, rel=10 * rel), f"the saved model's loss is {saved} instead of {expected}"
    return answers
