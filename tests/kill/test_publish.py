"""Killed while MLflow is told, and run again: each thing is there once, and no run is left open. `pytest tests/kill`"""

import shutil
import signal
import sqlite3
import tempfile
from contextlib import closing

import pytest
from kill_ground import document
from kill_witness import Point
from typer.testing import CliRunner

from pipeline_lib.cli.main import app
from pipeline_lib.util.temporary import find_left_folders

pytestmark = pytest.mark.kill

TELLING = {  # MLflow's own calls by name, so that the point does not depend on how fast its thread is
    "the parent run has no child yet": Point(2, "create_run"),
    "the first records are taken, their count is not": Point(1, "_set_tags"),
}


@pytest.fixture(scope="module")
def tables(zygote, tmp_path_factory):
    """A folder with MLflow's empty tables, which take seconds to make."""
    folder = tmp_path_factory.mktemp("tables")
    publish(zygote, folder, Point(1, "create_run"))
    return folder


def publish(zygote, folder, point=None):
    """A run that is told to MLflow; its life."""
    recipe = document("no_checkpoint", zygote.ground, folder / "store")
    recipe["execution"] |= {"tracking_uri": f"sqlite:///{folder / 'mlflow.db'}", "experiment": "killed"}
    return zygote.live(recipe, point, publish=True)


def ask(folder, question):
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        return connection.execute(question).fetchall()


@pytest.mark.parametrize("moment", TELLING)
def test_killed_while_publishing_to_mlflow(zygote, tables, tmp_path, moment):
    shutil.copytree(tables, tmp_path, dirs_exist_ok=True)
    assert publish(zygote, tmp_path, TELLING[moment]).status == -signal.SIGKILL
    life = publish(zygote, tmp_path)
    assert (life.status, life.lines_of("warning", "raised")) == (0, [])
    names = {"no_checkpoint", "no_checkpoint training", "no_checkpoint evaluation"}
    assert sorted(ask(tmp_path, "select name, status from runs")) == sorted((name, "FINISHED") for name in names)
    assert ask(tmp_path, "select count(*) from logged_models") == [(1,)]
    counts = ask(tmp_path, "select count(*) from metrics where key like 'train/%' group by run_uuid, key, step")
    assert {*counts} == {(1,)}


@pytest.fixture
def cut_off(zygote, tables, tmp_path, monkeypatch):
    """A folder where a run was killed while its model was copied to MLflow."""
    monkeypatch.setattr(tempfile, "tempdir", str(zygote.temporary))
    shutil.copytree(tables, tmp_path, dirs_exist_ok=True)
    before = set(find_left_folders())
    assert publish(zygote, tmp_path, Point(1, "log_model_artifacts")).status == -signal.SIGKILL
    (copy,) = set(find_left_folders()) - before
    assert list(copy.rglob("model.safetensors"))
    assert models(tmp_path) == ["PENDING"]
    return tmp_path, copy


def models(folder):
    status = {1: "PENDING", 2: "READY", 3: "UPLOAD_FAILED"}
    return [status[code] for (code,) in ask(folder, "select status from logged_models")]


def audit(folder, *options):
    arguments = ["--experiment", "killed", "--tracking-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    return CliRunner().invoke(app, ["audit", *arguments, *options])


def test_a_model_whose_logging_was_cut_off_is_named_and_completed(zygote, cut_off):
    folder, copy = cut_off
    found = audit(folder)
    assert (found.exit_code, "is PENDING: its logging was interrupted" in found.output) == (1, True), found.output
    assert audit(folder, "--repair").exit_code == 0
    assert models(folder) == ["READY"]
    collected = CliRunner().invoke(app, ["cache", "gc", "--older-than", "1d", "--store", str(folder / "store")])
    assert f"removed {copy}, left over from a killed process" in collected.output.replace("\n", "")
    assert not copy.exists()


def test_the_next_run_completes_a_model_whose_logging_was_cut_off(zygote, cut_off):
    folder, _ = cut_off
    assert publish(zygote, folder).status == 0
    assert models(folder) == ["READY"]
    assert audit(folder).exit_code == 0


def test_a_model_that_cannot_be_completed_is_failed_and_a_later_run_makes_it_ready(zygote, cut_off):
    folder, _ = cut_off
    (folder / "store").rename(folder / "away")
    repaired = audit(folder, "--repair")
    assert "was left PENDING; now FAILED" in repaired.output
    assert models(folder) == ["UPLOAD_FAILED"]
    assert "PENDING" not in audit(folder).output
    (folder / "away").rename(folder / "store")
    assert publish(zygote, folder).status == 0
    assert models(folder) == ["READY"]
