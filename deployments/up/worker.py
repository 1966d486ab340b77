"""Prefect's worker in a container: when it is stopped, its trainings first leave a checkpoint.

`docker stop` sends SIGTERM to the worker alone, which ends at once, and its runs are killed with the container.
`python -m deployments.up.worker OPTION...` starts `prefect worker start OPTION...`, and on SIGTERM stops the
runs before the worker, so that it can report how they ended. That takes up to 48 seconds (`stop_grace_period`).
"""

import subprocess
import sys
from collections.abc import Sequence

from deployments.up.processes import stop_family
from pipeline_lib.util.signals import exit_on_sigterm


def work(command: Sequence[str]) -> int:
    """Run a worker's command until it ends or this process is asked to stop; return its exit code."""
    with exit_on_sigterm():
        process = subprocess.Popen(command, start_new_session=True)
        try:
            return process.wait()
        finally:
            stop_family(process)


if __name__ == "__main__":
    sys.exit(work([sys.executable, "-m", "prefect", "worker", "start", *sys.argv[1:]]))
