"""deployments/kubernetes against the API schema of Kubernetes, and against itself; no cluster runs here."""

import json
import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "deployments" / "kubernetes"
KUBERNETES = "1.37"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
TEMPLATE = json.loads((FOLDER / "job-template.json").read_text())
NAMESPACE = KUSTOMIZATION["namespace"]
BY_HAND = set(re.findall(r"kubectl .*create secret generic (\S+)", (FOLDER / "kustomization.yaml").read_text()))
"""The secrets that an operator creates, as the first lines of kustomization.yaml say."""


def manifests():
    for file in KUSTOMIZATION["resources"]:
        yield from yaml.safe_load_all((FOLDER / file).read_text())


def filled(part, values):
    """Fill in a template as Prefect does: a string that is nothing but a variable becomes its value."""
    if isinstance(part, dict):
        return {key: found for key, value in part.items() if (found := filled(value, values)) is not None}
    if isinstance(part, list):
        return [filled(item, values) for item in part]
    if isinstance(part, str) and part.startswith("{{ ") and part.endswith(" }}"):
        return values.get(part[3:-3])
    return part.replace("{{ name }}", "run") if isinstance(part, str) else part


def job(**changes):
    """The job of a run with the template's defaults and some changes."""
    values = {name: variable.get("default") for name, variable in TEMPLATE["variables"]["properties"].items()}
    values |= {"env": [{"name": key, "value": value} for key, value in values["env"].items()]}
    values |= {"labels": {}, "command": ["prefect", "flow-run", "execute"], **changes}
    return filled(TEMPLATE["job_configuration"]["job_manifest"], values)


def named(document):
    return f"{document['kind']}/{document['metadata'].get('name', 'run')}"


MANIFESTS = list(manifests())
DOCUMENTS = [*MANIFESTS, job()]
IDS = [named(document) for document in DOCUMENTS]
PODS = [document for document in DOCUMENTS if document["kind"] in ("Deployment", "Job")]


def names(kind):
    return {document["metadata"]["name"] for document in MANIFESTS if document["kind"] == kind}


def pod(document):
    return document["spec"]["template"]["spec"]


def containers(document):
    return [*pod(document).get("initContainers", []), *pod(document)["containers"]]


def references(document):
    """(kind, name) of every object that a pod needs to start."""
    spec = pod(document)
    yield "ServiceAccount", spec.get("serviceAccountName", "default")
    for volume in spec.get("volumes", []):
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
    for container in containers(document):
        sources = [*container.get("envFrom", []), *(item.get("valueFrom", {}) for item in container.get("env", []))]
        for source in sources:
            for key, kind in (("secretRef", "Secret"), ("secretKeyRef", "Secret"), ("configMapRef", "ConfigMap")):
                if key in source and not source[key].get("optional"):
                    yield kind, source[key]["name"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=IDS)
def test_every_manifest_fits_the_api_schema(document):
    assert kubernetes_validate.validate(document, KUBERNETES, strict=True) == KUBERNETES


def test_a_misspelt_field_would_be_seen():
    wrong = json.loads(json.dumps(job()))
    pod(wrong)["tolerationz"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="tolerationz"):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_the_kustomization_has_every_file_of_the_folder():
    listed = {*KUSTOMIZATION["resources"], "kustomization.yaml"}
    listed |= {file for generated in KUSTOMIZATION["configMapGenerator"] for file in generated["files"]}
    assert listed == {file.name for file in FOLDER.iterdir()}
    assert KUSTOMIZATION["generatorOptions"]["disableNameSuffixHash"]  # the job template is found by its name
    assert names("Namespace") == {NAMESPACE}


@pytest.mark.parametrize("document", PODS, ids=named)
def test_everything_that_a_pod_refers_to_exists(document):
    exists = {("Secret", name) for name in BY_HAND} | {("ServiceAccount", "default")}
    exists |= {("ConfigMap", generated["name"]) for generated in KUSTOMIZATION["configMapGenerator"]}
    exists |= {(kind, name) for kind in ("ServiceAccount", "PersistentVolumeClaim") for name in names(kind)}
    assert set(references(document)) <= exists
    mounted = {volume["name"] for volume in pod(document).get("volumes", [])}
    for container in containers(document):
        assert {mount["name"] for mount in container.get("volumeMounts", [])} <= mounted
        known = {port["name"] for port in container.get("ports", [])}
        probes = [container[name] for name in container if name.endswith("Probe")]
        assert {probe["httpGet"]["port"] for probe in probes} <= known


def test_rights_are_bound_to_accounts_that_exist():
    (binding,) = (document for document in MANIFESTS if document["kind"] == "RoleBinding")
    assert binding["roleRef"]["name"] in names("Role")
    for subject in binding["subjects"]:
        assert (subject["namespace"], subject["name"]) in {(NAMESPACE, name) for name in names("ServiceAccount")}
    for role in (document for document in MANIFESTS if document["kind"] == "Role"):
        assert all("*" not in rule["verbs"] + rule["resources"] for rule in role["rules"])


def test_services_find_their_pods_and_addresses_their_services():
    ports = {}
    for service in (document for document in MANIFESTS if document["kind"] == "Service"):
        labels = [record["spec"]["template"].get("metadata", {}).get("labels", {}) for record in PODS]
        assert any(service["spec"]["selector"].items() <= found.items() for found in labels)
        ports[service["metadata"]["name"]] = {port["port"] for port in service["spec"]["ports"]}
    addresses = re.findall(r"http://([a-z-]+)(\.[a-z.]+)?:(\d+)", json.dumps(PODS))
    assert {host for host, *_ in addresses} == {"localhost", *ports}
    for host, domain, port in addresses:
        assert host == "localhost" or int(port) in ports[host]
        assert domain in ("", f".{NAMESPACE}.svc.cluster.local")


@pytest.mark.parametrize("document", PODS, ids=named)
def test_pods_are_restricted_and_bounded(document):
    context = pod(document)["securityContext"]
    assert context["runAsNonRoot"] and context["runAsUser"] == context["runAsGroup"] == context["fsGroup"] == 1001
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod(document)["enableServiceLinks"] is False  # Kubernetes would set MLFLOW_PORT=tcp://..., MLflow's --port
    if named(document) != "Deployment/worker":  # which alone talks to the API of Kubernetes
        assert pod(document)["automountServiceAccountToken"] is False
    for container in containers(document):
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert container["resources"]["limits"]["memory"] and container["resources"]["requests"]["cpu"]


@pytest.mark.parametrize("document", PODS, ids=named)
def test_secrets_come_from_secrets_alone(document):
    for container in containers(document):
        plain = {record["name"]: record.get("value", "") for record in container.get("env", [])}
        assert not [name for name in plain if re.search("PASSWORD|SECRET|TOKEN|ACCESS_KEY", name)]
        assert not [value for value in plain.values() if re.search(r"://[^/@]*:[^/@]*@", value)]


def test_images_are_immutable_and_one_for_servers_and_runs():
    (ours,) = KUSTOMIZATION["images"]
    for document in MANIFESTS:
        for container in containers(document) if document in PODS else []:
            image = container["image"]
            assert image == ours["name"] or re.search(r":\d+\.\d+\.\d+[\w.-]*$|@sha256:[0-9a-f]{64}$", image), image
    assert re.fullmatch(r"\d+\.\d+\.\d+", str(ours["newTag"]))
    (container,) = containers(job())
    assert container["image"] == f"{ours['newName']}:{ours['newTag']}"


@pytest.mark.parametrize("gpus", [0, 2])
def test_a_run_gets_its_gpus_its_volumes_and_an_end(gpus):
    run = job(gpus=gpus)
    kubernetes_validate.validate(run, KUBERNETES, strict=True)
    (container,) = containers(run)
    assert container["resources"]["limits"]["nvidia.com/gpu"] == gpus
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod(run)["tolerations"]
    assert run["spec"]["ttlSecondsAfterFinished"] == 86400
    assert "{{" not in json.dumps(run)
    environment = {record["name"]: record["value"] for record in container["env"]}
    assert environment["TUNESMITH_STORE"].startswith("s3://")
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    for variable in ("TUNESMITH_CACHE", "TUNESMITH_RECIPES"):
        assert any(environment[variable].startswith(f"{mount}/") for mount in mounts)


def test_every_variable_of_the_template_is_used():
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(TEMPLATE["job_configuration"])))
    assert used == TEMPLATE["variables"]["properties"].keys()
