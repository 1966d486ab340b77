"""The step as a run meets it: what it lists, what it stops, what it redoes. `pytest tests/checks/test_checks.py`."""

import csv
import json
import logging

import pytest
from mlflow.tracking import MlflowClient

from pipeline_lib.errors import RecipeError
from pipeline_lib.pipeline import steps
from pipeline_lib.pipeline.plan import plan
from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import check


@pytest.fixture
def spoiled(document, moods_csv, tmp_path):
    """Ten test rows, of which one stands in the training rows, one nearly, and four are cut to six tokens."""
    with moods_csv.open(encoding="utf-8") as file:
        head = next(csv.reader(file))
    test = [["WHAT a fine  day at home", "glad"], ["nobody came to dinner by the sea!", "sad"]]
    test += [[f"a {word} day", "glad"] for word in ("fine", "warm", "kind", "sweet")]
    test += [[f"the {word} is cold in town again", "sad"] for word in ("tea", "sun", "game")] + [["it rains", "sad"]]
    with (tmp_path / "test.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *test])
    document["data"] = document["data"] | {
        "source": {"kind": "csv", "train": str(moods_csv), "test": str(tmp_path / "test.csv")},
        "split": {"validation": 0.2},
    }
    document["objective"]["max_length"] = 7
    return document


def found(recipe):
    data = steps.prepare(recipe)
    artifact = steps.checks(recipe, data, steps.initialise(recipe, data))
    return {
        (record["name"], record["split"]): record
        for record in json.loads((artifact.folder / "checks.json").read_text())
    }


def test_findings_have_level_count_share_mend_and_places(spoiled, caplog):
    with caplog.at_level(logging.WARNING, "tunesmith"):
        findings = found(check(spoiled))
    same = findings["duplicates", "test"]
    assert (same["level"], same["count"], same["of"], same["share"]) == ("warn", 1, 10, 0.1)
    (example,) = same["examples"]
    assert (example["file"], example["line"], example["as"]["file"]) == ("test.csv", 2, "moods.csv")
    assert findings["near_duplicates", "test"]["examples"][0]["line"] == 3
    # nobody came to dinner by the sea ! (8 words); the ... is cold in town again (7 words); two tokens are special
    assert (findings["truncated", "test"]["count"], findings["truncated", "test"]["of"]) == (5, 10)
    assert not {name for name, _ in findings} & {"model", "repeats", "missing_labels", "balance"}
    assert any(same["problem"] in record.message for record in caplog.records)


def test_what_the_recipe_calls_an_error_stops_the_run_before_training(spoiled):
    spoiled["data"]["checks"] = {"duplicates": "error", "truncated": "ignore", "near_duplicates": "ignore"}
    with pytest.raises(RecipeError, match="test rows also appear in the training or validation data") as stopped:
        run(check(spoiled))
    assert (stopped.value.field, stopped.value.value) == ("data.checks.duplicates", "error")
    missing = [step.step for step in plan(check(spoiled)).planned if not step.artifact]
    assert missing == ["finetune", "evaluate"], "what was found is kept"
    with pytest.raises(RecipeError, match=r"data\.checks\.duplicates"):  # a reused artifact stops it as well
        run(check(spoiled))
    assert {name for name, _ in found(check(spoiled | {"data": spoiled["data"] | {"checks": {}}}))} > {"truncated"}


def test_findings_are_in_the_report_and_in_the_tags_and_another_level_trains_nothing_anew(spoiled):
    first = run(check(spoiled))
    page = first.report.read_text()
    assert "1 of 10 (10.0%) test rows also appear in the training or validation data" in page
    assert "test.csv line 2 same as moods.csv line 2" in page
    client = MlflowClient(spoiled["execution"]["tracking_uri"])
    tags = client.get_run(first.published["training"].split()[0]).data.tags
    assert (
        tags["tunesmith.checks.duplicates"]
        == "warn: 1 of 10 (10.0%) test rows also appear in the training or validation data"
    )
    assert tags["tunesmith.checks"] == f"{len(found(check(spoiled)))} findings"
    assert "tunesmith.checks.model" not in tags
    spoiled["data"]["checks"] = {"near_duplicates": "ignore"}
    assert [step.step for step in plan(check(spoiled)).planned if not step.artifact] == ["checks", "evaluate"]
    assert run(check(spoiled)).model.reused
