"""One `tunesmith up` for all tests of this folder, in a folder and on ports of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import psutil
import pytest
import yaml

ROOT = Path(__file__).parents[2]
UP = "import typer; from deployments.up.command import up; typer.run(up)"


def pytest_collection_modifyitems(items):
    """Give all tests of `running` to one process: two stacks of servers at once are too slow for their time limits."""
    for item in items:
        if "running" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("running"))


def until(true, seconds=300, what=""):
    """Wait for something to become true, and give it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s: {what or true}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Running:
    """A running `up`: its folder, its addresses, and what a test asks of its Prefect."""

    def __init__(self, folder, *options, **environment):
        self.folder, self.ports, self.token = folder, (free_port(), free_port()), ""
        self.prefect, self.mlflow = (f"http://127.0.0.1:{port}" for port in self.ports)
        self.planted = folder / "planted"
        self.planted.mkdir(parents=True)
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
        paths = f"{ROOT}{os.pathsep}{Path(__file__).parent}"
        own |= {"PYTHONPATH": paths, "PLANTED": str(self.planted), "PREFECT_HOME": str(folder / "home"), **environment}
        ports = ["--prefect-port", str(self.ports[0]), "--mlflow-port", str(self.ports[1])]
        with (folder / "said.txt").open("w") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-c", UP, *ports, *options], cwd=folder, env=own, stdout=said, stderr=said
            )

    until = staticmethod(until)

    @property
    def said(self):
        return (self.folder / "said.txt").read_text()

    def wait(self):
        until(lambda: "Ctrl-C stops" in self.said or self.process.poll() is not None, 150, "up")
        assert self.process.poll() is None, self.said
        return self

    def family(self):
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, *words):
        """The process started by `up`, directly or not, with these words in its command."""
        for process in self.family():
            with suppress(psutil.Error):
                if all(word in " ".join(process.cmdline()) for word in words):
                    return process
        return None

    def ask(self, path, body=None, method="POST"):
        data = None if method == "GET" else json.dumps(body or {}).encode()
        headers = {"content-type": "application/json"}
        if method != "GET":
            headers |= self.csrf()
        request = urllib.request.Request(f"{self.prefect}/api{path}", data, headers, method=method)
        while True:
            try:
                with urllib.request.urlopen(request, timeout=30) as page:
                    return json.loads(page.read() or b"null")
            except urllib.error.HTTPError as error:
                if error.code != 503:  # SQLite was busy: Prefect's client tries again, too
                    raise
                time.sleep(0.5)

    def csrf(self):
        """The headers that every change of Prefect's state needs."""
        if not self.token:
            self.token = self.ask("/csrf-token?client=tests", method="GET")["token"]
        return {"Prefect-Csrf-Token": self.token, "Prefect-Csrf-Client": "tests"}

    def checkpoints(self):
        """The folders of the checkpoints that there are, of other tests as well."""
        return set((self.folder / "artifacts" / "work").glob("*/step-*"))

    def start(self, deployment, parameters):
        return self.ask(f"/deployments/{deployment}/create_flow_run", {"parameters": parameters})["id"]

    def deployment(self, name):
        return self.ask(f"/deployments/name/{name}/{name}", method="GET")

    def state(self, flow_run):
        return self.ask(f"/flow_runs/{flow_run}", method="GET")["state"]

    def ends(self, flow_run, name, seconds=300):
        """Wait until a flow run has ended, and see that it ended so."""
        ended = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        state = until(lambda: (s := self.state(flow_run))["type"] in ended and s, seconds, f"{flow_run} {name}")
        if state["name"] == "Crashed" != name:
            time.sleep(3)  # its flow may yet say that it was cancelled
            state = self.state(flow_run)
        assert state["name"] == name, state
        return state

    def tasks(self, flow_run):
        """Step -> its last task run."""
        runs = self.ask("/task_runs/filter", {"flow_runs": {"id": {"any_": [flow_run]}}})
        runs.sort(key=lambda run: run["expected_start_time"])
        return {run["name"].rsplit("-", 1)[0]: run for run in runs}

    def retry(self, flow_run):
        """What the button Retry does; again where the worker tells of the crash that was before only now."""
        state = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from a test"}
        before = self.ask(f"/flow_runs/{flow_run}", method="GET")["run_count"]

        def begun():
            state_now = self.ask(f"/flow_runs/{flow_run}", method="GET")
            if state_now["run_count"] == before and state_now["state"]["type"] in ("CRASHED", "FAILED"):
                self.ask(f"/flow_runs/{flow_run}/set_state", {"state": state, "force": True})
            return state_now["run_count"] > before

        until(begun, 90, "the retry")

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(timeout=90)


class Webhook(HTTPServer):
    """What a team's chat is told, in the order of its coming."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Hook)
        self.messages = []

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_address[1]}/services/secret-place"


class Hook(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.messages.append(json.loads(self.rfile.read(int(self.headers["content-length"])))["text"])
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def webhook():
    server = Webhook()
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def recipes(tmp_path_factory, tiny_bert):
    """The folder of recipes that the worker and the form have: one quick recipe, called `moods`."""
    folder = tmp_path_factory.mktemp("recipes")
    texts = {"glad": ("a fine day", "the sun is warm"), "sad": ("the soup is cold", "it rains on my shoes")}
    places = ("at home", "in town", "by the sea", "near the mill", "on the train", "with my sister")
    rows = [f"{text} {place},{mood}" for mood, said in texts.items() for text in said for place in places]
    (folder / "moods.csv").write_text("\n".join(["text,mood", *rows]))
    recipe = {
        "name": "moods",
        "data": {
            "source": {"kind": "csv", "train": "moods.csv"},
            "columns": {"label": "mood"},
            "split": {"validation": 0.2, "test": 0.2},
        },
        "model": {"base": str(tiny_bert)},
        "objective": {"kind": "text_classification"},
        "training": {"epochs": 6, "learning_rate": 5e-3, "batch_size": 4},
        "execution": {"device": "cpu", "precision": "fp32"},
    }
    (folder / "moods.yaml").write_text(yaml.safe_dump(recipe))
    return folder


@pytest.fixture(scope="session")
def running(tmp_path_factory, webhook, recipes):
    """A running `up` whose deployment `planted` runs planted.py."""
    environment = {"TUNESMITH_NOTIFY": webhook.address, "TUNESMITH_RECIPES": str(recipes)}
    up = Running(tmp_path_factory.mktemp("up"), **environment)
    try:
        up.wait()
        fields = ("flow_id", "work_pool_name", "parameter_openapi_schema", "enforce_parameter_schema")
        deployment = up.deployment("finetune-recipe")
        planted = {"name": "planted", "entrypoint": "planted.finetune", "pull_steps": []}
        up.planted_id = up.ask("/deployments/", planted | {key: deployment[key] for key in fields})["id"]
        yield up
    finally:
        up.stop()


@pytest.fixture
def form_recipe(document):
    """The recipe as a form sends it: store and MLflow are those of the worker."""
    for key in ("store", "tracking_uri", "experiment"):
        del document["execution"][key]
    return document
