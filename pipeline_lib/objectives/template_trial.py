"""Try a chat template in a child process before it is used: it is a program out of a model's folder.

Jinja's sandbox keeps a template from files and from Python's objects, but not from loops that never end or from texts
that fill the memory. A child with limits shows both, and dies alone.
"""

import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

SECONDS = 10
"""Processor time for one dialogue, which normally takes a fraction of a millisecond."""
WALL_SECONDS = 120.0
"""The same by the clock, for a machine that is busy."""
BYTES = 2**30
"""Memory for one dialogue, besides what the process has already."""
TOO_MUCH = f"the chat template takes more than {SECONDS} s or {BYTES / 2**30:.0f} GB for a dialogue"
NO_MEMORY = 3
"""Exit code of a child whose memory did not suffice."""
_problems: dict[str, str | None] = {}
_lock = threading.Lock()


def refuse_endless(template: str, render: Callable[[], object]) -> None:
    """Try a template when this process uses it for the first time.

    Args:
        template: The template, or all templates of the tokenizer.
        render: Renders a dialogue with it; errors of the template itself are ignored here.

    Raises:
        ValueError: The template takes too much time or memory.
    """
    with _lock:
        if template not in _problems:
            _problems[template] = TOO_MUCH if _takes_too_much(render) else None
    if problem := _problems[template]:
        raise ValueError(problem)


def _takes_too_much(render: Callable[[], object]) -> bool:
    child = os.fork()
    if child == 0:
        _render_and_exit(render)
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


def _render_and_exit(render: Callable[[], object]) -> NoReturn:
    code = 0
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # a fault handler would print the stack of a child that crashes
        with suppress(OSError, ValueError):  # a limit that this system does not have
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
            most = pages * resource.getpagesize() + BYTES
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        render()
    except MemoryError:
        code = NO_MEMORY
    except Exception:  # the template's own error, which the caller meets again
        code = 0
    finally:
        os._exit(code)
