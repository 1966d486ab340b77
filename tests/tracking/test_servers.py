"""A model's life on a database file and on real MLflow servers, with and without proxied artifacts: the same promises.

`pytest tests/tracking/test_servers.py`
"""

import json
import os
import platform
import subprocess
import sys

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from pipeline_lib.cli.main import app
from pipeline_lib.errors import RecipeError
from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.execution import Execution
from pipeline_lib.recipe.loading import load
from pipeline_lib.retrain.gate import Gate
from pipeline_lib.retrain.retrain import retrain
from pipeline_lib.tracking.process_marks import place
from pipeline_lib.tracking.registry import Registry
from pipeline_lib.tracking.runs import HOST, PROCESS

TEXTS = {"glad": ["a fine day", "the sun is warm", "we laughed"], "sad": ["it rains", "nobody came", "a long wait"]}
FIXTURES = {
    "file": "tracking_uri",
    "server": "mlflow_server",
    "server without artifacts": "mlflow_server_without_artifacts",
}
KINDS = ["file", *(pytest.param(kind, marks=pytest.mark.server) for kind in ("server", "server without artifacts"))]


class Life:
    """One model in one MLflow, trained once for all tests; its data is a file that grows."""

    def __init__(self, folder, base, uri):
        self.folder, self.uri, self.client = folder, uri, MlflowClient(uri)
        self.name = f"moods-{folder.name}"
        (folder / "moods.csv").write_text("text,mood\n" + "".join(rows(("home", "sea", "town"))))
        (folder / "test.csv").write_text("text,mood\n" + "".join(rows(("here", "today"))))
        document = {
            "name": self.name,
            "data": {
                "source": {"kind": "csv", "train": "moods.csv", "test": "test.csv"},
                "columns": {"text": "text", "label": "mood"},
                "split": {"validation": 0.2},
            },
            "model": {"base": str(base)},
            "objective": {"kind": "text_classification"},
            "training": {"epochs": 1, "learning_rate": 5e-3, "batch_size": 4},
            "execution": {
                "store": str(folder / "store"),
                "tracking_uri": uri,
                "experiment": folder.name,
                "device": "cpu",
                "precision": "fp32",
            },
        }
        (folder / "moods.yaml").write_text(yaml.safe_dump(document))
        self.first = retrain(self.recipe(), Gate())

    def recipe(self, *overrides):
        return load(self.folder / "moods.yaml", list(overrides))

    @property
    def registry(self):
        return Registry(Execution(tracking_uri=self.uri), self.name)

    def runs(self):
        """The experiment's runs by kind."""
        experiment = self.client.get_experiment_by_name(self.folder.name)
        found = self.client.search_runs([experiment.experiment_id])
        return {run.data.tags["tunesmith.kind"]: run for run in found}

    def command(self, *arguments):
        """A command in this process, with the address in the environment alone; its exit code and what it said."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", self.uri)
            done = CliRunner().invoke(app, list(arguments))
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output


def rows(places):
    return [f"{text} {place},{mood}\n" for mood, texts in TEXTS.items() for text in texts for place in places]


@pytest.fixture(scope="module", params=KINDS)
def life(request, tmp_path_factory, tiny_bert):
    mlflow = request.getfixturevalue(FIXTURES[request.param])
    folder = tmp_path_factory.mktemp("life")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # MLflow on a file writes its artifacts there
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield Life(folder, tiny_bert, getattr(mlflow, "uri", mlflow))


def test_training_scores_and_model_are_all_there(life):
    runs = life.runs()
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    training, evaluation = runs["training"], runs["evaluation"]
    outcome = run(life.recipe())
    history = pq.read_table(outcome.model.folder / "history.parquet").to_pylist()
    losses = [row for row in history if (row["split"], row["metric"]) == ("train", "loss")]
    assert len(life.client.get_metric_history(training.info.run_id, "train/loss")) == len(losses)
    assert {"recipe.yaml", "manifests.json"} <= {file.path for file in life.client.list_artifacts(training.info.run_id)}
    assert "report.html" in {file.path for file in life.client.list_artifacts(evaluation.info.run_id)}
    model = life.client.get_logged_model(outcome.published["model"].removeprefix("models:/"))
    assert (model.status, model.source_run_id) == ("READY", training.info.run_id)
    assert "MLmodel" in {file.path for file in life.client.list_logged_model_artifacts(model.model_id)}


def test_the_first_model_is_the_champion_and_its_version_is_listed_on_its_logged_model(life):
    assert (life.first.verdict, life.first.version) == ("promoted", 1)
    version = life.client.get_model_version(life.name, "1")
    assert (version.run_id, version.aliases) == (life.runs()["training"].info.run_id, ["champion"])
    model = life.client.get_logged_model(life.registry.champion().model.removeprefix("models:/"))
    assert version.source == model.artifact_location
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": life.name, "version": 1}]


def test_a_version_can_be_registered_where_the_process_has_another_mlflow_as_its_default(life, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/default.db")
    other = Registry(Execution(tracking_uri=life.uri), f"{life.name}-again")
    model = life.registry.champion().model
    version = other.register(model, {"a": "b"}, "tried")
    assert (version.number, version.model, other.register(model, {"a": "b"}, "tried").number) == (1, model, 1)
    listed = life.client.get_logged_model(model.removeprefix("models:/")).tags["mlflow.modelVersions"]
    assert sorted(record["name"] for record in json.loads(listed)) == [life.name, other.name]
    life.client.delete_registered_model(other.name)
    life.client.set_logged_model_tags(
        model.removeprefix("models:/"), {"mlflow.modelVersions": json.dumps([{"name": life.name, "version": 1}])}
    )
    assert not (tmp_path / "default.db").exists()


def test_the_champion_and_its_profile_come_back_from_mlflow(life, tmp_path):
    champion = life.registry.champion()
    model, base = life.registry.fetch(champion, tmp_path / "model")
    assert (model / "tunesmith.json").is_file()
    assert base is None
    assert list(life.registry.profile(champion, tmp_path / "profile").iterdir())


def test_audit_follows_the_chain_and_finds_nothing_wrong(life):
    code, said = life.command("audit", f"models:/{life.name}@champion")
    assert code == 0, said
    assert said.splitlines()[-1] == "all records agree"
    assert f"{life.name} version 1" in said
    assert life.command("audit", "--experiment", life.folder.name)[0] == 0


def test_repair_settles_a_run_that_a_kill_has_left_running(life):
    for mlflow_run in life.runs().values():
        life.client.update_run(mlflow_run.info.run_id, status="RUNNING")
        life.client.set_tag(mlflow_run.info.run_id, HOST, platform.node())
        life.client.set_tag(mlflow_run.info.run_id, PROCESS, f"999999999 1 {place()}")
    assert life.command("audit", "--experiment", life.folder.name)[0] == 1
    code, said = life.command("audit", "--experiment", life.folder.name, "--repair")
    assert code == 0, said
    assert {run.info.status for run in life.runs().values()} == {"FINISHED"}


def test_rows_are_scored_by_the_champion_and_by_its_logged_model_alike(life, tmp_path):
    pq.write_table(pa.table({"text": ["a fine day", "it rains"]}), tmp_path / "rows.parquet")
    answers = []
    for model in (f"models:/{life.name}@champion", f"models:/{life.name}/1", life.registry.champion().model):
        code, said = life.command(
            "score", model, str(tmp_path / "rows.parquet"), "--out", str(tmp_path / "out"), "--store", str(tmp_path)
        )
        assert code == 0, said
        answers.append(pq.read_table(tmp_path / "out" / "rows.parquet").to_pylist())
    assert answers[0] == answers[1] == answers[2]
    assert len(list((tmp_path / "steps" / "model").iterdir())) == 1  # fetched once


def test_a_run_is_reproduced_to_the_byte_from_what_mlflow_holds(life, tmp_path):
    run_id = life.runs()["training"].info.run_id
    code, said = life.command("reproduce", run_id, "--store", str(tmp_path / "again"))
    assert code == 0, said
    assert said.splitlines()[:2] == ["weights     identical", "predictions identical"]


def test_runs_are_compared_and_exported_without_a_word_to_mlflow(life, tmp_path):
    code, said = life.command("compare", str(life.folder / "moods.yaml"), str(life.folder / "moods.yaml"))
    assert code == 0, said
    code, said = life.command("export", str(life.folder / "moods.yaml"), str(tmp_path / "plain"))
    assert code == 0, said
    assert (tmp_path / "plain" / "config.json").is_file()


def test_a_deleted_experiment_is_one_error_with_the_way_to_restore_it(life, tmp_path):
    deleted = life.client.create_experiment(f"{life.name} deleted")
    life.client.delete_experiment(deleted)
    with pytest.raises(RecipeError, match=f"was deleted in MLflow. Restore it .*--experiment-id {deleted}`"):
        run(life.recipe(f"execution.experiment={life.name} deleted"))


def test_a_model_that_was_deleted_in_mlflow_is_published_again_before_it_is_registered(life):
    overrides = [f"name={life.name}-lost", f"execution.experiment={life.name}-lost"]
    recipe = life.recipe(*overrides)
    model = run(recipe).published["model"].removeprefix("models:/")
    experiment = life.client.get_experiment_by_name(recipe.execution.experiment)
    for mlflow_run in life.client.search_runs([experiment.experiment_id]):
        life.client.delete_run(mlflow_run.info.run_id)
    life.client.delete_logged_model(model)
    decision = retrain(recipe, Gate())
    assert (decision.verdict, decision.version) == ("promoted", 1)
    assert Registry(recipe.execution, recipe.name).champion().model != f"models:/{model}"


SERVE = """
import sys, mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
print(model.predict(pd.DataFrame({"text": ["a fine day", "it rains"]})).to_json())
"""


def test_a_fresh_process_that_only_knows_the_address_serves_the_champion(life, tmp_path):
    env = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    env |= {"MLFLOW_TRACKING_URI": life.uri}
    command = [sys.executable, "-c", SERVE, f"models:/{life.name}@champion"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    served = json.loads(done.stdout.splitlines()[-1])
    local = served_here(life, ["a fine day", "it rains"])
    assert list(served["prediction"].values()) == local


def served_here(life, texts):
    from pipeline_lib.evaluation.predictor import LoadedModel

    folder = run(life.recipe()).model.folder / "model"
    return list(
        pd.DataFrame(LoadedModel(folder, device="cpu").answer([{"text": text} for text in texts]))["prediction"]
    )


def test_more_data_is_retrained_refused_promoted_rolled_back_and_no_disagreement(life):
    """The last test: it changes the champion and the data."""
    with (life.folder / "moods.csv").open("a") as file:
        file.writelines(rows(("garden",)))
    idle = life.recipe("training.learning_rate=1e-9")
    refused = retrain(idle, Gate(floors=[{"metric": "accuracy", "bound": 1.0}], margin=0.001))
    assert (refused.verdict, refused.version, refused.champion) == ("refused", 2, 1)
    promoted = retrain(life.recipe("training.epochs=2"), Gate(margin=1))
    assert (promoted.verdict, promoted.version) == ("promoted", 3)
    assert life.registry.champion().number == 3
    code, said = life.command("audit", f"models:/{life.name}/1")
    assert code == 0, said
    assert f"train {life.folder}/moods.csv has grown by" in said
    assert said.splitlines()[-1] == "all records agree; its data has changed since the training"
    code, said = life.command("audit", f"models:/{life.name}@champion")
    assert (code, said.splitlines()[-1]) == (0, "all records agree")
    code, said = life.command("rollback", life.name)
    assert code == 0, said
    assert life.registry.champion().number == 1
