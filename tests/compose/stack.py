"""The stack of deployments/compose.yaml, as a test starts, asks and hurts it."""

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = (ROOT / "deployments" / "compose.yaml", Path(__file__).parent / "second-worker.yaml")
PREFECT, MLFLOW = "http://localhost:47320", "http://localhost:47350"
SECRETS = {
    "POSTGRES_PASSWORD": "p@ss:w/o%rd#?&\"$x' é",
    "AWS_SECRET_ACCESS_KEY": "s3/cr+et=@:%$",
    "TUNESMITH_PASSWORD": "d@or:k/ey%20#?&\"$x' ~",
}
"""With everything that breaks URLs and shells."""
ACCOUNT = {"authorization": "Basic " + b64encode(f"tunesmith:{SECRETS['TUNESMITH_PASSWORD']}".encode()).decode()}
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
KILL_WORKER = """
import psutil
for process in psutil.process_iter():
    if process.ppid() == 1:
        process.kill()
"""
"""Container -> gone: its init ends with the worker, and takes the training along."""
MANIFESTS = """
import json, s3fs, sys
files = s3fs.S3FileSystem()
print(json.dumps([json.loads(files.cat(path)) for path in files.glob(sys.argv[1])]))
"""


def until(true, seconds, what):
    """Wait for something to become true, and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.5)
    raise AssertionError(f"not within {seconds} s: {what}")


class Stack:
    """A compose project of its own, on ports of its own, with the recipes of a folder."""

    def __init__(self, recipes):
        self.environment = {
            **os.environ,
            **SECRETS,
            "PREFECT_PORT": PREFECT.rpartition(":")[2],
            "MLFLOW_PORT": MLFLOW.rpartition(":")[2],
            "TUNESMITH_RECIPES": str(recipes),
            "TUNESMITH_WORKER_CPUS": "1",  # one thread: more are slow out of proportion beside other work
        }

    def compose(self, *command, check=True, seconds=1800):
        """Run `docker compose`, and return what it prints."""
        files = [option for file in FILES for option in ("--file", str(file))]
        whole = ["docker", "compose", "--project-name", "tunesmith-test", *files, *command]
        done = subprocess.run(whole, env=self.environment, capture_output=True, text=True, timeout=seconds)
        assert not check or done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def up(self, *services):
        self.compose("up", "--detach", "--wait", *services, seconds=600)

    def inside(self, service, *command):
        """Run a command in a service's container, and return what it prints."""
        return self.compose("exec", "-T", service, *command)

    def inspect(self, service):
        (container,) = self.compose("ps", "--all", "--quiet", service).split()
        shown = subprocess.run(["docker", "inspect", container], capture_output=True, text=True, check=True)
        return json.loads(shown.stdout)[0]

    def outage(self, service, seconds):
        """Kill a service, and start it again a little later."""
        self.compose("kill", service)
        time.sleep(seconds)
        self.up(service)

    def ask(self, path, body=None, method="POST"):
        """Ask Prefect's API; while its database is away it answers 500 or 503, and a moment later again."""
        data = None if method == "GET" else json.dumps(body or {}).encode()
        headers = {"content-type": "application/json", **ACCOUNT}
        if method != "GET":
            token = self.ask("/csrf-token?client=tests", method="GET")["token"]
            headers |= {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "tests"}
        request = urllib.request.Request(f"{PREFECT}/api{path}", data, headers, method=method)
        for _ in range(60):
            try:
                with urllib.request.urlopen(request, timeout=30) as page:
                    return json.loads(page.read() or b"null")
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    raise AssertionError(f"{path}: {error.code} {error.read().decode()}") from None
            except OSError:
                pass
            time.sleep(1)
        raise AssertionError(f"{path}: no answer for a minute")

    def deployment(self, name):
        return self.ask(f"/deployments/name/{name}/{name}", method="GET")

    def start(self, deployment, **parameters):
        """Start a run of a deployment, and return its id."""
        path = f"/deployments/{self.deployment(deployment)['id']}/create_flow_run"
        return self.ask(path, {"parameters": parameters})["id"]

    def run(self, flow_run):
        return self.ask(f"/flow_runs/{flow_run}", method="GET")

    def ends(self, flow_run, name, seconds=600):
        """Wait until a flow run has ended, and check that it ended so."""

        def ended():
            state = self.run(flow_run)["state"]
            return state if state["type"] in ENDED else None

        state = until(ended, seconds, f"the end of {flow_run}")
        assert state["name"] == name, f"{state}\n{self.compose('logs', '--tail', '40', 'worker', check=False)}"
        return state

    def retry(self, flow_run):
        """Do what the button Retry does."""
        state = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from a test"}
        self.ask(f"/flow_runs/{flow_run}/set_state", {"state": state, "force": True})

    def steps(self, flow_run):
        """Return the name of each step's last state."""
        runs = self.ask("/task_runs/filter", {"flow_runs": {"id": {"any_": [flow_run]}}})
        runs.sort(key=lambda run: run["expected_start_time"])
        return {run["name"].rsplit("-", 1)[0]: run["state"]["name"] for run in runs}

    def checkpoints(self):
        """Return the steps of the checkpoints that there are in the worker's cache."""
        look = "find /srv/cache -type d -name 'step-*' 2>/dev/null || true"  # older ones go while it looks
        found = self.inside("worker", "sh", "-c", look).split()
        return {int(place.rpartition("step-")[2].partition("-")[0]) for place in found}  # step-000000043-8

    def manifests(self, store, step):
        """Return the manifests of a step's artifacts in a store of the bucket."""
        said = self.inside("worker", "python", "-c", MANIFESTS, f"tunesmith/{store}/steps/{step}/*/manifest.json")
        return json.loads(said)

    def sql(self, database, query):
        rows = self.inside("postgres", "psql", "-U", "tunesmith", "-d", database, "-At", "-c", query)
        return rows.splitlines()

    def mlflow(self, path, body=None):
        """Ask MLflow's REST API."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json", **ACCOUNT}
        request = urllib.request.Request(f"{MLFLOW}/api/2.0/mlflow/{path}", data, headers)
        with urllib.request.urlopen(request, timeout=30) as page:
            return json.loads(page.read())
