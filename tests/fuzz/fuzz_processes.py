"""Try inputs in child processes, so that a crash or a hang of one is seen and the others are tried all the same."""

import json
import logging
import os
import resource
import select
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, NoReturn, TypeVar

from pipeline_lib.errors import RecipeError, error_text

BATCH = 100
"""Inputs that a child tries, unless it ends earlier."""
LIMIT = 60.0
"""Seconds of the clock until an input counts as one that hangs."""
SECONDS = 10.0
"""Seconds of the processor that an input may take."""
MEMORY = 12 * 2**30
"""Bytes of address space for a child: what asks for more gets an error, and the machine keeps its memory."""

Input = TypeVar("Input")
Attempt = Callable[[Input], None]
"""Tries an input; returns where it is taken, and raises RecipeError where it is refused."""


def try_all(inputs: Sequence[Input], attempt: Attempt[Input], name: Callable[[Input], str]) -> Counter[str]:
    """Try inputs in forked children; prints each fault, and counts how they ended: taken, refused or fault."""
    counts: Counter[str] = Counter()
    begin = 0
    while begin < len(inputs):
        done = 0
        for ended, problem in _answers(inputs[begin : begin + BATCH], attempt):
            counts[ended] += 1
            if problem:
                print(f"FAULT at {name(inputs[begin + done])}\n{problem[-1_500:]}", flush=True)
            done += 1
        begin += done
    return counts


def _answers(inputs: Sequence[Input], attempt: Attempt[Input]) -> list[tuple[str, str | None]]:
    """How the inputs ended, up to the first one that ends its process or hangs."""
    sys.stdout.flush()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        _try_each(inputs, attempt, os.fdopen(write, "w", encoding="utf-8"))
    os.close(write)
    answers: list[tuple[str, str | None]] = []
    with os.fdopen(read, encoding="utf-8") as lines:
        while len(answers) < len(inputs):
            if not select.select([lines], [], [], LIMIT)[0]:
                os.kill(child, signal.SIGKILL)
                answers.append(("fault", f"it hangs: no answer within {LIMIT:.0f} s"))
                break
            if not (line := lines.readline()):
                answers.append(("fault", "it ended the process"))
                break
            answers.append(tuple(json.loads(line)))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if answers[-1][1] == "it ended the process":
        answers[-1] = ("fault", f"it ended the process with {status}")
    return answers


def _try_each(inputs: Sequence[Input], attempt: Attempt[Input], answers: IO[str]) -> NoReturn:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable()  # what is said of each input is not asked for
    with suppress(BaseException):
        for given in inputs:
            answers.write(json.dumps(_try(given, attempt)) + "\n")
            answers.flush()  # one line at a time: what `select` sees is a whole answer
    os._exit(0)


def _try(given: Input, attempt: Attempt[Input]) -> tuple[str, str | None]:
    began = _processor_seconds()
    try:
        attempt(given)
        ended = "taken"
    except RecipeError as error:
        ended = "refused"
        error_text(error).encode("utf-8")  # it must be possible to print it
    except BaseException:  # Rust's panics are no Exceptions
        return "fault", traceback.format_exc()
    seconds = _processor_seconds() - began
    return (ended, None) if seconds < SECONDS else ("fault", f"it took {seconds:.1f} s")


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
