"""The chain from a model to its data, and what disagrees about it: one run, tampered with. `pytest tests/audit`."""

import json
import os
import shutil
import tempfile
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

from pipeline_lib.audit.audit import audit_trainings
from pipeline_lib.audit.consistency import disagreements
from pipeline_lib.audit.training_data import record_findings, source_changes
from pipeline_lib.cli.main import app
from pipeline_lib.errors import RecipeError
from pipeline_lib.store.digests import file_digest
from pipeline_lib.tracking.process_marks import own_mark, place
from pipeline_lib.tracking.run_metadata import MANIFESTS
from pipeline_lib.tracking.runs import FINGERPRINT, HOST, PROCESS
from pipeline_lib.tracking.search import TrainingSearch


def test_the_chain_leads_from_the_model_to_the_bytes_of_its_data(ran):
    (link,) = ran.audit().chains
    assert link["model"]["address"] == ran.outcome.published["model"]
    assert link["recipe"]["given"] == {"file": str(ran.folder / "moods.yaml"), "overrides": ["training.epochs=2"]}
    assert link["recipe"]["resolved"]["training"]["epochs"] == 2
    (data,) = link["data"]
    assert data["split"] == "train"
    assert data["digest"] == file_digest(ran.folder / "moods.csv")[:32]
    assert link["base"]["files"]["model.safetensors"]
    assert {"pipeline_lib.training.loop", "pipeline_lib.data.shards"} <= link["code"]["modules"].keys()
    steps = {artifact["step"]: artifact["fingerprint"] for artifact in link["artifacts"]}
    assert [*steps] == ["base", "shard", "prepare", "initialise", "finetune", "checks", "evaluate"]
    assert (steps["finetune"], steps["evaluate"]) == (ran.outcome.model.fingerprint, ran.outcome.scores.fingerprint)


def test_every_run_and_model_leads_to_its_training(ran):
    from mlflow import register_model, set_tracking_uri

    set_tracking_uri(ran.uri)
    register_model(ran.outcome.published["model"], "audited-moods")
    ran.client.set_registered_model_alias("audited-moods", "champion", "1")
    models = [ran.outcome.published["model"], "models:/audited-moods/1", "models:/audited-moods@champion"]
    for target in [*ran.ids.values(), *models]:
        assert TrainingSearch(ran.uri).find_training(target).training.id == ran.ids["moods training"]
    assert TrainingSearch(ran.uri).find_training(models[0]).versions == ["audited-moods version 1"]


@pytest.mark.parametrize("target", ["0" * 32, "models:/m-unknown", "models:/unknown/3", "models:"])
def test_what_leads_to_no_training_is_one_clear_error(ran, target):
    with pytest.raises(RecipeError, match="does not name a training in sqlite"):
        ran.audit(target)


def test_where_nothing_disagrees_the_command_says_so(ran):
    said = CliRunner().invoke(app, ["audit", ran.ids["moods"], "--tracking-uri", ran.uri])
    assert said.exit_code == 0, said.output
    assert f"recipe      {ran.folder}/moods.yaml training.epochs=2" in said.output
    assert said.output.splitlines()[-1] == "all records agree"
    said = CliRunner().invoke(app, ["audit", "--tracking-uri", ran.uri, "--experiment", ran.folder.name, "--json"])
    output = json.loads(said.output)
    assert (output["disagrees"], output["strays"], len(output["trainings"])) == (False, [], 1)
    said = CliRunner().invoke(app, ["audit", "--tracking-uri", ran.uri, "--experiment", "no such"])
    assert said.exit_code == 2
    assert "--experiment = 'no such': is not in sqlite" in said.output


@contextmanager
def other_bytes(path):
    original = path.read_bytes()
    path.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    yield
    path.write_bytes(original)


@contextmanager
def gone(path):
    with tempfile.TemporaryDirectory() as aside:
        shutil.move(path, aside)
        yield
        if path.is_file():
            path.unlink()
        shutil.move(f"{aside}/{path.name}", path)


@contextmanager
def logged(ran, name, value):
    client, run_id = ran.client, ran.ids["moods evaluation"]
    original = client.get_run(run_id).data.metrics[name]
    client.log_metric(run_id, name, value)
    yield
    client.log_metric(run_id, name, original)


@contextmanager
def other_manifest(ran):
    """Somebody says in MLflow that another number of epochs was trained."""
    client, run_id = ran.client, ran.ids["moods training"]
    manifests = ran.held().manifests
    changed = json.loads(json.dumps(manifests))
    changed["finetune"]["identity"]["recipe"]["training"]["epochs"] = 3
    client.log_dict(run_id, changed, MANIFESTS)
    yield
    client.log_dict(run_id, manifests, MANIFESTS)


@contextmanager
def grown(path):
    original = path.read_bytes()
    path.write_bytes(original + b"a new row,glad\n")
    yield
    path.write_bytes(original)


@contextmanager
def added(path):
    path.write_text("text,mood\na new row,glad\n")
    yield
    path.unlink()


WEIGHTS = "model/model.safetensors"
TAMPERED = {
    "weights": (lambda ran: other_bytes(ran.outcome.model.folder / WEIGHTS), f"is damaged ({WEIGHTS} changed"),
    "a file": (lambda ran: gone(ran.outcome.data.folder / "labels.json"), "is damaged (labels.json changed"),
    "an artifact": (lambda ran: gone(ran.outcome.scores.folder), "is missing from"),
    "a score": (lambda ran: logged(ran, "test/accuracy", 0.125), "test/accuracy is 0.125 in MLflow and"),
    "a manifest": (lambda ran: other_manifest(ran), "its manifest in MLflow was changed: it does not match"),
}


@pytest.mark.parametrize(("tamper", "words"), TAMPERED.values(), ids=TAMPERED)
def test_what_was_tampered_with_is_named_and_nothing_else(ran, tamper, words):
    with tamper(ran):
        (said,) = ran.words()
        assert words in said
        assert ran.audit().disagrees
    assert ran.words() == []


SOURCES = {
    "grown": (lambda ran: grown(ran.folder / "moods.csv"), "train moods.csv has grown by 15 bytes since the training"),
    "other bytes": (lambda ran: other_bytes(ran.folder / "moods.csv"), "train moods.csv has changed since the"),
    "gone": (lambda ran: gone(ran.folder / "moods.csv"), "train moods.csv is gone since the training"),
}


@pytest.mark.parametrize(("change", "words"), SOURCES.values(), ids=SOURCES)
def test_a_source_that_has_changed_since_is_listed_and_disagrees_with_nothing(ran, change, words):
    with change(ran):
        said = CliRunner().invoke(app, ["audit", ran.ids["moods"], "--tracking-uri", ran.uri])
        report = ran.audit()
    assert said.exit_code == 0, said.output
    assert words in said.output.replace(f"{ran.folder}/", "")
    assert said.output.splitlines()[-1] == "all records agree; its data has changed since the training"
    assert report.found == [[]]
    (training,) = report.as_json()["trainings"]
    assert [change["path"] for change in training["source_changes"]] == [str(ran.folder / "moods.csv")]
    assert list(report.lines(whole=False))[-1].endswith("; the data of 1 has changed since the training")
    assert ran.audit().sources == [[]]


def test_a_new_file_in_a_folder_is_listed_and_files_that_cannot_be_listed_are_said(ran):
    held = ran.held()
    held.recipe["data"]["source"]["train"] = str(ran.folder / "*.csv")
    with added(ran.folder / "new.csv"):
        (change,) = source_changes(held)
    assert change == ("train", str(ran.folder / "new.csv"), "is new since the training")
    held.recipe["data"]["source"]["train"] = str(ran.folder / "elsewhere")
    (change,) = source_changes(held)
    assert change.what.startswith("the files cannot be listed: data.source.train = ")


def test_data_that_mlflow_names_and_the_manifests_do_not_is_a_disagreement(ran):
    def words(held):
        return [finding.what for finding in record_findings(held) if finding.sure]

    held = ran.held()
    assert words(held) == []
    held.data[0] = held.data[0]._replace(digest="0" * 32)
    other, missing = words(held)
    assert "moods.csv (SHA-256 00000000000000000000000000000000…), but the model's manifests do not" in other
    assert missing.endswith("which MLflow does not list")
    held.manifests["shards"].clear()
    ((finding,),) = [list(record_findings(held))]
    assert "the manifests of its shards are not in MLflow" in finding.what
    assert not finding.sure


def test_a_model_that_was_not_made_from_the_data_beside_it_is_a_disagreement(ran):
    held = ran.held()
    held.manifests["prepare"]["files"]["splits.parquet"]["sha256"] = "0" * 64
    (finding,) = record_findings(held)
    assert finding.about.startswith("finetune")
    assert finding.what == "was not made from the prepare whose manifest is in MLflow"
    held = ran.held()
    held.training.tags[FINGERPRINT] = "0" * 64
    (finding,) = record_findings(held)
    assert finding.what == "the tag tunesmith.fingerprint is not the fingerprint of the model's manifest"


def test_manifests_that_are_gone_from_mlflow_are_a_disagreement(ran):
    held = ran.held()
    held.manifests.clear()
    (finding,) = record_findings(held)
    assert finding.what.startswith("MLflow has no manifests.json of it")
    held.training = held.training._replace(status="KILLED")  # it was not finished, so there were none
    assert list(record_findings(held)) == []


def test_an_artifact_made_of_other_bytes_is_not_the_one_recorded_in_mlflow(ran):
    """Sound by itself: its manifest was made to fit."""
    folder = ran.outcome.scores.folder
    manifest = json.loads((folder / "manifest.json").read_text())
    with other_bytes(folder / "report.html"):
        manifest["files"]["report.html"]["sha256"] = file_digest(folder / "report.html")
        with gone(folder / "manifest.json"):
            (folder / "manifest.json").write_text(json.dumps(manifest))
            (said,) = ran.words()
    assert "differs from the record in MLflow" in said


def test_a_store_that_is_not_here_is_no_disagreement_but_said(ran):
    with gone(ran.folder / "store"):
        report = ran.audit(ran.ids["moods training"])
        ((finding,),) = report.found
        assert "is not on this machine" in finding.what
        assert not report.disagrees
    moved = ran.folder / "moved"
    shutil.copytree(ran.folder / "store", moved)
    assert audit_trainings(ran.uri, ran.ids["moods"], ran.folder.name, str(moved), False).found == [[]]


def test_totals_are_worked_out_with_the_rates_of_the_recipe(ran):
    metrics = ran.client.get_run(ran.ids["moods training"]).data.metrics
    measured = ran.outcome.model.made["measured"]
    assert metrics["total/rows"] == measured["rows"] == sum(window["rows"] for window in measured["windows"])
    assert metrics["total/energy_kwh"] == pytest.approx(measured["seconds"] * 500 / 3.6e6)
    assert metrics["total/cost"] == pytest.approx(measured["seconds"] * 2 / 3600)
    assert metrics["total/samples_per_second"] == pytest.approx(measured["rows"] / measured["seconds"])
    assert {"system/cpu_utilization_percentage", "pace/tokens_per_second", "train/grad_norm"} <= metrics.keys()


@contextmanager
def running(ran, names, host, process):
    """Runs as a kill leaves them."""
    for name in names:
        ran.client.update_run(ran.ids[name], status="RUNNING")
        ran.client.set_tag(ran.ids[name], HOST, host)
        ran.client.set_tag(ran.ids[name], PROCESS, process)
    yield
    for name in names:
        ran.client.set_terminated(ran.ids[name], "FINISHED")


def test_a_run_whose_process_is_gone_is_no_longer_running(ran):
    import platform

    alive = own_mark()
    with running(ran, ["moods"], platform.node(), alive):
        assert ran.words() == []
    with running(ran, ["moods"], platform.node(), f"{os.getpid()} 1 {place()}"):  # the number was given to another
        (said,) = ran.words()
        assert "is RUNNING, but its process" in said
    with running(ran, ["moods"], "another machine", alive):
        assert ran.words() == []
        ((finding,),) = ran.audit(ran.ids["moods"]).found
        assert finding.what.startswith("is RUNNING on another machine")


def test_repair_finishes_what_was_made_and_ends_what_was_not(ran):
    import platform

    dead = {HOST: platform.node(), PROCESS: f"999999999 1 {place()}"}
    stray = ran.client.create_run(ran.experiment, run_name="stray", tags=dead).info.run_id
    before = ran.client.get_metric_history(ran.ids["moods training"], "train/loss")
    with running(ran, list(ran.ids), platform.node(), dead[PROCESS]):
        assert len(ran.audit().strays) == 1
        report = ran.audit(with_repair=True)
        assert len(report.repaired) == 4
        assert not report.disagrees
        assert {ran.client.get_run(run_id).info.status for run_id in ran.ids.values()} == {"FINISHED"}
        assert ran.client.get_run(stray).info.status == "KILLED"
        assert ran.client.get_metric_history(ran.ids["moods training"], "train/loss") == before
    with running(ran, ["moods training"], platform.node(), dead[PROCESS]), gone(ran.outcome.model.folder):
        ran.audit(with_repair=True)
        assert ran.client.get_run(ran.ids["moods training"]).info.status == "KILLED"
    ran.client.delete_run(stray)


def test_what_machines_share_is_known_by_its_manifests(ran, tmp_path, monkeypatch):
    """A far store that this machine has fetched nothing of."""
    from pipeline_lib.store.remote import RemoteStore

    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    shutil.copytree(ran.folder / "store" / "steps", tmp_path / "far" / "steps")
    held, url = ran.held(), f"file://{tmp_path}/far"
    assert disagreements(held, url) == []
    shutil.rmtree(tmp_path / "far" / "steps" / "prepare")
    (disagreement,) = disagreements(held, url)
    assert disagreement.what == f"is missing from {url}"
    assert not list(RemoteStore(url).root.glob("steps/*"))


def test_runs_and_models_of_mlflow_are_compared_by_their_ids(ran):
    sides = (ran.ids["moods"], ran.ids["moods evaluation"], ran.held().model)
    for side in sides:
        result = CliRunner().invoke(app, ["compare", side, ran.ids["moods training"], "--tracking-uri", ran.uri])
        assert result.exit_code == 0, result.output
        assert "is within chance" in " ".join(result.output.split())
    result = CliRunner().invoke(app, ["compare", "0" * 32, sides[0], "--tracking-uri", ran.uri])
    assert (result.exit_code, "does not name a training" in result.output) == (2, True)
