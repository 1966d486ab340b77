"""The command line as a user meets it. `pytest tests/cli/test_main.py`."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from pipeline_lib.cli.main import app


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
from pipeline_lib.cli.main import app
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
    assert "path=[value, value ...]; repeat it for more fields" in said.output


def test_an_unforeseen_error_says_that_it_is_a_bug_and_how_to_report_it(recipe_file):
    code = """if True:
        import sys
        from pipeline_lib.recipe import loading as recipe_file
        from pipeline_lib.cli.main import app

        def broken(*arguments):
            raise ZeroDivisionError("at http://me:secret@host/x?token=secret")

        recipe_file.load = broken
        sys.argv = ["tunesmith", "plan", sys.argv[1]]
        app()
    """
    done = subprocess.run([sys.executable, "-c", code, str(recipe_file)], capture_output=True, text=True)
    *before, error, last = done.stderr.splitlines()
    assert done.returncode == 1
    assert before[0] == "Traceback (most recent call last):"
    assert error == "ZeroDivisionError: at http://host/x"
    assert last.startswith("This is a bug in Tunesmith 0")
    assert "open an issue" in last and "CONTRIBUTING.md" in last


def test_a_store_may_have_escapes_in_its_name(recipe_file, tmp_path):
    store = tmp_path / "a%20b#c d"  # MLflow takes the first for a space, and the second for a fragment
    said = CliRunner().invoke(app, ["run", str(recipe_file), "--plain", f"execution.store={json.dumps(str(store))}"])
    assert said.exit_code == 0, said.output
    assert "models:/m-" in said.output
    assert (store / "steps" / "finetune").is_dir()
