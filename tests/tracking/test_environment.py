"""What a training was carried out with. `pytest tests/tracking/test_environment.py`."""

import json
import subprocess
from importlib.metadata import version

import pytest

from pipeline_lib.recipe.loading import load
from pipeline_lib.tracking.environment import environment, flow_run

ID = "0f6e7d5c-1b2a-4c3d-8e9f-001122334455"


@pytest.fixture
def recorded(document, tmp_path, monkeypatch):
    """Of a recipe in a checkout with one committed file, which then changed, and a password on the way."""
    (tmp_path / "moods.yaml").write_text(json.dumps(document))
    for command in ("init", "add moods.yaml", "-c user.name=me -c user.email=me@here commit -m first"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True, capture_output=True)
    with (tmp_path / "moods.yaml").open("a") as file:
        file.write("\n# changed")
    return environment(load(tmp_path / "moods.yaml", ["execution.store=s3://me:plantedStore@bucket/a", "seed=8"]))


def test_the_recipe_is_kept_as_given_without_its_passwords(recorded, tmp_path):
    assert recorded["given"]["file"] == str(tmp_path / "moods.yaml")
    assert recorded["given"]["text"].endswith("# changed")
    assert list(recorded["given"]["overrides"]) == ["execution.store=s3://bucket/a", "seed=8"]


def test_commit_and_changes_of_the_recipes_checkout_are_recorded(recorded, tmp_path):
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path, capture_output=True, text=True).stdout.strip()
    git = recorded["git"]["recipe"]
    assert (git["commit"], git["dirty"]) == (head, True)
    assert " M moods.yaml" in git["changed"]


def test_software_and_machine_are_recorded_as_plain_values(recorded):
    assert recorded["software"]["torch"] == version("torch")
    assert recorded["machine"]["cores"] >= 1
    assert json.loads(json.dumps(recorded)) is not None


def test_outside_of_a_checkout_there_is_no_commit(recipe):
    assert environment(recipe)["git"]["recipe"] is None
    assert environment(recipe)["given"] is None


@pytest.mark.parametrize(
    ("by", "api", "page"),
    [
        (f"flow run moods ({ID})", None, None),
        (f"flow run my moods ({ID}) at http://host:4200/api", "http://host:4200/api", "http://host:4200"),
    ],
)
def test_a_flow_run_is_known_by_what_it_left(by, api, page, monkeypatch):
    monkeypatch.delenv("PREFECT_UI_URL", raising=False)
    flow = flow_run(by)
    assert (flow.id, flow.api) == (ID, api)
    assert flow.page == (page and f"{page}/v2/runs/flow-run/{ID}")
    monkeypatch.setenv("PREFECT_UI_URL", "https://prefect.example")
    assert flow.page == f"https://prefect.example/v2/runs/flow-run/{ID}"
    monkeypatch.setenv("PREFECT_UI_URL", "https://app.prefect.cloud/account/1/workspace/2")
    assert flow.page == f"https://app.prefect.cloud/account/1/workspace/2/runs/flow-run/{ID}"


def test_a_plain_call_is_no_flow_run():
    assert flow_run("a plain call") is None
