"""Count the CPU cores a process may use and divide them between processes."""

import os

THREADS = ("RAYON_NUM_THREADS", "OMP_NUM_THREADS")
"""Environment variables read by tokenizers (RAYON) and, on import, by torch (OMP)."""


def usable() -> int:
    """Return the number of cores this process may use, given its affinity and the container's quota.

    Of the packages that are installed anyway, only joblib reads the quota; os, psutil, torch and pyarrow do not.
    """
    from joblib import cpu_count

    return int(cpu_count())


def thread_limits(processes: int) -> dict[str, str]:
    """Return environment variables that give each of several processes its share of the cores.

    Variables that the user has set keep their values.
    """
    threads = str(max(1, usable() // processes))
    return {name: os.environ.get(name, threads) for name in THREADS}
