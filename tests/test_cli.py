"""The command line as a user meets it. `pytest tests/test_cli.py`."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from pipeline_lib.cli import app


@pytest.fixture
def recipe_file(tmp_path, document):
    path = tmp_path / "moods.yaml"
    path.write_text(json.dumps(document))  # every JSON document is a YAML document
    return path


def test_a_run_ends_with_scores_places_and_the_next_command(recipe_file):
    said = CliRunner().invoke(app, ["run", str(recipe_file), "--plain", "training.epochs=2"])
    assert said.exit_code == 0, said.output
    for word in (
        "Scores on 12 test rows",
        "accuracy",
        "95% interval",
        "share of rows whose label is right",
        "report.html",
    ):
        assert word in said.output
    assert f"tunesmith run {recipe_file}" in said.output.replace("\n", "")
    assert "mlflow ui --backend-store-uri sqlite" in said.output


def test_help_names_the_commands():
    said = CliRunner().invoke(app, ["--help"])
    assert said.exit_code == 0
    assert "run" in said.output


def test_help_waits_for_no_heavy_library():
    heavy = (
        "asyncio",
        "mlflow",
        "numpy",
        "pandas",
        "prefect",
        "psutil",
        "pyarrow",
        "pydantic",
        "torch",
        "transformers",
    )
    code = f"""
import sys
from pipeline_lib.cli import app
sys.argv = ["tunesmith", "--help"]
try:
    app()
finally:
    print(sorted(name for name in {heavy!r} if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Usage" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_keeps_text_in_square_brackets():
    said = CliRunner().invoke(app, ["sweep", "--help"], env={"COLUMNS": "200"})
    assert "path=[value, value ...]; again for another field" in said.output
