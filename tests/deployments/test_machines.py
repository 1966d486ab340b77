"""deployments/machines: trainings on several machines. `pytest tests/deployments/test_machines.py`

None runs here; tests/kill/two_containers.py runs compose.yaml.
"""

import re
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import typer
import yaml

from pipeline_lib.cli.main import app

FOLDER = Path(__file__).parents[2] / "deployments" / "machines"
KUBERNETES = "1.37"
SLURM = (FOLDER / "slurm.sbatch").read_text()
DOCUMENTS = [*yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text())]
(JOB,) = (document for document in DOCUMENTS if document["kind"] == "Job")
(CONTAINER,) = JOB["spec"]["template"]["spec"]["containers"]
TRAINJOB = yaml.safe_load((FOLDER / "trainjob.yaml").read_text())
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
SCRIPTS = {
    "docker": "\n".join(service["command"] for service in COMPOSE.values()),
    "slurm": SLURM,
    "kubernetes": CONTAINER["args"][0],
    "kubeflow": TRAINJOB["spec"]["trainer"]["args"][0],
}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document["kind"])
def test_every_manifest_fits_the_api_schema(document):
    assert kubernetes_validate.validate(document, KUBERNETES, strict=True) == KUBERNETES


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_script_is_valid_and_runs_both_commands(script):
    assert subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False).stderr == ""
    commands = re.findall(r"tunesmith ((?:run|worker) [^;\n]*)", script.split("set -euo pipefail")[-1])
    assert sorted(command.split()[0] for command in commands) == ["run", "worker"]
    for command in commands:
        words = command.replace('"$@"', "recipe.yaml").replace('"', "").split()
        name, *words = words
        typer.main.get_command(app).commands[name].make_context(name, words)


def test_the_pods_find_each_other_and_nobody_else_does():
    service, policy = (document for document in DOCUMENTS if document["kind"] != "Job")
    labels = JOB["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == policy["spec"]["podSelector"]["matchLabels"] == labels
    assert policy["spec"]["ingress"] == [{"from": [{"podSelector": {"matchLabels": labels}}]}]
    (address,) = (record["value"] for record in CONTAINER["env"] if record["name"] == "RENDEZVOUS")
    name, subdomain = JOB["metadata"]["name"], JOB["spec"]["template"]["spec"]["subdomain"]
    assert address == f"{name}-0.{subdomain}:29400"
    assert subdomain == service["metadata"]["name"]
    assert JOB["spec"]["completions"] == JOB["spec"]["parallelism"] == 2
    assert "execution.machines=2" in SCRIPTS["kubernetes"]


def test_the_trainjob_is_one_of_kubeflow_trainer():
    assert (TRAINJOB["apiVersion"], TRAINJOB["kind"]) == ("trainer.kubeflow.org/v1alpha1", "TrainJob")
    assert TRAINJOB["spec"]["runtimeRef"] == {"name": "torch-distributed"}
    assert TRAINJOB["spec"]["trainer"]["numNodes"] == 2
