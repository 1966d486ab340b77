"""Who may import whom, read from the sources. `pytest tests/test_directions.py`."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tasks

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "transformers", "mlflow"}
FORBIDDEN = {
    "pipeline_lib": {"prefect", "tasks", "flows", "deployments"},
    "tasks": {"flows", "deployments", *HEAVY},
    "flows": {"deployments", *HEAVY},
    "pipeline_lib/strategies": {"pipeline_lib.objectives", "pipeline_lib.regularizers"},
    "pipeline_lib/objectives": {"pipeline_lib.strategies", "pipeline_lib.regularizers"},
    "pipeline_lib/regularizers": {"pipeline_lib.strategies", "pipeline_lib.objectives"},
}


def imported(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_go_one_way(folder):
    files = list((ROOT / folder).rglob("*.py"))
    assert files
    for file in files:
        for name in imported(file):
            assert not any(f"{name}.".startswith(f"{wrong}.") for wrong in FORBIDDEN[folder]), f"{file} imports {name}"


def test_mlflow_is_imported_in_one_folder():
    for file in (ROOT / "pipeline_lib").rglob("*.py"):
        if file.parent.name != "tracking":
            assert not any(name.split(".")[0] == "mlflow" for name in imported(file)), file


def test_the_tasks_package_is_ours():
    assert Path(tasks.__file__).parent == ROOT / "tasks"


def test_a_flow_waits_for_no_heavy_library():
    flows = "flows.finetune, flows.retrain, flows.sweep"
    code = f"import sys, {flows}; print(sorted(m for m in ('torch', 'transformers', 'mlflow') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
