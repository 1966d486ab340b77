"""Kill first runs in empty folders, all over their time: `python tests/kill/first_run.py --points 300`.

Each point is a folder of its own, with its own home: the runs in it are killed, and the same command must then end well
without anyone repairing anything, with the same bytes in the store as an undisturbed run and each thing in MLflow once.
So MLflow's database, the store, the database of Prefect's embedded server, the logging of the model and the receipt are
all killed while they are made. Every second point is killed with all its child processes, as by a machine that loses
its power.

Most commands are forks of this process, which has imported everything (`forked_command.py` says what that leaves out),
and figures are not drawn. A share of the points starts new programs, so that imports are killed, too.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

os.environ |= {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}  # before anything is imported that starts threads

import psutil
from after_kill import phase_of, said, wrong
from forked_command import Forked, fork_command, import_everything
from kill_ground import document, make_ground
from kill_harness import digests

LIMIT = 900
"""Seconds for one run on a busy machine."""
HEAD_START = 1.0
"""Most seconds between the starts of two commands at once."""


class Kind(NamedTuple):
    """How commands are started and killed; `share` of all points are of this kind."""

    share: float
    options: tuple[str, ...] = ()
    runs: int = 1
    processes: int = 1
    forked: bool = True


KINDS = {
    "plain": Kind(0.67, ("--plain",)),
    "two runs at once": Kind(0.20, ("--plain",), runs=2),
    "with Prefect": Kind(0.05),
    "two runs with Prefect": Kind(0.01, runs=2),
    "two training processes": Kind(0.03, ("--plain",), processes=2),
    "plain, not forked": Kind(0.03, ("--plain",), forked=False),
    "with Prefect, not forked": Kind(0.01, forked=False),
}


def main() -> int:
    """1 where a run did not end well after a kill."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=300, help="how many folders are used")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--kind", choices=KINDS, help="one kind; all without it")
    given = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="tunesmith-first-"))
    began, tried, failed = time.perf_counter(), Counter[str](), Counter[str]()
    import_everything()
    ground = make_ground(place / "ground")
    harness = Harness(place, ground)
    for index, (name, moment, everything) in enumerate(points(given.points, given.seed, given.kind)):
        phase, problem = harness.killed_once(index, name, moment, everything)
        tried[phase] += 1
        if problem:
            failed[phase] += 1
            print(f"FAILED: {name}, killed at {moment:.3f} of its time, in {phase}: {problem}", flush=True)
        if index % 10 == 9:
            print(f"{index + 1} points, {failed.total()} failures, {time.perf_counter() - began:.0f} s", flush=True)
    print("\n| killed in | points | needed repair |\n| --- | --- | --- |")
    for phase, number in sorted(tried.items()):
        print(f"| {phase} | {number} | {failed[phase]} |")
    print(f"\n{tried.total()} points, {failed.total()} failures, {time.perf_counter() - began:.0f} s")
    shutil.rmtree(place, ignore_errors=True)
    return min(failed.total(), 1)


def points(wanted: int, seed: int, only: str | None) -> list[tuple[str, float, bool]]:
    """Kinds, moments as shares of an undisturbed run, and whether all children are killed, too; in random order."""
    draw, found = random.Random(seed), []
    for name, kind in KINDS.items():
        count = (wanted if name == only else 0) if only else max(1, round(wanted * kind.share))
        found += [(name, (index + draw.random()) / count, index % 2 == 0) for index in range(count)]
    draw.shuffle(found)
    return found


class Harness:
    """Starts, kills and judges commands in folders below `place`."""

    def __init__(self, place: Path, ground: Path):
        self.place, self.ground = place, ground
        self.lasts: dict[Kind, float] = {}
        self.expected: dict[Kind, dict[str, str]] = {}
        """Digests of all files that an undisturbed run of a kind publishes: new programs draw figures, forks do not."""

    def killed_once(self, index: int, name: str, moment: float, everything: bool) -> tuple[str, str | None]:
        """Kill first runs in a new folder and run the same command again; the phase of the kill, and what is wrong."""
        kind, folder = KINDS[name], self.place / f"point-{index}"
        after = moment * self.undisturbed(kind)
        runs = [self.start(kind, folder)]
        began = time.monotonic()
        if kind.runs == 2:
            time.sleep(min(HEAD_START * (index % 5) / 4, after))
            runs.append(self.start(kind, folder))
        victims = runs[index % 3 : index % 3 + 1] if kind.runs == 2 else runs  # the first one, the second one, or both
        time.sleep(max(0.0, after - (time.monotonic() - began)))
        late = all(run.poll() is not None for run in runs)
        for run in victims or runs:
            kill(run, everything)
        phase = "it had ended" if late else phase_of(folder)
        problem = self.ended_well(runs, folder, killed=True) or self.ended_well([self.start(kind, folder)], folder)
        problem = problem or wrong(folder) or self.other_bytes(kind, folder)
        if problem:
            shutil.copytree(folder, f"/tmp/tunesmith-failed-{os.getpid()}-{index}", dirs_exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        return phase, problem

    def undisturbed(self, kind: Kind) -> float:
        """How long a first run of a kind takes."""
        if kind not in self.lasts:
            folder, began = self.place / f"undisturbed-{len(self.lasts)}", time.monotonic()
            if problem := self.ended_well([self.start(kind, folder)], folder):
                raise RuntimeError(f"without a kill: {problem}")
            self.lasts[kind] = time.monotonic() - began
            self.expected[kind] = digests(folder / "artifacts")
        return self.lasts[kind]

    def start(self, kind: Kind, folder: Path) -> "Forked | subprocess.Popen[bytes]":
        """The command, in a folder that is empty but for the recipe."""
        folder.mkdir(exist_ok=True)
        recipe: dict[str, Any] = document("no_checkpoint", self.ground, folder / "artifacts")
        del recipe["execution"]["store"]
        recipe["execution"]["processes"] = kind.processes
        (folder / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))
        }
        env, arguments = environment | {"HOME": str(folder), "COLUMNS": "200"}, ["run", "recipe.yaml", *kind.options]
        if kind.forked:
            return fork_command(folder, arguments, env)
        command = [sys.executable, "-c", "from pipeline_lib.cli.main import app; app()", *arguments]
        with (folder / "said").open("ab") as out:
            return subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=out, stdin=subprocess.DEVNULL)

    def ended_well(
        self, runs: "list[Forked | subprocess.Popen[bytes]]", folder: Path, killed: bool = False
    ) -> str | None:
        """Wait for runs; what is wrong with how those ended that nobody killed."""
        for run in runs:
            try:
                code = run.wait(LIMIT)
            except subprocess.TimeoutExpired:
                kill(run, True)
                return f"did not end within {LIMIT} s: {said(folder)}"
            if code and not (killed and code == -signal.SIGKILL):
                return f"exit code {code}: {said(folder)}"
        _, traceback, rest = said(folder, 10**6).partition("Traceback")
        return f"{traceback}{rest[:3000]}" if traceback else None

    def other_bytes(self, kind: Kind, folder: Path) -> str | None:
        """What the store does not hold as after an undisturbed run."""
        found, expected = digests(folder / "artifacts"), self.expected[kind]
        differ = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        return f"differ from an undisturbed run: {differ[:5]}" if differ else None


def kill(run: "Forked | subprocess.Popen[bytes]", everything: bool) -> None:
    """SIGKILL for a command, and for its children where `everything` is to go."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(run.pid)
        children = process.children(recursive=True)
        for process_ in [process, *(children if everything else ())]:
            with suppress(psutil.NoSuchProcess):
                process_.send_signal(signal.SIGKILL)
        run.wait()
        psutil.wait_procs(children, timeout=30)  # the embedded server ends with its parent


if __name__ == "__main__":
    sys.exit(main())
