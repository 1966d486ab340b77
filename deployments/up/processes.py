"""Child processes that never outlive `up`: it stops them, and if it is killed, the kernel does."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil

from pipeline_lib.util.signals import end_with_parent

RUNS, ITSELF = 40, 8
"""Seconds that a command's children, and then the command, have to exit; Prefect's worker may hang on exit."""
YOUNG = 30
"""A process that exits within this many seconds after its start is not restarted."""


def stop_family(process: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM to a command's children, then to the command: a worker waits for its runs and reports their end.

    A training saves a checkpoint after its current step. Processes that do not exit in time are killed.
    """
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(process.pid)
        family, runs = first.children(recursive=True), first.children()
        for group, grace in ((runs, RUNS), ([first], ITSELF)):
            for member in group:
                with suppress(psutil.NoSuchProcess):
                    member.terminate()
            psutil.wait_procs(group, timeout=grace)
        for member in (*family, first):
            with suppress(psutil.NoSuchProcess):
                member.kill()
    process.wait()


class Child:
    """A command that runs until it is stopped, and its log file."""

    death_signal = signal.SIGTERM
    """What Linux sends it when `up` is killed."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path):
        self.name, self.arguments, self.log = name, arguments, log
        self.environment = {**os.environ, **environment}
        self.start()

    def command(self) -> list[str]:
        """What is started: `python -m ...`."""
        return [sys.executable, "-m", *self.arguments]

    def start(self) -> None:
        """Start it in its own session, so that Ctrl-C in the terminal only reaches `up`."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.began = time.monotonic()
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command(),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=partial(end_with_parent, self.death_signal),
            )

    def restart(self) -> None:
        """Start it again, after stopping child processes that it left behind, which may use its port."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        self.start()

    def stop(self) -> None:
        """Stop it with all that it has started."""
        stop_family(self.process)

    @property
    def has_ended(self) -> bool:
        """Whether it is gone, which it should not be before it is stopped."""
        return self.process.poll() is not None

    @property
    def is_young(self) -> bool:
        """Whether it was started only recently."""
        return time.monotonic() - self.began < YOUNG

    def last_log_lines(self) -> str:
        """Return the last lines of its log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])
