"""Try in a child process what a model's folder makes a process compute: its chat template and its tokenizer.

Neither can reach files or Python's objects, but both can loop for hours or fill the memory. A child with limits shows
it, and dies alone.
"""

import os
import resource
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

SECONDS = 5
"""Processor time for one text, which normally takes a fraction of a millisecond."""
WALL_SECONDS = 120.0
"""The same by the clock, for a machine that is busy."""
BYTES = 2**30
"""Memory for one text, besides what the process has already."""
LIMITS = f"takes more than {SECONDS} s or {BYTES / 2**30:.0f} GB"
NO_MEMORY = 3
"""Exit code of a child whose memory did not suffice."""


def takes_too_much(work: Callable[[], object]) -> bool:
    """Return whether a computation takes too much time or memory, or ends its process; its own errors are ignored."""
    child = os.fork()
    if child == 0:
        _work_and_exit(work)
    pause, ends = 0.001, time.monotonic() + WALL_SECONDS
    while True:
        try:
            ended, status = os.waitpid(child, os.WNOHANG)
        except ChildProcessError:  # somebody else waited for it
            return False
        if ended:
            return status != 0
        if time.monotonic() > ends:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return True
        time.sleep(pause)
        pause = min(2 * pause, 0.1)


def _work_and_exit(work: Callable[[], object]) -> NoReturn:
    code = 0
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # a fault handler would print the stack of a child that crashes
        with suppress(OSError, ValueError):  # a limit that this system does not have
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
            most = pages * resource.getpagesize() + BYTES
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        work()
    except MemoryError:
        code = NO_MEMORY
    except Exception:  # its own error, which the caller meets again
        code = 0
    finally:
        os._exit(code)
