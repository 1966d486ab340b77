"""A training run again from what MLflow holds. `pytest tests/audit/test_reproduce.py`."""

import json
import os
import shutil

import pytest
from typer.testing import CliRunner

from pipeline_lib.audit import reproduce as again
from pipeline_lib.audit.reproduce import reproduce
from pipeline_lib.cli.main import app
from pipeline_lib.errors import RecipeError


def test_the_same_bytes_come_again_and_the_first_runs_are_left_alone(ran, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    held = ran.held()
    before = {run.id: held.client.get_run(run.id).to_dictionary() for run in held.runs}
    os.rename(ran.folder / "store", ran.folder / "aside")  # MLflow is enough
    options = ["--tracking-uri", ran.uri, "--store", "again", "--json"]
    said = CliRunner().invoke(app, ["reproduce", held.training.id, *options])
    os.rename(ran.folder / "aside", ran.folder / "store")
    assert said.exit_code == 0, said.output
    report = {"weights": True, "predictions": True, "metrics": {}, "changed": [], "same": True}
    assert json.loads(said.stdout) == report | {"store": str(tmp_path / "again")}
    assert (tmp_path / "again" / "steps" / "finetune" / ran.outcome.model.fingerprint[:16]).is_dir()
    assert {run_id: held.client.get_run(run_id).to_dictionary() for run_id in before} == before


def test_other_bytes_are_reported_with_score_differences_and_what_changed(ran, tmp_path):
    """As if the first run had come to other figures, with other software, code and precision."""
    held, outcome = ran.held(), ran.outcome
    held.manifests["finetune"]["files"]["model/model.safetensors"]["sha256"] = "0" * 64
    held.manifests["finetune"]["identity"]["code"]["pipeline_lib.training.loop"] = "1" * 64
    held.environment["software"]["torch"] = "2.0.0"
    held.environment["machine"]["cpu"] = "Another"
    scores = json.loads((outcome.scores.folder / "metrics.json").read_text())
    accuracy = scores["metrics"]["accuracy"]["value"]
    scores["metrics"]["accuracy"]["value"] = accuracy - 0.25
    manifest = json.loads((outcome.scores.folder / "manifest.json").read_text())
    manifest["files"]["predictions.parquet"]["sha256"] = "0" * 64
    held.json = lambda run, path: {"manifest.json": manifest, "metrics.json": scores}[path]
    report = reproduce(held, tmp_path / "again")
    assert (report.weights, report.predictions, report.same) == (False, False, False)
    assert report.metrics == {"accuracy": (accuracy - 0.25, accuracy)}
    lines = list(report.lines())
    assert lines[:2] == ["weights     different", "predictions different"]
    assert lines[2].endswith("now (+0.25)")
    now = held.client.get_run(held.training.id)
    assert now.info.status == "FINISHED"
    assert [line.split(" ")[0] for line in report.changed] == ["the", "torch", "machine.cpu"]
    assert report.changed[0] == "the code of pipeline_lib.training.loop changed"
    assert report.changed[1].startswith("torch 2.0.0 → ")


def test_data_of_other_bytes_is_refused_by_its_name(ran, tmp_path):
    held, original = ran.held(), (ran.folder / "moods.csv").read_text()
    (ran.folder / "moods.csv").write_text(original + "one more,glad\n")
    with pytest.raises(RecipeError, match=r"data.source.train = '.*moods.csv': has grown by 14 bytes, so"):
        reproduce(held, tmp_path / "again")
    (ran.folder / "moods.csv").write_text(original)
    assert not (tmp_path / "again").exists()


def test_a_base_of_other_bytes_is_refused_by_its_file(ran, tmp_path, tiny_bert):
    held = ran.held()
    shutil.copytree(tiny_bert, tmp_path / "base")
    (tmp_path / "base" / "config.json").write_text((tiny_bert / "config.json").read_text() + "\n")
    held.recipe["model"]["base"] = str(tmp_path / "base")
    with pytest.raises(RecipeError, match=r"model.base = .*: has changed since the run \(config.json\)"):
        reproduce(held, tmp_path / "again")


def test_what_a_store_holds_is_not_taken_for_a_second_run(ran, tmp_path):
    with pytest.raises(RecipeError, match="--store = .*store': is not empty"):
        reproduce(ran.held(), ran.folder / "store")


def test_a_training_that_was_not_finished_is_refused(ran, tmp_path):
    held = ran.held()
    held.manifests.clear()
    with pytest.raises(RecipeError, match="RUN = '[0-9a-f]+': is not a finished training"):
        reproduce(held, tmp_path / "again")


def test_facts_are_compared_by_their_path():
    then = {"code": {"pipeline_lib.a": "1"}, "machine": {"gpus": []}, "training": {"device": "cpu"}}
    now = {"code": {"pipeline_lib.a": "2"}, "machine": {"gpus": ["H100"]}, "training": {"device": "cuda"}}
    assert [str(change) for change in again._find_changed_facts(then, now)] == [
        "the code of pipeline_lib.a changed",
        "machine.gpus [] → nothing",
        'machine.gpus.0 nothing → "H100"',
        'training.device "cpu" → "cuda"',
    ]
