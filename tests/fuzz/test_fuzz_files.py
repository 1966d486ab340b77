"""A small part of the fuzzing of data files and model folders; `make test-all` has more. `pytest tests/fuzz`."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.fuzz

HERE = Path(__file__).parent


@pytest.mark.parametrize(("script", "inputs"), [("data_files.py", 160), ("model_folders.py", 12)])
def test_no_file_ends_in_a_traceback_or_a_crash(script, inputs):
    done = subprocess.run([sys.executable, HERE / script, "--inputs", str(inputs)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2_000:]
    tried = sum(int(line.split()[0]) for line in done.stdout.splitlines())  # a line for each kind begins with its count
    assert tried > 0.8 * inputs  # all of them, but for rounding to equal numbers of each kind
