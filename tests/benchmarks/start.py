"""CPU seconds from the command to the first step of a training, beside those of importing the model's class.

    python tests/benchmarks/start.py [--turns 3]

Runs deployments/recipes/demo.yaml in an empty store, as plain calls and with Prefect's embedded server, whose tables
are made before. Sides take turns. Seconds on the processor are compared, as other programs may be running.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "deployments" / "recipes" / "demo.yaml"
IMPORTS = "import gc; gc.set_threshold(10_000); import torch; from transformers import BertForSequenceClassification"


def main() -> None:
    """Measure in turns and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    sides: dict[str, Callable[[Path], float]] = {
        "imports": lambda home: import_seconds(),
        "plain": lambda home: start_seconds(home, "--plain"),
        "Prefect": start_seconds,
    }
    with tempfile.TemporaryDirectory() as home:
        start_seconds(Path(home))  # makes Prefect's tables, and reads all files once
        turns = [{name: measure(Path(home)) for name, measure in sides.items()} for _ in range(given.turns)]
    print("| side | CPU seconds | of the imports |\n| --- | --- | --- |")
    base = statistics.median(turn["imports"] for turn in turns)
    for name in sides:
        seconds = statistics.median(turn[name] for turn in turns)
        print(f"| {name} | {seconds:.1f} | {seconds / base:.2f} |")


def import_seconds() -> float:
    """CPU seconds of importing torch and the class of the demo's model."""
    code = f"{IMPORTS}\nimport time; print(time.process_time())"
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def start_seconds(home: Path, *options: str) -> float:
    """CPU seconds of a run until it logs that its training has started; the server's own are not counted."""
    with tempfile.TemporaryDirectory() as folder:
        places = [f"execution.store={folder}/store", f"execution.tracking_uri=sqlite:///{folder}/mlflow.db"]
        run = "from pipeline_lib.cli.main import app; app()"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        process = psutil.Popen(
            [sys.executable, "-c", run, "run", str(RECIPE), *places, *options],
            cwd=ROOT, env=environment | {"PREFECT_HOME": str(home)}, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        for line in process.stderr:
            if "started:" in line:
                break
        used = process.cpu_times()
        process.terminate()
        process.communicate()
    return used.user + used.system


if __name__ == "__main__":
    main()
