"""Child processes that are all gone when `up` is: asked to stop, made to stop, or left alone by a killed parent."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

GRACE = 40
"""Seconds that a child has to end by itself: a training leaves a checkpoint at its step's end."""
PR_SET_PDEATHSIG = 1


@dataclass
class Child:
    """A started command and the file that takes what it says."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def stop(self) -> None:
        """SIGTERM to the command, which ends what it has started; what is left of them after `GRACE` is killed."""
        family = _family(self.process.pid)
        with suppress(ProcessLookupError):
            self.process.terminate()
        _, left = psutil.wait_procs(family, timeout=GRACE)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()

    @property
    def ended(self) -> bool:
        """Whether it is gone, which none of them should be before `up` is."""
        return self.process.poll() is not None

    def last_words(self) -> str:
        """The end of what it said."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])


def start(name: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> Child:
    """Start `python -m ...` in a session of its own, so that the terminal's Ctrl-C reaches `up` alone."""
    log = folder / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
    return Child(name, process, log)


def _end_with_parent() -> None:
    """Linux sends SIGTERM to this process when its parent is gone, even by SIGKILL (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _family(pid: int) -> list[psutil.Process]:
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
