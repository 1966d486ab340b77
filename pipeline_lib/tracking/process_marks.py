"""Identify the process of a run and detect whether it still exists, even if the machine's clock changes.

A PID alone is not enough, since the kernel reuses PIDs. The start time does not help if it is derived from the clock,
as in psutil on Linux: setting the clock changes it for running processes. A mark therefore has the PID, the kernel's
count of ticks from boot to the start of the process, the id of that boot, and the PID namespace (each container has its
own, with the same PIDs). Only a process of the same boot and namespace can tell whether another one is gone; otherwise
the answer is unknown.
"""

import os
import platform
import sys
import uuid
from pathlib import Path

UNKNOWN = "unknown"
"""A place for whose processes the answer is always unknown."""
ENDED = ("Z", "X")
"""States of a process that has ended but has not been reaped by its parent."""


def own_mark() -> str:
    """Return the mark of this process."""
    return f"{os.getpid()} {_ticks(os.getpid()) or '-'} {place()}"


def exists(mark: str) -> bool | None:
    """Return whether the process of a mark still exists; None if this process cannot tell."""
    number, _, rest = mark.partition(" ")
    ticks, _, container = rest.partition(" ")
    if not number.isdigit() or container != place() or container == UNKNOWN:
        return None
    if sys.platform != "linux":
        import psutil

        return bool(
            psutil.pid_exists(int(number))
        )  # another process may have the same PID: then the run stays unchanged
    found = _ticks(int(number))
    if found is None:  # gone, or /proc does not show the processes of other accounts
        return _takes_signals(int(number))
    return found == ticks


def place() -> str:
    """Return the boot of this machine and the PID namespace, within which processes can be identified."""
    if sys.platform != "linux":
        return f"{platform.system()} {uuid.getnode():x}"
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.readlink("/proc/self/ns/pid").partition("[")[2].rstrip("]")  # pid:[4026531836]
        own = os.readlink("/proc/self")
    except OSError:
        return UNKNOWN
    return f"{boot} {namespace}" if own == str(os.getpid()) else UNKNOWN  # otherwise /proc belongs to another namespace


def same_kernel(mark: str) -> bool:
    """Return whether a mark is from this boot of this machine, possibly from another container."""
    parts = mark.split()
    here = place().split()
    return len(parts) == 4 and len(here) == 2 and sys.platform == "linux" and parts[2] == here[0]


def _ticks(number: int) -> str | None:
    """Return the ticks from boot to the start of a process; None if it does not exist or has ended."""
    try:
        stat = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # after the command's name, which can contain spaces and parentheses
    return None if fields[0] in ENDED else fields[19]  # fields 3 and 22 of proc_pid_stat(5)


def _takes_signals(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not Path(f"/proc/{number}/stat").exists()  # zombies accept signals too, but are listed in /proc
