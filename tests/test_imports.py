"""Who may import whom, read from the sources. `pytest tests/test_imports.py`."""

import ast
import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

import tasks

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipeline_lib", "tasks", "flows", "deployments")


def imported(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_no_module_imports_itself_by_way_of_others():
    """Late imports and those for type checkers count, too."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    order = TopologicalSorter(imports)
    order.prepare()  # raises CycleError with the modules of a cycle


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


FIRST_STEP = """
import os, sys
from pipeline_lib.recipe.loading import load
from pipeline_lib.pipeline.run import run
from pipeline_lib.training.step import Stepper

def step(*_):
    unused = ("bitsandbytes", "datasets", "matplotlib", "mlflow", "peft", "prefect", "sacrebleu", "sklearn")
    print(sorted(set(unused) & set(sys.modules)), flush=True)
    os._exit(0)

Stepper.step = step
run(load(sys.argv[1]))
"""


def test_a_first_step_waits_for_nothing_that_it_does_not_use(document, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(document))
    command = [sys.executable, "-c", FIRST_STEP, str(recipe)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_server_of_a_command_is_started_before_prefect_is_imported():
    code = "import sys, deployments.embedded; print('prefect' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"
