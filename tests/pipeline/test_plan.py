"""A plan: reused or to be created, and why; the table of parameters and rates. `pytest tests/pipeline/test_plan.py`."""

import json
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from pipeline_lib.cli.main import app
from pipeline_lib.cli.plan_table import as_json
from pipeline_lib.pipeline import steps
from pipeline_lib.pipeline.plan import format_plan, plan
from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import check

pytestmark = pytest.mark.usefixtures("unpublished")


def reasons(document):
    """By step, what the plan says: None where it is reused."""
    return {step.step: step.why or None for step in plan(check(document)).planned}


def test_nothing_is_there_yet(document):
    assert reasons(document) == {
        "base": "not in the store yet",
        "shard": "not in the store yet",
        "prepare": "waits for train file",
        "initialise": "waits for base, labels",
        "checks": "waits for prepare, initialise, base",
        "finetune": "waits for prepare, initialise, base",
        "evaluate": "waits for prepare, checks, finetune",
    }


def test_a_plan_is_what_a_run_then_does(ran):
    assert set(reasons(ran).values()) == {None}
    ran["training"]["learning_rate"] = 1e-3
    planned = plan(check(ran)).planned
    outcome = run(check(ran))
    assert [step.step for step in planned if not step.artifact] == ["finetune", "evaluate"]
    assert not outcome.model.reused
    assert outcome.model.why == next(step.why for step in planned if step.step == "finetune")
    assert outcome.model.why in outcome.model.message


def test_a_plan_states_what_the_test_set_can_detect(document):
    """2.802 * sqrt(.1 / n), never more than the .1 of the rows on which models disagree."""
    assert plan(check(document)).detects == ""
    prepared = steps.prepare(check(document))
    report = json.loads((prepared.folder / "report.json").read_text())
    rows = report["rows"]["test"]
    assert report["groups"]["test"] == rows
    smallest = min(0.1, 2.802 * (0.1 / rows) ** 0.5)
    assert plan(check(document)).detects.startswith(
        f"{rows} test rows detect a difference of {smallest:.3f} in a share"
    )


CHANGES = {
    "a rate": ({"training": {"learning_rate": 0.25}}, "finetune", "training.learning_rate 0.005 → 0.25"),
    "a strategy": ({"strategies": [{"kind": "partial"}]}, "initialise", 'strategies.0.kind "full" → "partial"'),
    "one more": (
        {"strategies": [{"kind": "full"}, {"kind": "layerwise_lr", "decay": 0.5}]},
        "initialise",
        'strategies.1.kind nothing → "layerwise_lr"',
    ),
    "a regularizer": (
        {"regularizers": [{"kind": "weight_decay", "value": 0.1}]},
        "finetune",
        'regularizers.0.kind nothing → "weight_decay"',
    ),
    "a metric": ({"evaluation": {"metrics": ["accuracy"]}}, "evaluate", 'evaluation.metrics.0 nothing → "accuracy"'),
    "a share": ({"split": {"validation": 0.25}}, "prepare", "split.validation 0.2 → 0.25"),
    "a length": ({"objective": {"max_length": 5}}, "shard", "objective.max_length null → 5"),
}


@pytest.mark.parametrize(("change", "step", "words"), CHANGES.values(), ids=CHANGES)
def test_the_first_step_that_is_made_again_says_what_has_changed(ran, change, step, words):
    for name, value in change.items():
        place = ran["data"] if name == "split" else ran
        place[name] = place.get(name, {}) | value if isinstance(value, dict) else value
    planned = plan(check(ran)).planned
    first = next(step for step in planned if not step.artifact)
    assert first.step == step
    assert first.why.startswith(f"{words}; all else equal to ")
    assert " of today " in first.why or " of yesterday " in first.why  # midnight may pass


def test_a_new_file_is_the_only_one_encoded(ran, tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    lines_of = (tmp_path / "moods.csv").read_text().splitlines()
    for index in range(4):
        (folder / f"{index}.csv").write_text("\n".join([lines_of[0], *lines_of[1 + index :: 4]]) + "\n")
    ran["data"]["source"]["train"] = str(folder)
    run(check(ran))
    (folder / "4.csv").write_text(f"{lines_of[0]}\na sweet song in the sun,glad\n")
    planned = plan(check(ran)).planned
    assert [step.of for step in planned if step.step == "shard" and not step.artifact] == ["4.csv"]
    assert "shard       4 of 5 files reused" in list(format_plan(planned))


def test_the_table_of_parameters_needs_no_model(ran):
    ran["strategies"] = [{"kind": "full"}, {"kind": "layerwise_lr", "decay": 0.5}]
    recipe = check(ran)
    assert plan(recipe).parameters == ()
    steps.initialise(recipe, steps.prepare(recipe))
    rates = {row.name: row.learning_rate for row in plan(recipe).parameters}
    assert rates["classifier.weight"] == 5e-3
    assert rates["bert.encoder.layer.1.output.dense.weight"] == 2.5e-3
    assert rates["bert.embeddings.word_embeddings.weight"] == 5e-3 / 8


def test_it_is_for_programs_too(ran):
    planned = as_json(plan(check(ran)))
    assert {step["status"] for step in planned["steps"]} == {"reused"}
    assert json.loads(json.dumps(planned)) == planned
    assert any(row["trained"] for row in planned["parameters"])


def test_the_command_line_shows_it_without_torch(ran, tmp_path):
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(ran))
    shown = CliRunner().invoke(app, ["plan", str(tmp_path / "recipe.yaml"), "training.epochs=7"])
    assert "finetune    to be created: training.epochs 6 → 7; all else equal to" in shown.output
    assert "initialise  reused" in shown.output
    assert "parameters are trained (100.00%)" in shown.output
    code = (
        "import sys; from pipeline_lib.cli.main import app\n"
        f"try: app(['plan', {str(tmp_path / 'recipe.yaml')!r}])\n"
        "except SystemExit: pass\n"
        "print({'torch', 'transformers', 'mlflow', 'prefect'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.rstrip().endswith("set()")


def test_a_mistake_is_reported_as_for_a_run(tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: x")
    shown = CliRunner().invoke(app, ["plan", str(tmp_path / "recipe.yaml")])
    assert shown.exit_code == 2
