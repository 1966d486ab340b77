"""One stack for all tests of this folder, with a recipe over a tiny model, both made on the spot."""

import csv
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # the folder is not a package, and stack.py is shared

from stack import Stack

RECIPE = """
name: moods
data:
  source: {kind: csv, train: moods.csv}
  columns: {text: text, label: mood}
  split: {validation: 0.2, test: 0.2}
model: {base: /srv/recipes/tiny-bert}
objective: {kind: text_classification}
training: {epochs: 6, learning_rate: 5e-3, batch_size: 4}
execution: {device: cpu, precision: fp32, checkpoint_seconds: 0.5}
"""


def without_docker():
    """Return why these tests cannot run here; empty where they can."""
    if not shutil.which("docker"):
        return "docker is not installed"
    for command in (["docker", "compose", "version"], ["docker", "info"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"{' '.join(command)}: {done.stderr.strip().splitlines()[-1]}"
    return ""


def write_rows(file, rows):
    with file.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([("text", "mood"), *rows])


@pytest.fixture(scope="session")
def recipes(tmp_path_factory, tiny_bert):
    """The folder of recipes that the worker sees, readable by its account."""
    folder = tmp_path_factory.mktemp("recipes")
    shutil.copytree(tiny_bert, folder / "tiny-bert")
    (folder / "moods.yaml").write_text(RECIPE, encoding="utf-8")
    texts = {"glad": ["a fine day", "i love this tea", "we laughed"], "sad": ["it rains", "i lost", "a long wait"]}
    places = ["at home", "in town", "by the sea", "near the mill", "on the train", "with my sister"]
    write_rows(
        folder / "moods.csv",
        [(f"{t} {p}", mood) for mood, texts_of_mood in texts.items() for t in texts_of_mood for p in places],
    )
    for place in (folder, *folder.rglob("*")):
        os.chmod(place, 0o755 if place.is_dir() else 0o644)
    return folder


@pytest.fixture(scope="session")
def figures():
    """What was measured, printed at the end."""
    figures = {}
    yield figures
    print("\n" + "\n".join(f"{what}: {figure}" for what, figure in figures.items()))


@pytest.fixture(scope="session")
def stack(recipes, figures):
    """Build the image, and start everything from nothing."""
    if not os.environ.get("TUNESMITH_COMPOSE_TEST"):
        pytest.skip("minutes, and builds an image: make compose-test")
    if problem := without_docker():
        pytest.skip(problem)
    stack = Stack(recipes)
    stack.compose("down", "--volumes", "--remove-orphans", check=False)
    try:
        began = time.monotonic()
        stack.compose("build")
        figures["seconds to build the image"] = round(time.monotonic() - began)
        began = time.monotonic()
        stack.up("worker")
        figures["seconds until everything is healthy"] = round(time.monotonic() - began)
        yield stack
    finally:
        stack.compose("down", "--volumes", "--remove-orphans", check=False)
