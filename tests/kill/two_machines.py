"""Kill processes of a training on two machines: `python tests/kill/two_machines.py --points 100 [--seed N]`.

Two agents on loopback with separate homes, caches and working folders, and a store in a bucket. At random moments a
training process of either machine, the second machine's `tunesmith worker` or the run itself gets SIGKILL; a supervisor
starts the worker again, and the run is started again by the same command. One line for each failure, then how many
kills, failures and seconds. The result of each training must have the bytes of one that nobody disturbed.
"""

import argparse
import json
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import psutil
from kill_ground import document, make_ground

ROOT = Path(__file__).parents[2]

KILLS_PER_RUN = 3
"""As many restarts as may follow each other without a new checkpoint."""
STEPS_PER_EPOCH = 5
MOST_FAILURES = 3
PATIENCE = 900
"""Seconds after which a run that was disturbed counts as hanging."""
RUN = """
import json, logging, sys
from pipeline_lib.pipeline import steps
from pipeline_lib.recipe.schema import check
from pipeline_lib.tracking.live_run import LiveRun
LiveRun._work = lambda self: None  # MLflow has tests of its own
logging.basicConfig(format="%(asctime)s %(message)s")
logging.getLogger("tunesmith").setLevel(logging.INFO)
recipe = check(json.loads(sys.argv[1]))
data = steps.prepare(recipe)
print(steps.finetune(recipe, data, steps.initialise(recipe, data)).digest)
"""
WORKER = "from pipeline_lib.cli.main import app; app()"


class Disturbed(Protocol):
    """A training on two machines whose processes can be killed."""

    def wait_for(self, step: int) -> bool:
        """Wait until both machines train and a checkpoint of this step was written; false if the run has ended."""

    def kill(self, kind: str) -> bool:
        """Kill a process of this kind; whether there was one."""

    def result(self) -> str:
        """Wait for the end of the run; its digest, or what went wrong."""

    def log(self) -> str:
        """The last lines of both machines."""

    def close(self) -> None:
        """End everything."""


class Machine:
    """A folder with a home and a cache, and a process that works there."""

    def __init__(self, folder: Path, command: list[str]):
        self.folder, self.command = folder, command
        folder.mkdir(parents=True)
        self.process = self.start()

    def start(self) -> subprocess.Popen[str]:
        """Start the process, again after it was killed."""
        own = {"HOME": str(self.folder), "TUNESMITH_CACHE": str(self.folder / "cache"), "PYTHONPATH": str(ROOT)}
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", *self.command],
                cwd=self.folder,
                env=os.environ | own | {"OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        return self.process

    def ranks(self) -> list[psutil.Process]:
        """The training processes that run here."""
        try:
            return psutil.Process(self.process.pid).children()
        except psutil.NoSuchProcess:
            return []


class Training:
    """A run on two machines that are two folders."""

    def __init__(self, recipe: dict[str, Any], folder: Path):
        endpoint = recipe["execution"]["rendezvous"]
        self.first = Machine(folder / "first", [RUN, json.dumps(recipe)])
        self.second = Machine(folder / "second", [WORKER, "worker", "--rendezvous", endpoint])
        self.ended = threading.Event()
        threading.Thread(target=self._supervise, daemon=True).start()

    def _supervise(self) -> None:
        """Start the worker again whenever it has ended, as systemd or Kubernetes would."""
        while not self.ended.wait(0.5):
            if self.second.process.poll() is not None:
                self.second.start()

    def wait_for(self, step: int) -> bool:
        while not (self.first.ranks() and self.second.ranks() and self.step() >= step):
            if self.first.process.poll() is not None:
                return False
            time.sleep(0.1)
        time.sleep(random.uniform(0, 1))
        return True

    def step(self) -> int:
        """The step of the last checkpoint."""
        checkpoints = self.first.folder.glob("cache/*/work/*/step-*")
        return max((int(checkpoint.name.split("-")[1]) for checkpoint in checkpoints), default=0)

    def kill(self, kind: str) -> bool:
        victims = {
            "rank of the first machine": self.first.ranks,
            "rank of the second machine": self.second.ranks,
            "worker": lambda: [self.second.process],
            "run": lambda: [self.first.process],
        }[kind]()
        if not victims or self.first.process.poll() is not None:
            return False
        os.kill(random.choice(victims).pid, signal.SIGKILL)
        if kind == "run":
            self.first.process.wait()
            self.first.start()
        return True

    def result(self) -> str:
        try:
            out, _ = self.first.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return "it hangs"
        if self.first.process.returncode:
            return self.log().splitlines()[-1]
        return out.strip()

    def log(self) -> str:
        return "".join((machine.folder / "log").read_text()[-3000:] for machine in (self.second, self.first))

    def close(self) -> None:
        self.ended.set()
        for machine in (self.first, self.second):
            machine.process.kill()
            machine.process.wait()


KINDS = ("rank of the first machine", "rank of the second machine", "worker", "run")


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def disturb(training: Disturbed, steps: int, kills: int, kinds: Sequence[str]) -> tuple[list[str], str]:
    """Kill processes at random steps of so many; who was killed when, and the result."""
    killed = list[str]()
    for step in sorted(random.choices(range(steps), k=kills)):
        kind = random.choice(kinds)
        if training.wait_for(step) and training.kill(kind):
            killed.append(f"{kind} after step {step}")
    return killed, training.result()


def kill_runs(begin: Callable[[str], Disturbed], points: int, steps: int, kinds: Sequence[str]) -> int:
    """Run one training undisturbed, and others with kills until there are enough; 1 if one was lost or differs.

    Args:
        begin: Starts a training of this name, which has a store of its own.
        points: How many kills there shall be.
        steps: Steps of a training.
        kinds: What may be killed.
    """
    began, counts, failures, runs = time.perf_counter(), Counter[str](), 0, 0
    undisturbed = begin("undisturbed")
    expected = undisturbed.result()
    undisturbed.close()
    print(f"undisturbed: {expected}", flush=True)
    while counts.total() < points and failures < MOST_FAILURES:
        runs += 1
        training = begin(f"run{runs}")
        killed, result = disturb(training, steps, min(KILLS_PER_RUN, points - counts.total()), kinds)
        counts.update(kill.partition(" after ")[0] for kill in killed)
        print(f"run {runs}: {', '.join(killed)}: {result}", flush=True)
        if result != expected:
            failures += 1
            print(training.log(), flush=True)
        training.close()
    summary = ", ".join(f"{count} of a {kind}" for kind, count in counts.items())
    print(f"{counts.total()} kills ({summary}), {failures} of {runs} runs failed, {time.perf_counter() - began:.0f} s")
    return min(failures, 1)


def parse_arguments(description: str | None, points: int, epochs: int) -> argparse.Namespace:
    """The command line, with these defaults."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--points", type=int, default=points, help="how many processes are killed")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments and processes")
    parser.add_argument("--sharding", default="none", help="`execution.sharding` of the trainings")
    parser.add_argument("--epochs", type=int, default=epochs, help="length of each training")
    return parser.parse_args()


def recipe_of(ground: Path, options: argparse.Namespace, execution: dict[str, Any]) -> dict[str, Any]:
    """The recipe of a training on two machines."""
    recipe = document("accumulation", ground, Path("store"))
    recipe["training"] |= {"epochs": options.epochs}
    recipe["execution"] |= {"precision": "fp32", "checkpoint_seconds": 0.5, "machines": 2, "sharding": options.sharding}
    recipe["execution"] |= execution
    return recipe


def main() -> int:
    """1 if a training was lost or has other bytes."""
    options = parse_arguments(__doc__, points=100, epochs=60)
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as name, bucket() as store:
        folder = Path(name)
        ground = make_ground(folder / "ground")

        def begin(name: str) -> Training:
            own = {"store": f"{store}/{name}", "rendezvous": f"127.0.0.1:{free_port()}"}
            own["tracking_uri"] = f"sqlite:///{folder}/mlflow"
            return Training(recipe_of(ground, options, own), folder / name)

        return kill_runs(begin, options.points, STEPS_PER_EPOCH * options.epochs, KINDS)


@contextmanager
def bucket() -> Iterator[str]:
    """A bucket on a server of its own: its URL."""
    import s3fs
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ.update(keys, AWS_ENDPOINT_URL="http://{}:{}".format(*server.get_host_and_port()))
    s3fs.S3FileSystem().mkdir("kills")
    yield "s3://kills"
    server.stop()


if __name__ == "__main__":
    sys.exit(main())
