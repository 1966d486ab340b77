"""What MLflow is told: all of it, once, in runs that end as they should. `pytest tests/tracking`."""

import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import moods_recipe, write_moods

from pipeline_lib.errors import RecipeError
from pipeline_lib.pipeline import steps
from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import check
from pipeline_lib.training import loop as training_loop


@pytest.fixture
def client(tracking_uri):
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri)


def runs(client, recipe):
    """The experiment's runs by name."""
    experiment = client.get_experiment_by_name(recipe.execution.experiment)
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


@pytest.fixture(scope="module")
def once(tmp_path_factory, tiny_bert, tracking_uri):
    """A recipe and the outcome of its only run, for tests that change nothing."""
    folder = tmp_path_factory.mktemp("once")
    recipe = check(moods_recipe(folder, tiny_bert, write_moods(folder / "moods.csv"), tracking_uri))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # MLflow writes its artifacts into the working directory
        return recipe, run(recipe)


def test_a_run_has_a_training_and_an_evaluation_inside(once, client):
    recipe, outcome = once
    runs_by_name = runs(client, recipe)
    assert runs_by_name.keys() == {"moods", "moods training", "moods evaluation"}
    assert {run.info.status for run in runs_by_name.values()} == {"FINISHED"}
    parent = runs_by_name["moods"].info.run_id
    for name in ("moods training", "moods evaluation"):
        assert runs_by_name[name].data.tags["mlflow.parentRunId"] == parent
    assert runs_by_name["moods training"].info.run_id in outcome.published["training"]


def test_parameters_curves_data_and_model_are_there(once, client):
    recipe, outcome = once
    training = runs(client, recipe)["moods training"]
    assert training.data.params["training.epochs"] == "6"
    assert training.data.params["strategies.0.kind"] == "full"
    history = pq.read_table(outcome.model.folder / "history.parquet").to_pandas()
    curve = client.get_metric_history(training.info.run_id, "train/loss")
    steps_and_values = history[(history["split"] == "train") & (history["metric"] == "loss")][["step", "value"]]
    assert [(m.step, m.value) for m in sorted(curve, key=lambda m: m.step)] == list(
        steps_and_values.itertuples(False, None)
    )
    (data,) = training.inputs.dataset_inputs
    assert (data.dataset.name, data.tags[0].value) == ("moods.csv", "train")
    assert len(data.dataset.digest) == 32
    assert {"recipe.yaml", "parameters.parquet", "data"} <= {
        f.path for f in client.list_artifacts(training.info.run_id)
    }


def test_scores_figures_and_predictions_are_there(once, client):
    recipe, _ = once
    evaluation = runs(client, recipe)["moods evaluation"]
    metrics = evaluation.data.metrics
    assert metrics["test/accuracy/low"] <= metrics["test/accuracy"] <= metrics["test/accuracy/high"]
    files = {file.path for file in client.list_artifacts(evaluation.info.run_id)}
    assert {"report.html", "predictions.parquet", "figures"} <= files


def test_scores_are_linked_to_the_model_and_the_rows_and_the_model_can_be_asked(once, client, tracking_uri):
    import mlflow

    recipe, outcome = once
    runs_by_name = runs(client, recipe)
    model = client.get_logged_model(outcome.published["model"].removeprefix("models:/"))
    scores = runs_by_name["moods evaluation"].data.metrics
    linked = {metric.key: metric for metric in model.metrics}
    assert {name: metric.value for name, metric in linked.items()} == {
        name: value for name, value in scores.items() if name.startswith("test/")
    }
    rows = linked["test/accuracy"]
    assert (rows.dataset_name, rows.dataset_digest) == ("moods test rows", outcome.data.digest[:32])
    evaluation = client.get_run(runs_by_name["moods evaluation"].info.run_id)
    assert [model_input.model_id for model_input in evaluation.inputs.model_inputs] == [model.model_id]
    training = client.get_run(runs_by_name["moods training"].info.run_id)
    assert [output.model_id for output in training.outputs.model_outputs] == [model.model_id]
    assert (model.status, model.source_run_id) == ("READY", training.info.run_id)
    mlflow.set_tracking_uri(tracking_uri)
    served = mlflow.pyfunc.load_model(outcome.published["model"])
    first = pq.read_table(outcome.scores.folder / "predictions.parquet").slice(0, 1).to_pylist()[0]
    assert served.input_example.to_dict("records") == [{"text": first["text"]}]
    assert served.predict(served.input_example)["prediction"].tolist() == [first["prediction"]]


def test_nothing_is_logged_twice(once, client):
    recipe, _ = once
    before = runs(client, recipe)
    run(recipe)
    after = runs(client, recipe)
    assert {name: r.to_dictionary() for name, r in before.items()} == {
        name: r.to_dictionary() for name, r in after.items()
    }


def test_a_batch_whose_count_a_kill_cut_off_is_not_logged_again_by_smaller_ones(recipe, client):
    from mlflow.entities import Metric

    from pipeline_lib.tracking.runs import Tracker

    tracker = Tracker(recipe, "a test")
    begun = tracker.find_or_start_run("training", "0" * 64)
    client.log_batch(begun.info.run_id, [Metric("train/loss", 1.0, 1, step) for step in (1, 2, 3)])  # and no tag
    records = [{"split": "train", "metric": "loss", "value": 1.0, "step": step} for step in (1, 2, 3, 4)]
    for count in (1, 2, 4):
        tracker.add_history(begun, records[:count])
    known = client.get_metric_history(begun.info.run_id, "train/loss")
    assert sorted(metric.step for metric in known) == [1, 2, 3, 4]


def test_a_new_evaluation_of_an_old_training_is_a_run_of_its_own(ran, client):
    run(check(ran))
    ran["evaluation"] = {"metrics": ["macro_f1"]}
    run(check(ran))
    experiment = client.get_experiment_by_name(ran["execution"]["experiment"])
    names = sorted(run.info.run_name for run in client.search_runs([experiment.experiment_id]))
    assert names == ["moods", "moods", "moods evaluation", "moods evaluation", "moods training"]


def test_a_training_that_raised_is_failed_and_a_rerun_goes_on_in_it(recipe, client, monkeypatch):
    def fail(self):
        raise RuntimeError("planted")

    monkeypatch.setattr(training_loop.Loop, "_validate", fail)
    with pytest.raises(RuntimeError, match="planted"):
        run(recipe)
    failed = runs(client, recipe)
    assert {run.info.status for run in failed.values()} == {"FAILED"}
    monkeypatch.undo()
    run(recipe)
    runs_by_name = runs(client, recipe)
    assert runs_by_name["moods training"].info.run_id == failed["moods training"].info.run_id
    assert {run.info.status for run in runs_by_name.values()} == {"FINISHED"}
    curve = client.get_metric_history(runs_by_name["moods training"].info.run_id, "train/loss")
    assert len({metric.step for metric in curve}) == len(curve)


def test_training_goes_on_without_mlflow_and_all_is_delivered_later(document, client, tmp_path, monkeypatch, caplog):
    away = document | {"execution": document["execution"] | {"tracking_uri": "http://127.0.0.1:9"}}
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    recipe = check(away)
    data = steps.prepare(recipe)
    steps.finetune(recipe, data, steps.initialise(recipe, data))
    assert "training continues" in caplog.text
    with pytest.raises(RecipeError, match="Nothing is lost: run the same command again"):
        run(recipe)
    outcome = run(check(document))
    assert outcome.model.reused
    training = runs(client, check(document))["moods training"]
    records = pq.read_metadata(outcome.model.folder / "history.parquet").num_rows
    assert training.data.tags["tunesmith.delivered_records"] == str(records)
    measured = {"total/seconds", "pace/seconds_per_step", "system/cpu_utilization_percentage"}
    assert measured <= training.data.metrics.keys()
    held = {file.path for file in client.list_artifacts(training.info.run_id)}
    assert {"manifests.json", "circumstances.json", "recipe.yaml"} <= held


@pytest.mark.parametrize("strategy", [{"kind": "full"}, {"kind": "partial"}])
def test_the_logged_model_answers_as_the_evaluation_did(document, tracking_uri, strategy):
    import mlflow

    document["strategies"] = [strategy]
    outcome = run(check(document))
    mlflow.set_tracking_uri(tracking_uri)
    model = mlflow.pyfunc.load_model(outcome.published["model"])
    rows = pq.read_table(outcome.scores.folder / "predictions.parquet").to_pandas()
    answers = model.predict(pd.DataFrame({"text": rows["text"]}))
    assert answers["prediction"].tolist() == rows["prediction"].tolist()
    assert answers["probability"].tolist() == pytest.approx(rows["probability"].tolist(), abs=1e-5)
