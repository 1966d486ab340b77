"""What Prefect says of a flow run against what MLflow says. `pytest tests/audit/test_prefect_api.py`."""

import json

import pytest
from stub_server import Stub, serving

from pipeline_lib.audit import consistency, prefect_api, repair
from pipeline_lib.tracking.environment import FlowRun
from pipeline_lib.tracking.records import TrainingRecord
from pipeline_lib.tracking.runs import PRUNED

IN = {"mlflow.parentRunId": "2" * 32}
ID = "0f6e7d5c-1b2a-4c3d-8e9f-001122334455"


class Api(Stub):
    """An API that knows one flow run, and keeps what it was told of who asks."""

    state, authorizations = "COMPLETED", []

    def do_GET(self):
        Api.authorizations.append(self.headers.get("Authorization"))
        found = self.path == f"/api/flow_runs/{ID}"
        answer = {"state": {"type": Api.state}} if found else {}
        self.reply(200 if found else 404, "application/json", json.dumps(answer))

    def do_POST(self):
        assert self.path == f"/api/flow_runs/{ID}/set_state"
        Api.state = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["state"]["type"]
        self.reply(201, "application/json", "{}")


@pytest.fixture
def api(monkeypatch):
    for name in ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"):
        monkeypatch.delenv(name, raising=False)
    Api.authorizations.clear()
    with serving(Api) as port:
        yield f"http://127.0.0.1:{port}/api"


def said(status, by, **tags):
    run = TrainingRecord("1" * 32, "moods", status, "", "1", {"tunesmith.by": by} | tags, {})
    return [(finding.what, finding.sure) for finding in consistency._flow_states([run])]


@pytest.mark.parametrize(
    ("status", "state", "agree"),
    [
        ("FINISHED", "COMPLETED", True),
        ("FINISHED", "CRASHED", False),
        ("FAILED", "FAILED", True),
        ("FAILED", "COMPLETED", False),
        ("KILLED", "CANCELLED", True),
        ("KILLED", "RUNNING", False),
        ("RUNNING", "SCHEDULED", True),
        ("RUNNING", "CRASHED", False),
    ],
)
def test_states_that_disagree_are_reported(api, status, state, agree):
    Api.state = state
    findings = said(status, f"flow run moods ({ID}) at {api}")
    words = f"is {status} in MLflow, and flow run moods ({ID}) is {state}"
    assert findings == ([] if agree else [(words, True)])


@pytest.mark.parametrize(("state", "agree"), [("COMPLETED", True), ("RUNNING", False)])
def test_a_trial_that_a_sweep_has_ended_early_is_killed_in_a_flow_that_completes(api, state, agree):
    Api.state = state
    findings = said("KILLED", f"flow run moods ({ID}) at {api}", **{PRUNED: "no hope"})
    assert (findings == []) == agree


def test_a_flow_run_that_prefect_has_never_heard_of(api):
    other = ID.replace("0", "9")
    assert said("FINISHED", f"flow run moods ({other}) at {api}") == [
        (f"Prefect does not know flow run moods ({other})", True)
    ]


def test_where_prefect_cannot_be_asked_it_is_said_and_counts_for_nothing(api, monkeypatch):
    ((words, sure),) = said("FINISHED", f"flow run moods ({ID})")
    assert "embedded server" in words
    assert not sure
    ((words, sure),) = said("FINISHED", f"flow run moods ({ID}) at http://127.0.0.1:9/api")
    assert "http://127.0.0.1:9/api does not answer" in words
    assert not sure
    monkeypatch.setenv("PREFECT_API_URL", api)
    Api.state = "COMPLETED"
    assert said("FINISHED", f"flow run moods ({ID})") == []
    assert said("FINISHED", "a plain call") == []


def test_only_the_api_of_the_own_settings_gets_credentials(api, monkeypatch):
    monkeypatch.setenv("PREFECT_API_KEY", "a key")
    prefect_api.state(FlowRun("moods", ID, api))
    monkeypatch.setenv("PREFECT_API_URL", api)
    prefect_api.state(FlowRun("moods", ID, api))
    monkeypatch.delenv("PREFECT_API_KEY")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:pass")
    prefect_api.state(FlowRun("moods", ID, None))
    assert Api.authorizations == [None, "Bearer a key", "Basic bWU6cGFzcw=="]


def test_a_flow_run_left_running_by_a_kill_has_crashed_and_another_is_left_alone(api):
    by = f"flow run moods ({ID}) at {api}"
    around, inside = (
        TrainingRecord("1" * 32, "moods", "RUNNING", "", "1", {"tunesmith.by": by} | tags, {}) for tags in ({}, IN)
    )
    for state, run, after in (
        ("RUNNING", inside, "RUNNING"),
        ("COMPLETED", around, "COMPLETED"),
        ("RUNNING", around, "CRASHED"),
    ):
        Api.state = state
        repairs = list(repair._settle_flow(run))
        assert Api.state == after
        assert repairs == ([f"flow run moods ({ID}) was left RUNNING; now CRASHED"] if after == "CRASHED" else [])
