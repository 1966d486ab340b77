"""A whole run as plain calls: what it leaves, what it reuses. `pytest tests/pipeline/test_run.py`."""

import json

import pyarrow.parquet as pq
from conftest import LEARNING

from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import check


def test_a_run_leaves_model_predictions_scores_figures_and_report(document, drawn):
    outcome = run(check(document | LEARNING))
    metrics = json.loads((outcome.scores.folder / "metrics.json").read_text())
    assert metrics["rows"] == 12
    assert metrics["metrics"]["accuracy"]["value"] > 0.8
    predictions = pq.read_table(outcome.scores.folder / "predictions.parquet").to_pylist()
    assert len(predictions) == 12
    right = [row["prediction"] == row["label"] for row in predictions]
    assert metrics["metrics"]["accuracy"]["value"] == sum(right) / len(right)
    assert "What it means" in outcome.report.read_text() or "what it means" in outcome.report.read_text()
    figures = {file.stem: file for file in (outcome.scores.folder / "figures").iterdir()}
    assert figures.keys() == {"confusion", "error_by_length", "learning_curves", "reliability"}
    assert min(len(file.read_bytes()) for file in figures.values()) > 5000


def test_a_second_run_reuses_every_step(recipe):
    first, second = run(recipe), run(recipe)
    for one, again in zip(vars(first).values(), vars(second).values(), strict=True):
        if one is not first.published:
            assert (again.digest, again.reused) == (one.digest, True)
    assert second.published == first.published


def test_what_is_changed_decides_what_is_made_again(ran, unpublished):
    first = run(check(ran))
    ran["training"]["learning_rate"] = 1e-3
    second = run(check(ran))
    assert [a.reused for a in (second.data, second.start, second.model, second.scores)] == [True, True, False, False]
    ran["evaluation"] = {"metrics": ["accuracy"]}
    third = run(check(ran))
    assert [a.reused for a in (third.data, third.start, third.model, third.scores)] == [True, True, True, False]
    ran["execution"]["precision"] = "bf16"  # another number format is another model
    fourth = run(check(ran))
    assert [a.reused for a in (fourth.data, fourth.start, fourth.model, fourth.scores)] == [True, True, False, False]
    assert first.model.digest != second.model.digest


def test_the_same_bytes_under_another_name_are_the_same_data(ran, unpublished, tmp_path, moods_csv):
    first = run(check(ran))
    ran["data"]["source"]["train"] = str(moods_csv.rename(tmp_path / "renamed.csv"))
    assert run(check(ran)).data.fingerprint == first.data.fingerprint
