"""How many cores a process may use: threads that wait for one another make nothing of a core that another holds."""

import os

THREADS = ("RAYON_NUM_THREADS", "OMP_NUM_THREADS")
"""Read by tokenizers, and by torch when it is imported."""


def usable() -> int:
    """Cores of this machine, as far as affinity and a container's quota let this process use them."""
    from joblib import cpu_count

    return int(cpu_count())


def share(processes: int) -> dict[str, str]:
    """The environment that gives one of several processes its share of the cores; a user's own choice comes first."""
    threads = str(max(1, usable() // processes))
    return {name: os.environ.get(name, threads) for name in THREADS}
