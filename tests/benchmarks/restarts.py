"""How long it takes until a training on two machines goes on: `python tests/benchmarks/restarts.py [--times 3]`.

The machines are two folders on this computer (tests/kill/two_machines.py), the model is tiny. Seconds since a training
process was killed or stopped (SIGSTOP), or `tunesmith worker` was killed, until

noticed     all processes of the attempt have ended
started     the next ones have started on both machines
continues   they have read the last checkpoint
step        the next checkpoint is written, after at least one step (at most one checkpoint per 0.5 s)
processor   processor time of the slower process up to then: what the last two stages take on an idle machine
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

sys.path.append(str(Path(__file__).parents[1] / "kill"))  # the folder is not a package

from kill_ground import make_ground
from two_machines import Training, bucket, free_port, recipe_of

EVENTS = {
    "rank killed": (signal.SIGKILL, lambda training: training.second.ranks()[0].pid),
    "worker killed": (signal.SIGKILL, lambda training: training.second.process.pid),
    "rank stopped": (signal.SIGSTOP, lambda training: training.second.ranks()[0].pid),
}
PATIENCE = 300


def ranks(training: Training) -> list[psutil.Process]:
    """All training processes, of which there is one on each machine."""
    return [*training.first.ranks(), *training.second.ranks()]


def attempts(training: Training) -> int:
    """How many attempts have continued from a checkpoint."""
    return (training.first.folder / "log").read_text().count("continues from step")


def until(condition: Callable[[], Any], began: float) -> float:
    """Wait for something; the seconds since it began."""
    while not condition():
        if time.monotonic() - began > PATIENCE:
            raise TimeoutError("the training does not go on")
        time.sleep(0.05)
    return time.monotonic() - began


def measure(training: Training, event: str) -> dict[str, float]:
    """Disturb a training, and return the seconds until each stage."""
    number, find = EVENTS[event]
    old, before = ranks(training), attempts(training)
    os.kill(find(training), number)
    began = time.monotonic()
    seconds = {"noticed": until(lambda: not any(is_running(rank) for rank in old), began)}
    seconds["started"] = until(lambda: len(ranks(training)) == 2, began)
    seconds["continues"] = until(lambda: attempts(training) > before, began)
    step = training.step()
    seconds["step"] = until(lambda: training.step() > step, began)
    seconds["processor"] = max(sum(rank.cpu_times()[:2]) for rank in ranks(training))
    return seconds


def is_running(process: psutil.Process) -> bool:
    """Whether a process has not ended; one that only waits for its parent has."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def main() -> None:
    """Print a line for each event."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3, help="how often each event happens")
    options = argparse.Namespace(**vars(parser.parse_args()), epochs=2_000, sharding="none")
    with tempfile.TemporaryDirectory() as name, bucket() as store:
        folder = Path(name)
        own = {"store": f"{store}/one", "rendezvous": f"127.0.0.1:{free_port()}", "tracking_uri": f"sqlite:///{name}/m"}
        ground = make_ground(folder / "ground")
        training = Training(recipe_of(ground, options, own), folder / "machines")
        try:
            if not training.wait_for(5):
                sys.exit(training.log())
            for event in [*EVENTS] * options.times:
                time.sleep(random.uniform(3, 5))
                seconds = measure(training, event)
                figures = ", ".join(f"{stage} {value:.1f}" for stage, value in seconds.items())
                print(f"{event}: {figures} (load {os.getloadavg()[0]:.0f})", flush=True)
        except TimeoutError:
            sys.exit(training.log())
        finally:
            training.close()


if __name__ == "__main__":
    main()
