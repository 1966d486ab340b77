"""Killed while MLflow is told, and run again: each thing is there once, and no run is left open. `pytest tests/kill`"""

import shutil
import signal
import sqlite3
from contextlib import closing

import pytest
from kill_ground import document
from kill_witness import Point

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
def test_killed_while_mlflow_is_told(zygote, tables, tmp_path, moment):
    shutil.copytree(tables, tmp_path, dirs_exist_ok=True)
    assert publish(zygote, tmp_path, TELLING[moment]).status == -signal.SIGKILL
    life = publish(zygote, tmp_path)
    assert (life.status, life.told("warning", "raised")) == (0, [])
    names = {"no_checkpoint", "no_checkpoint training", "no_checkpoint evaluation"}
    assert sorted(ask(tmp_path, "select name, status from runs")) == sorted((name, "FINISHED") for name in names)
    assert ask(tmp_path, "select count(*) from logged_models") == [(1,)]
    counts = ask(tmp_path, "select count(*) from metrics where key like 'train/%' group by run_uuid, key, step")
    assert {*counts} == {(1,)}
