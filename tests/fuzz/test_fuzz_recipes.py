"""A small part of the fuzzing of recipes; `make test-all` has more. `pytest tests/fuzz`."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.fuzz

SCRIPT = Path(__file__).with_name("recipes.py")


def test_no_recipe_ends_in_a_traceback():
    done = subprocess.run([sys.executable, SCRIPT, "--inputs", "600"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "600 recipes tried" in done.stdout
