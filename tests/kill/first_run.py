"""Kill first runs in empty folders, all over their time: `python tests/kill/first_run.py --points 100`.

Each point is a folder of its own, with its own home: a run in it is killed, and the same command must then end well
without anyone repairing anything. So MLflow's database, the store and the database of Prefect's embedded server are
all killed while they are created. Every second point uses `--plain`; of each kind, every second one is killed with all
its child processes, as by a machine that loses its power.
"""

import argparse
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path

import psutil
from kill_ground import document, make_ground

LIMIT = 600
"""Seconds for one run on a busy machine."""


def main() -> int:
    """1 where a run did not end well after a kill."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=100, help="how many runs are killed")
    points, failures = parser.parse_args().points, 0
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="tunesmith-first-") as place:
        ground = make_ground(Path(place) / "ground")
        lasts = {plain: undisturbed(ground, Path(place) / f"whole-{plain}", plain) for plain in (True, False)}
        print(f"undisturbed: {lasts[True]:.1f} s with --plain, {lasts[False]:.1f} s without", flush=True)
        for index in range(points):
            plain, everything = index % 2 == 0, index % 4 < 2
            after = lasts[plain] * (index + 0.5) / points
            folder = Path(place) / f"point-{index}"
            if problem := killed_once(ground, folder, plain, everything, after):
                failures += 1
                kind = "--plain" if plain else "with Prefect"
                whom = "with its children" if everything else "alone"
                print(f"killed {whom} after {after:.2f} s, {kind}: {problem}", flush=True)
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{points} points, {failures} failures, {time.perf_counter() - began:.0f} s")
    return min(failures, 1)


def undisturbed(ground: Path, folder: Path, plain: bool) -> float:
    """How long a first run takes."""
    run = start(ground, folder, plain)
    began = time.perf_counter()
    if code := run.wait(LIMIT):
        raise RuntimeError(f"exit code {code} without a kill: {said(folder)}")
    return time.perf_counter() - began


def killed_once(ground: Path, folder: Path, plain: bool, everything: bool, after: float) -> str | None:
    """Kill a first run after so many seconds and run the same command again; what is wrong with that."""
    run = start(ground, folder, plain)
    try:
        run.wait(after)
    except subprocess.TimeoutExpired:
        kill(run, everything)
    run = start(ground, folder, plain)
    try:
        code = run.wait(LIMIT)
    except subprocess.TimeoutExpired:
        kill(run, True)
        return f"did not end within {LIMIT} s: {said(folder)}"
    if code or "Traceback" in said(folder):
        return f"exit code {code}: {said(folder)}"
    return wrong_in_mlflow(folder)


def start(ground: Path, folder: Path, plain: bool) -> subprocess.Popen[bytes]:
    """The command, in a folder that is empty but for the recipe."""
    folder.mkdir(exist_ok=True)
    recipe = document("no_checkpoint", ground, folder / "artifacts")
    del recipe["execution"]["store"]
    (folder / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    env = kept | {"HOME": str(folder), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    command = [sys.executable, "-c", "from pipeline_lib.cli import app; app()", "run", "recipe.yaml"]
    options = ["--plain"] if plain else []
    with (folder / "said").open("wb") as out:
        return subprocess.Popen(
            [*command, *options], cwd=folder, env=env, stdout=out, stderr=out, stdin=subprocess.DEVNULL
        )


def kill(run: subprocess.Popen[bytes], everything: bool) -> None:
    """SIGKILL for a command, and for its children where `everything` is to go."""
    process = psutil.Process(run.pid)
    children = process.children(recursive=True)
    for each in [process, *(children if everything else ())]:
        with suppress(psutil.NoSuchProcess):
            each.send_signal(signal.SIGKILL)
    run.wait()
    psutil.wait_procs(children, timeout=30)  # the embedded server ends with its parent


def said(folder: Path) -> str:
    """The end of what the command printed."""
    return " ".join((folder / "said").read_text(encoding="utf-8", errors="replace").split())[-400:]


def wrong_in_mlflow(folder: Path) -> str | None:
    """What MLflow does not hold as after an undisturbed run."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        statuses = [*database.execute("SELECT status, lifecycle_stage FROM runs")]
        models = database.execute("SELECT count(*) FROM logged_models").fetchone()[0]
        grouped = "SELECT key, step, count(*) FROM metrics GROUP BY run_uuid, key, step HAVING count(*) > 1"
        twice = database.execute(grouped).fetchall()
    if statuses != [("FINISHED", "active")] * 3 or models != 1 or twice:
        return f"runs {statuses}, {models} logged models, logged more than once: {twice[:5]}"
    return None


if __name__ == "__main__":
    sys.exit(main())
