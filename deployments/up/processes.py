"""Child processes that are all gone when `up` is: stopped by it, or by the kernel where `up` was killed."""

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
"""Seconds that what a command has started, and then the command, has to end: Prefect's worker may hang at its end."""
YOUNG = 30
"""Who ends within so many seconds will not do better when it is started again."""


def stop_family(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to what a command has started, then to itself: a worker waits for its runs, and tells how they end.

    A training leaves a checkpoint at its step's end. What does not end in time is killed.
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
    """A command that runs until it is stopped, and the file that takes what it says."""

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
        """Start it in a session of its own, so that the terminal's Ctrl-C reaches `up` alone."""
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
        """Start it again, once what it has left behind is told to end: that may hold its port."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        self.start()

    def stop(self) -> None:
        """Stop it with all that it has started."""
        stop_family(self.process)

    @property
    def ended(self) -> bool:
        """Whether it is gone, which it should not be before it is stopped."""
        return self.process.poll() is not None

    @property
    def young(self) -> bool:
        """Whether it was started just now."""
        return time.monotonic() - self.began < YOUNG

    def last_words(self) -> str:
        """The end of what it said."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])
