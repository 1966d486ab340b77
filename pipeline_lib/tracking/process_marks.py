"""Which process is at work on a run, and whether it still exists, whatever happens to the machine's clock.

A number alone does not name a process: it is given to another one later. The time when a process began does not help
either where it is derived from the clock, as psutil does on Linux: setting the clock changes it for a process that
lives. So a mark has the number, the kernel's own count of ticks from its boot to the beginning of the process, the id
of that boot and the PID namespace (a container has one of its own, with the same numbers again). A process is only
called gone by one of the same boot and namespace; for all others nobody here can know.
"""

import os
import platform
import sys
import uuid
from pathlib import Path

UNKNOWN = "unknown"
"""A place whose processes are never judged."""
ENDED = ("Z", "X")
"""States of a process that has ended and that its parent has not asked about yet."""


def own_mark() -> str:
    """Return the mark of this process."""
    return f"{os.getpid()} {_ticks(os.getpid()) or '-'} {place()}"


def exists(mark: str) -> bool | None:
    """Return whether the process of a mark still exists; None where that cannot be known from here."""
    number, _, rest = mark.partition(" ")
    ticks, _, container = rest.partition(" ")
    if not number.isdigit() or container != place() or container == UNKNOWN:
        return None
    if sys.platform != "linux":
        import psutil

        return bool(psutil.pid_exists(int(number)))  # another one may have its number: then the run is left alone
    found = _ticks(int(number))
    if found is None:  # gone, or /proc does not show the processes of other accounts
        return _takes_signals(int(number))
    return found == ticks


def place() -> str:
    """Return where this process can judge others: this boot of this machine, and this PID namespace."""
    if sys.platform != "linux":
        return f"{platform.system()} {uuid.getnode():x}"
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.readlink("/proc/self/ns/pid").partition("[")[2].rstrip("]")  # pid:[4026531836]
        own = os.readlink("/proc/self")
    except OSError:
        return UNKNOWN
    return f"{boot} {namespace}" if own == str(os.getpid()) else UNKNOWN  # else /proc is that of another namespace


def same_kernel(mark: str) -> bool:
    """Return whether a mark is of this boot of this machine, in whatever container."""
    parts = mark.split()
    here = place().split()
    return len(parts) == 4 and len(here) == 2 and sys.platform == "linux" and parts[2] == here[0]


def _ticks(number: int) -> str | None:
    """The ticks from the kernel's boot to the beginning of a process; None where there is none, or one that ended."""
    try:
        stat = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # behind the command's name, which can hold blanks and brackets
    return None if fields[0] in ENDED else fields[19]  # fields 3 and 22 of proc_pid_stat(5)


def _takes_signals(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not Path(f"/proc/{number}/stat").exists()  # a zombie takes signals, too, and /proc shows it
