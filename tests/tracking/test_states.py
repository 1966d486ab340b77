"""What MLflow says of a run is true, however it ended, and nothing is told twice. `pytest tests/tracking`."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import pyarrow.parquet as pq
import pytest

from pipeline_lib.errors import RecipeError
from pipeline_lib.pipeline import steps
from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import check
from pipeline_lib.tracking.runs import DELIVERED, Tracker
from pipeline_lib.training.step import Stepper
from pipeline_lib.util.signals import Interrupts, exit_on_sigterm

STEPS = 54
"""Of 6 epochs over 36 rows, 4 a step."""
STRUCK = """
import json, os, sys, time
from pipeline_lib.recipe.schema import check
from pipeline_lib.pipeline.run import run
from pipeline_lib.training.step import Stepper
from pipeline_lib.tracking.runs import FINGERPRINT, Tracker

recipe, number, take = check(json.load(sys.stdin)), int(sys.argv[1]), Stepper.step

def shown():
    tracker = Tracker(recipe, "a test")
    runs = tracker.client.search_runs([tracker.experiment])
    return any(run.data.metrics.get("train/loss") and FINGERPRINT in run.data.tags for run in runs)

def struck(self, rows, step, rate):
    if step == 21:  # in the midst of the third epoch, and of a step
        while not shown():
            time.sleep(0.2)
        os.kill(os.getpid(), number)
    return take(self, rows, step, rate)

Stepper.step = struck
run(recipe)
"""


def struck(document, number):
    """The exit code of a run that is sent a signal while it trains."""
    command = [sys.executable, "-c", STRUCK, str(int(number))]
    done = subprocess.run(command, input=json.dumps(document), capture_output=True, text=True, timeout=400)
    return done.returncode, done.stderr


def states(document):
    """MLflow's client, and the experiment's runs by name."""
    tracker = Tracker(check(document), "a test")
    return tracker.client, {run.info.run_name: run for run in tracker.client.search_runs([tracker.experiment])}


def curve_is_whole(client, run_id, model):
    """Each record of the history is in MLflow once, later steps not before earlier ones."""
    history = pq.read_table(model.folder / "history.parquet").to_pandas()
    for (split, metric), records in history.groupby(["split", "metric"]):
        logged = client.get_metric_history(run_id, f"{split}/{metric}")
        assert sorted((m.step, m.value) for m in logged) == list(zip(records["step"], records["value"], strict=True))
        in_time = sorted(logged, key=lambda m: (m.timestamp, m.step))
        assert [m.step for m in in_time] == sorted(m.step for m in logged)


@pytest.mark.parametrize(
    ("number", "codes", "state"),
    [
        (signal.SIGKILL, [-9], "RUNNING"),
        (signal.SIGTERM, [143], "KILLED"),
        (signal.SIGINT, [-2, 1, 130], "KILLED"),
    ],
)
@pytest.mark.kill
def test_a_training_that_was_ended_says_so_and_a_rerun_goes_on_in_it(document, number, codes, state, tmp_path):
    document["execution"]["checkpoint_seconds"] = 1e-6 if number == signal.SIGKILL else 3600
    ended, said = struck(document, number)
    assert ended in codes, said
    client, before = states(document)
    assert {name: run.info.status for name, run in before.items()} == {"moods": state, "moods training": state}
    (kept_file,) = (tmp_path / "store" / "work").glob("*/step-*")
    assert kept_file.name == ("step-000000021-2" if number == signal.SIGKILL else "step-000000022-2")
    outcome = run(check(document))
    client, after = states(document)
    assert {run.info.status for run in after.values()} == {"FINISHED"}
    assert sorted(after) == ["moods", "moods evaluation", "moods training"]
    for name, one in before.items():
        assert after[name].info.run_id == one.info.run_id
    curve_is_whole(client, after["moods training"].info.run_id, outcome.model)
    assert len(client.get_metric_history(after["moods training"].info.run_id, "train/loss")) == STEPS
    document["execution"]["store"] = str(tmp_path / "unbroken")  # and its bytes are those of a run never ended
    assert run(check(document)).model.digest == outcome.model.digest


def test_a_training_interrupted_in_this_process_says_so_and_a_rerun_goes_on_in_it(document, monkeypatch, tmp_path):
    """As above, without the processes; `pytest -m kill` runs those."""
    take = Stepper.step

    def struck(self, rows, step, rate):
        if step == 21:
            signal.raise_signal(signal.SIGINT)
        return take(self, rows, step, rate)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Stepper, "step", struck)
        run(check(document))
    _, before = states(document)
    assert {name: run.info.status for name, run in before.items()} == {"moods": "KILLED", "moods training": "KILLED"}
    (kept_file,) = (tmp_path / "store" / "work").glob("*/step-*")
    assert kept_file.name == "step-000000022-2"
    outcome = run(check(document))
    client, after = states(document)
    assert {name: run.info.status for name, run in after.items()} == dict.fromkeys(after, "FINISHED")
    assert {name: after[name].info.run_id for name in before} == {name: run.info.run_id for name, run in before.items()}
    curve_is_whole(client, after["moods training"].info.run_id, outcome.model)
    assert len(client.get_metric_history(after["moods training"].info.run_id, "train/loss")) == STEPS


def test_signals_wait_for_a_safe_place_and_are_never_lost():
    with pytest.raises(KeyboardInterrupt), Interrupts() as waiting:
        signal.raise_signal(signal.SIGINT)
        assert waiting.received_signal == signal.SIGINT
        waiting.deliver()
        pytest.fail("goes on")
    with pytest.raises(KeyboardInterrupt), Interrupts():
        signal.raise_signal(signal.SIGINT)  # nobody asked for it before the end
    with pytest.raises(KeyboardInterrupt), Interrupts():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # who asks twice means it
        pytest.fail("goes on")
    with pytest.raises(SystemExit) as ended, exit_on_sigterm(), Interrupts():
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_was_logged_before_its_tag_is_not_logged_again(document):
    """MLflow keeps the metrics of a batch before its tags: a kill may fall between."""
    recipe = check(document)
    outcome = run(recipe)
    client, runs = states(document)
    training = runs["moods training"]
    client.set_tag(training.info.run_id, DELIVERED, "7")
    records = pq.read_table(outcome.model.folder / "history.parquet").to_pylist()
    Tracker(recipe, "a test").add_history(training, records)
    curve_is_whole(client, training.info.run_id, outcome.model)
    assert client.get_run(training.info.run_id).data.tags[DELIVERED] == str(len(records))


@contextmanager
def server(folder, port):
    """An MLflow server of its own."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "kept")]
    with (folder / "server.txt").open("w") as said:
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said, start_new_session=True)
        try:
            for _ in range(300):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
                    break
                except OSError:
                    time.sleep(0.4)
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.server
def test_mlflow_away_during_training_gets_everything_later(document, tmp_path, monkeypatch, caplog, capfd):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    document["execution"]["tracking_uri"] = f"http://me:plantedTracking@127.0.0.1:{port}"
    with pytest.raises(RecipeError, match="Nothing is lost: run the same command again"):
        run(check(document))
    assert "training continues" in caplog.text
    with server(tmp_path, port):
        outcome = run(check(document))
        again = run(check(document))
        client, runs = states(document)
        assert outcome.model.reused
        assert again.published == outcome.published
        assert outcome.published["training"].startswith(f"http://127.0.0.1:{port}/#/experiments/")
        assert sorted(runs) == ["moods", "moods evaluation", "moods training"]
        assert {run.info.status for run in runs.values()} == {"FINISHED"}
        curve_is_whole(client, runs["moods training"].info.run_id, outcome.model)
    said = caplog.text + "".join(capfd.readouterr())
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not [str(file) for file in files if b"plantedTracking" in file.read_bytes()]
    assert "plantedTracking" not in said


def test_an_evaluation_waits_for_the_training_that_was_never_shown(document):
    """`steps` alone, as a flow calls them, with an MLflow that comes back between them."""
    away = document | {"execution": document["execution"] | {"tracking_uri": "http://127.0.0.1:9"}}
    recipe, back = check(away), check(document)
    data = steps.prepare(recipe)
    start = steps.initialise(recipe, data)
    model = steps.finetune(recipe, data, start)
    steps.publish(back, data, model, steps.evaluate(back, data, steps.checks(back, data, start), model))
    client, runs = states(document)
    curve_is_whole(client, runs["moods training"].info.run_id, model)
