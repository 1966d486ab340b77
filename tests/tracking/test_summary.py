"""The run that people see first in MLflow, its model and its experiment. `pytest tests/tracking/test_summary.py`."""

import json

import pytest
from mlflow.tracking import MlflowClient

from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import check
from pipeline_lib.tracking.experiment import VIEW_TAG, open_experiment


@pytest.fixture
def client(tracking_uri):
    return MlflowClient(tracking_uri)


def whole_run(client, recipe):
    """The only run of a recipe's experiment that stands around the others."""
    experiment = client.get_experiment_by_name(recipe.execution.experiment)
    (found,) = client.search_runs([experiment.experiment_id], "tags.`tunesmith.kind` = 'run'")
    return experiment, found


def test_the_first_run_carries_parameters_scores_cost_data_and_links(document, client):
    document["strategies"] = [{"kind": "partial", "last_layers": 1}]
    document["evaluation"] = {"baselines": ["majority"]}
    document["execution"]["cost_per_hour"] = 2.0
    recipe = check(document)
    outcome = run(recipe)
    _, found = whole_run(client, recipe)
    scores = json.loads((outcome.scores.folder / "metrics.json").read_text())
    parameters, metrics, tags = found.data.params, found.data.metrics, found.data.tags
    assert parameters["strategy"] == "partial (last_layers=1)"
    assert (parameters["learning_rate"], parameters["epochs"], parameters["batch_size"]) == ("0.005", "6", "4")
    assert parameters["train_rows"] == "36"
    for name, score in scores["metrics"].items():
        assert metrics[f"test/{name}"] == pytest.approx(score["value"])
        assert metrics[f"test/{name}/low"] == pytest.approx(score["low"])
    assert metrics["trained_parameters"] == int(parameters["trained_parameters"]) > 0
    measured = outcome.model.made["measured"]
    assert metrics["training_seconds"] == pytest.approx(measured["seconds"] + measured["features_seconds"])
    assert metrics["training_cost"] == pytest.approx(metrics["training_seconds"] / 1800)
    assert {dataset_input.dataset.name for dataset_input in found.inputs.dataset_inputs} == {
        "moods.csv",
        "moods test rows",
    }
    model = outcome.published["model"].removeprefix("models:/")
    assert [output.model_id for output in found.outputs.model_outputs] == [model]
    note = tags["mlflow.note.content"]
    assert "| accuracy | " in note and "majority" in note
    for page in ("/artifacts/report.html", f"/models/{model}", "viewStateShareKey=tunesmith-accuracy"):
        assert page in note
    assert tags["mlflow.user"] and tags["mlflow.source.name"] and tags["mlflow.source.type"] == "LOCAL"


def test_the_model_is_named_after_the_recipe_and_has_its_parameters(document, client):
    document["name"] = "moods.v2"  # MLflow takes no dot in the name of a logged model
    outcome = run(check(document))
    model = client.get_logged_model(outcome.published["model"].removeprefix("models:/"))
    assert model.name == "moods_v2"
    assert (model.params["strategy"], model.params["epochs"]) == ("full", "6")


def test_a_run_can_be_recognised_before_its_training_has_ended(recipe, client, monkeypatch):
    from pipeline_lib.training import loop

    def fail(self):
        raise RuntimeError("planted")

    monkeypatch.setattr(loop.Loop, "_validate", fail)
    with pytest.raises(RuntimeError, match="planted"):
        run(recipe)
    _, found = whole_run(client, recipe)
    assert found.data.params["strategy"] == "full"
    assert "Training and its curves" in found.data.tags["mlflow.note.content"]
    assert not found.data.metrics


def test_an_experiment_is_for_model_training_and_keeps_what_people_changed(recipe, client):
    name = recipe.execution.experiment
    experiment = open_experiment(client, name, "accuracy")
    tags = client.get_experiment(experiment).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    view = json.loads(tags[f"{VIEW_TAG}tunesmith-accuracy"])
    charts = json.loads(view["state"])["compareRunCharts"]
    assert {"key": "trained_parameters", "type": "METRIC"} in [chart.get("xaxis") for chart in charts]
    client.set_experiment_tag(experiment, "mlflow.note.content", "ours")
    assert open_experiment(client, name, "rmse") == experiment
    after = client.get_experiment(experiment).tags
    assert after["mlflow.note.content"] == "ours"
    assert f"{VIEW_TAG}tunesmith-rmse" in after
