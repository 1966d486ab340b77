"""What MLflow says of a training is true after an outage, however the training ended. `pytest tests/tracking`

Seven trainings begin side by side, lose their server in the midst, and end in their own ways; another one begins and
ends while it is away. Then the server comes back, and one more run or command settles all that is left.
"""

import csv
import json
import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import yaml
from conftest import MOODS, PLACES
from mlflow.tracking import MlflowClient
from mlflow_server import MlflowServer
from typer.testing import CliRunner

from pipeline_lib.cli.main import app
from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import check
from pipeline_lib.store.remote import open_store
from pipeline_lib.tracking.note_delivery import deliver_note
from pipeline_lib.tracking.process_marks import own_mark, place
from pipeline_lib.tracking.run_note import NOTE, RunNote, notes, read_note
from pipeline_lib.tracking.runs import HOST, PROCESS, Tracker
from tasks.settle import settle_runs as settled_hook

TRAININGS = """
import json, os, signal, sys, time, traceback
from pathlib import Path
from pipeline_lib.models import building as build
from pipeline_lib.recipe.schema import check
from pipeline_lib.pipeline.run import run
from pipeline_lib.tracking import availability as answering, publish as deliver, left_runs
from pipeline_lib.training import finetune
from pipeline_lib.training.step import Stepper
from transformers import BertForSequenceClassification

FLOW_RUN = "01234567-89ab-4cde-8f01-23456789abcd"
take, answering.WAIT = Stepper.step, 0

def wait_for(name):
    while not Path(name).exists():
        time.sleep(0.05)

def train(how, document):
    def step(self, rows, number, rate):
        if number == 21 and how != "unseen":
            Path(f"{how} is in its midst").touch()
            wait_for("the server is away")
        if number == 30:
            if how in ("term", "command", "unseen"):
                os.kill(os.getpid(), signal.SIGTERM)
            if how in ("kill", "hook"):
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "fail":
                raise RuntimeError("as planned")
            if how == "live":
                Path("live waits").touch()
                wait_for("the end")
        return take(self, rows, number, rate)

    Stepper.step = step
    if how == "unseen":
        wait_for("the server is away")
    run(check(document), f"flow run {how} ({FLOW_RUN})" if how == "hook" else "a plain call")

processes = {}
for how, document in json.load(sys.stdin).items():
    if (child := os.fork()) == 0:
        code = 1
        try:
            train(how, document)
        except SystemExit as ended:
            code = ended.code
        except Exception:
            traceback.print_exc()
        os._exit(code)
    processes[child] = how
    Path(f"{how} began").write_text(str(child))
while processes:
    child, status = os.wait()
    Path(f"{processes.pop(child)} ended with {os.waitstatus_to_exitcode(status)}").touch()
"""
ENDS = {"term": 143, "kill": -9, "fail": 1, "finish": 1, "unseen": 143, "command": 143, "hook": -9}
"""How each ends, with its exit code; `finish` trains to the end, and finds nobody to publish to."""


def wait_until(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


class Scene:
    """The trainings with their places, before and after the server came back."""

    def __init__(self, folder, base, server):
        self.folder, self.base, self.server = folder, base, server
        self.client = MlflowClient(server.uri)
        with (folder / "moods.csv").open("w", newline="", encoding="utf-8") as file:
            rows = [(f"{text} {place}", mood) for mood, texts in MOODS.items() for text in texts for place in PLACES]
            csv.writer(file).writerows([("text", "mood"), *rows])
        self.process = self.train()

    def play(self):
        """From the outage to the server's return."""
        for how in (*ENDS, "live"):
            if how != "unseen":
                wait_until(lambda how=how: "training" in self.runs(how))
                wait_until(lambda how=how: "train/loss" in self.training(how).data.metrics)
                self.wait_for(f"{how} is in its midst")
        self.server.kill()
        (self.folder / "the server is away").touch()
        for how in ENDS:
            self.wait_for(f"{how} ended with *")
        self.wait_for("live waits")
        self.noted = {
            note.recipe["name"]: note for store in ("store", "command", "hook") for _, note in self.notes(store)
        }
        self.server.start()
        self.left = {how: self.training(how).info.status for how in (*ENDS, "live") if how != "unseen"}

    def document(self, how):
        """The recipe of a training; each has a seed of its own."""
        alone = how if how in ("command", "hook") else None
        return {
            "name": how,
            "seed": 1 + [*ENDS, "live", "next"].index(how),
            "data": {
                "source": {"kind": "csv", "train": str(self.folder / "moods.csv")},
                "columns": {"text": "text", "label": "mood"},
                "split": {"validation": 0.2, "test": 0.2},
            },
            "model": {"base": str(self.base)},
            "objective": {"kind": "text_classification"},
            "training": {"epochs": 6, "learning_rate": 5e-3, "batch_size": 4},
            "execution": {
                "store": str(self.folder / ("store" if alone is None else alone)),
                "tracking_uri": self.server.uri,
                "experiment": alone or "moods",
                "device": "cpu",
                "precision": "fp32",
            },
        }

    def train(self):
        """Start all trainings, each in a process of its own."""
        with (self.folder / "log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", TRAININGS],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        process.stdin.write(json.dumps({how: self.document(how) for how in (*ENDS, "live")}).encode())
        process.stdin.close()
        return process

    def wait_for(self, pattern):
        wait_until(lambda: list(self.folder.glob(pattern)))

    def code(self, how):
        """The exit code of a training that has ended, None where it has not."""
        ended = list(self.folder.glob(f"{how} ended with *"))
        return int(ended[0].name.split()[-1]) if ended else None

    def runs(self, how):
        """A training's runs by what they are: the last word of the name, or "" for the one around the others."""
        experiment = self.client.get_experiment_by_name(self.document(how)["execution"]["experiment"])
        if experiment is None:
            return {}
        found = self.client.search_runs([experiment.experiment_id])
        mine = [run for run in found if run.info.run_name.split()[0] == how]
        runs = {run.info.run_name.removeprefix(how).strip(): run for run in mine}
        assert len(runs) == len(mine), "a run is there twice"
        return runs

    def training(self, how):
        return self.runs(how)["training"]

    def statuses(self, how):
        return {kind: run.info.status for kind, run in self.runs(how).items()}

    def notes(self, store="store"):
        return list(notes(self.folder / store))

    def work(self, how):
        """The folder of a training that did not come to its end."""
        return self.folder / self.document(how)["execution"]["store"] / "work" / self.noted[how].fingerprint

    def curves_are_whole(self, how):
        """Every record that the training wrote is in MLflow once, in the order of the steps."""
        expected = {}
        for line in (self.work(how) / "records.jsonl").read_text().splitlines():
            record = json.loads(line)
            expected.setdefault(f"{record['split']}/{record['metric']}", []).append((record["step"], record["value"]))
        assert max(step for step, _ in expected["train/loss"]) >= 29
        for metric, points in expected.items():
            logged = self.client.get_metric_history(self.training(how).info.run_id, metric)
            logged.sort(key=lambda point: (point.timestamp, point.step))
            assert [(point.step, point.value) for point in logged] == points


@pytest.fixture(scope="module")
def scene(tmp_path_factory, tiny_bert):
    folder = tmp_path_factory.mktemp("left")
    with pytest.MonkeyPatch.context() as patch, MlflowServer(folder / "server") as server:
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        patch.chdir(folder)
        scene = Scene(folder, tiny_bert, server)
        try:
            scene.play()
            yield scene
        finally:
            os.killpg(scene.process.pid, signal.SIGKILL)
            scene.process.wait()


@pytest.fixture(scope="module")
def settled(scene):
    """The same after one more run, of another recipe in the same store."""
    document = scene.document("next")
    document["training"]["epochs"] = 1
    run(check(document))
    return scene


@pytest.mark.server
def test_an_outage_leaves_runs_running_and_their_ends_on_disk(scene):
    assert {how: scene.code(how) for how in ENDS} == ENDS, (scene.folder / "log").read_text()
    assert set(scene.left.values()) == {"RUNNING"}
    ends = {how: note.status for how, note in scene.noted.items()}
    unsaid = dict.fromkeys(("kill", "hook", "live"))  # killed at once, or not over yet
    assert ends == unsaid | dict.fromkeys(("term", "unseen", "command"), "KILLED") | {"fail": "FAILED"}


@pytest.mark.server
def test_a_note_of_another_machine_or_boot_is_left_alone(scene):
    """It may be in a store that machines share, on a disk whose locks do not reach from one to another."""
    work = scene.work("kill")
    note = read_note(work)
    other = note.mark.replace(note.mark.split()[2], "0b5f8a3e-0000-4000-8000-000000000000")
    replace(note, mark=other).write(work)
    assert deliver_note(open_store(str(scene.folder / "store")), work, scene.server.uri) is None
    assert read_note(work).mark == other
    replace(note, mark=note.mark.replace(note.mark.split()[3], "1")).write(
        work
    )  # of another container, for what follows
    assert scene.statuses("kill") == {"": "RUNNING", "training": "RUNNING"}


@pytest.mark.server
@pytest.mark.parametrize(("how", "status"), [("term", "KILLED"), ("kill", "KILLED"), ("fail", "FAILED")])
def test_the_next_run_settles_what_ended_during_an_outage(settled, how, status):
    assert settled.statuses(how) == {"": status, "training": status}
    settled.curves_are_whole(how)
    info = settled.training(how).info
    assert info.end_time < settled.runs("next")[""].info.start_time  # when it ended, and not when MLflow heard of it


@pytest.mark.server
def test_a_training_that_mlflow_never_saw_is_there_as_well(settled):
    assert settled.statuses("unseen") == {"": "KILLED", "training": "KILLED"}
    settled.curves_are_whole("unseen")
    training = settled.training("unseen")
    assert training.data.params["training.epochs"] == "6"
    assert "recipe.yaml" in {file.path for file in settled.client.list_artifacts(training.info.run_id)}


@pytest.mark.server
def test_a_training_that_was_finished_is_published(settled):
    assert settled.statuses("finish")["training"] == "FINISHED"
    assert "RUNNING" not in settled.statuses("finish").values()


@pytest.mark.server
def test_a_live_training_is_left_alone(settled):
    assert settled.code("live") is None
    assert settled.statuses("live") == {"": "RUNNING", "training": "RUNNING"}
    assert [note.recipe["name"] for _, note in settled.notes()] == ["live"]


@pytest.mark.server
def test_nothing_is_settled_twice(settled):
    def everything():
        return {how: {kind: run.to_dictionary() for kind, run in settled.runs(how).items()} for how in ENDS}

    before = everything()
    document = settled.document("next")
    run(check(document))  # trains for longer
    assert everything() == before


@pytest.mark.server
def test_a_command_that_looks_into_mlflow_settles_what_a_training_had_to_say(scene):
    assert scene.statuses("command") == {"": "RUNNING", "training": "RUNNING"}
    arguments = ["audit", "--experiment", "command", "--tracking-uri", scene.server.uri]
    done = CliRunner().invoke(app, arguments)
    assert "command training" in done.output
    assert scene.statuses("command") == {"": "KILLED", "training": "KILLED"}
    scene.curves_are_whole("command")


@pytest.mark.server
def test_prefects_hook_settles_what_its_flow_run_could_not(scene, monkeypatch):
    """In the process of a worker, which knows the parameters and has killed the flow's process."""
    document, flow = scene.document("hook"), "01234567-89ab-4cde-8f01-23456789abcd"
    (scene.folder / "recipes").mkdir()
    (scene.folder / "recipes" / "hook.yaml").write_text(yaml.safe_dump(document))
    monkeypatch.setenv("TUNESMITH_RECIPES", str(scene.folder / "recipes"))
    settled_hook(None, SimpleNamespace(id=flow.replace("0", "f"), parameters={"recipe": document}), None)
    settled_hook(None, SimpleNamespace(id=flow, parameters={"recipe": scene.document("next")}), None)
    assert scene.statuses("hook") == {"": "RUNNING", "training": "RUNNING"}
    settled_hook(None, SimpleNamespace(id=flow, parameters={"recipe": "hook", "overrides": ["seed=3"]}), None)
    assert scene.statuses("hook") == {"": "KILLED", "training": "KILLED"}
    scene.curves_are_whole("hook")


@pytest.mark.parametrize(
    ("status", "holder", "noted", "goes"),
    [
        ("FINISHED", (platform.node(), "1 2 other"), False, True),
        ("RUNNING", ("another machine", "1 2 other"), False, True),
        ("RUNNING", (platform.node(), own_mark()), False, True),  # somebody is at work on it
        ("RUNNING", (platform.node(), own_mark()), True, False),
        ("RUNNING", (platform.node(), f"999999999 1 {place()}"), False, False),  # an earlier process, which was killed
        ("KILLED", ("another machine", "1 2 other"), False, False),  # as it was when this machine went on with it
    ],
)
def test_a_note_goes_where_somebody_else_went_on_with_the_training(recipe, tmp_path, status, holder, noted, goes):
    note = RunNote.from_recipe(recipe, "f" * 64, "a test", {"data": []})
    note.holders, note.status, work = ([[*holder]] if noted else []), "KILLED", tmp_path / "store" / "work" / ("f" * 64)
    work.mkdir(parents=True)
    note.write(work)
    tracker = Tracker(recipe, "a test")
    run = tracker.find_or_start_run("training", note.fingerprint)
    for name, value in zip((HOST, PROCESS), holder, strict=True):
        tracker.client.set_tag(run.info.run_id, name, value)
    tracker.client.update_run(run.info.run_id, status=status)
    uri = recipe.execution.tracking_uri
    assert (deliver_note(open_store(recipe.execution.store), work, uri) is None) == goes
    assert read_note(work) is None
    assert tracker.client.get_run(run.info.run_id).info.status == (status if goes else "KILLED")


@pytest.mark.server
def test_a_rerun_goes_on_in_the_same_run(settled):
    before = {kind: run.info.run_id for kind, run in settled.runs("term").items()}
    outcome = run(check(settled.document("term")))
    assert set(settled.statuses("term").values()) == {"FINISHED"}
    assert {kind: settled.runs("term")[kind].info.run_id for kind in before} == before
    assert not outcome.model.reused


@pytest.mark.server
def test_a_live_training_can_be_ended_and_says_so_itself(settled):
    os.kill(int((settled.folder / "live began").read_text()), signal.SIGTERM)
    (settled.folder / "the end").touch()
    settled.wait_for("live ended with 143")
    assert settled.statuses("live") == {"": "KILLED", "training": "KILLED"}
    settled.curves_are_whole("live")
    assert not list((settled.folder / "store" / "work").glob(f"*/{NOTE}"))


def test_a_note_holds_no_password(recipe, tmp_path):
    execution = recipe.execution.model_copy(update={"tracking_uri": "http://me:plantedNote@127.0.0.1:9/mlflow/"})
    note = RunNote.from_recipe(recipe.model_copy(update={"execution": execution}), "f", "a test", {})
    note.write(tmp_path)
    assert "plantedNote" not in (tmp_path / NOTE).read_text()
    assert read_note(tmp_path) == note
    assert note.server == "http://127.0.0.1:9/mlflow"
