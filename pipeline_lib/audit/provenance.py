"""The provenance of a model, from its run in MLflow back to its data, base model and code."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline_lib.store.digests import content_digest
from pipeline_lib.tracking.environment import flow_run
from pipeline_lib.tracking.records import TrainingRecord, TrainingRecords
from pipeline_lib.tracking.runs import BY

STEPS = ("base", "prepare", "initialise", "reference", "finetune", "evaluate")
SHOWN = 5
"""Number of changed files to list."""
SHOWN_VERSIONS = ("python", "torch", "transformers", "accelerate", "peft", "tokenizers", "numpy", "pyarrow", "mlflow")


def chain(held: TrainingRecords) -> dict[str, Any]:
    """Return the provenance as plain values, from model to data; parts that MLflow does not have are None or empty."""
    manifests, facts = held.manifests, held.environment
    return {
        "model": {"address": held.model, "registered": held.versions},
        "training": _describe_run(held.training),
        "evaluations": [_describe_run(run) | {"scores": scores(run)} for run in held.evaluations],
        "recipe": {"given": held.given, "resolved": held.recipe},
        "data": [file._asdict() for file in held.data],
        "base": _base(held),
        "code": {"git": facts.get("git"), "modules": recorded_modules(manifests)},
        "software": facts.get("software"),
        "machine": facts.get("machine"),
        "flow_runs": [flow._asdict() for run in held.parents if (flow := flow_run(run.tags.get(BY, "")))],
        "artifacts": [_artifact(manifest) for manifest in all_manifests(held)],
    }


def all_manifests(held: TrainingRecords) -> list[Mapping[str, Any]]:
    """The manifests of all artifacts of a training and of its evaluations."""
    evaluated = (manifest for run in held.evaluations for manifest in held.evaluation_manifests(run).values())
    return [*manifests_in_order(held.manifests), *evaluated]


def manifests_in_order(manifests: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The manifests one by one, in the order of the steps."""
    yield from (manifests[step] for step in STEPS[:1] if step in manifests)
    yield from manifests.get("shards", ())
    yield from (manifests[step] for step in STEPS[1:] if step in manifests)


def scores(evaluation: TrainingRecord) -> dict[str, float]:
    """An evaluation's metrics on the test rows, with the ends of their intervals."""
    return {name: value for name, value in sorted(evaluation.metrics.items()) if name.startswith("test/")}


def format_provenance(link: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the provenance as text: a label and a line each."""
    model, training, recipe = link["model"], link["training"], link["recipe"]
    yield "model", ", ".join([model["address"] or "not logged", *model["registered"]])
    yield "training", _format_run(training)
    for run in link["evaluations"]:
        shown = [f"{name.removeprefix('test/')} {v:.4f}" for name, v in run["scores"].items() if name.count("/") == 1]
        yield "evaluation", ", ".join([_format_run(run), *shown[:4]])
    given, resolved = recipe["given"], recipe["resolved"] or {}
    if given:
        yield "recipe", " ".join([given["file"], *given["overrides"]])
    elif resolved:
        yield "recipe", f"{resolved['name']}, given as values"
    for file in link["data"]:
        yield "data", f"{file['split']} {file['path']}, SHA-256 {file['digest']}…"
    if base := link["base"]:
        yield "base", f"{base['name']}" + (f", digest {base['digest'][:16]}…" if "digest" in base else "")
    for name, git in (link["code"]["git"] or {}).items():
        yield "code", f"{name}: {_checkout_line(git)}"
    if modules := link["code"]["modules"]:
        yield "code", f"{len(modules)} modules of the project by digest"
    versions = link["software"] or {}
    yield "software", ", ".join(f"{name} {versions[name]}" for name in SHOWN_VERSIONS if name in versions)
    if machine := link["machine"]:
        yield "machine", ", ".join([machine["cpu"], f"{machine['cores']} cores", *machine["gpus"]])
    for flow in link["flow_runs"]:
        location = f"at {flow['api']}" if flow["api"] else "in an embedded server"
        yield "flow run", f"{flow['name']} ({flow['id']}) {location}"
    for artifact in link["artifacts"]:
        made_at, by = artifact["at"], artifact["by"]
        yield "artifact", f"{artifact['step']} {artifact['fingerprint'][:8]}, made {made_at} by {by}"


def _describe_run(run: TrainingRecord) -> dict[str, Any]:
    return {"id": run.id, "name": run.name, "status": run.status, "began": run.began}


def _format_run(run: Mapping[str, Any]) -> str:
    return f"{run['id']} ({run['name']}), {run['status']}, began {run['began']}"


def _checkout_line(git: Mapping[str, Any] | None) -> str:
    if git is None:
        return "not in a git checkout"
    state = "and changed files: " + ", ".join(git["changed"][:SHOWN]) if git["dirty"] else "clean"
    return f"commit {git['commit'][:12]}, {state}"


def _base(held: TrainingRecords) -> dict[str, Any] | None:
    if not held.recipe:
        return None
    named = {"name": held.recipe["model"]["base"], "revision": held.recipe["model"]["revision"]}
    if "base" not in held.manifests:  # logged when the training is complete
        return named
    files = held.manifests["base"]["files"]
    return named | {"digest": content_digest(files), "files": {name: facts["sha256"] for name, facts in files.items()}}


def recorded_modules(manifests: Mapping[str, Any]) -> dict[str, str]:
    """The digest of each module of the project that decided a byte."""
    code = (manifest["identity"].get("code", {}) for manifest in manifests_in_order(manifests))
    return {name: digest for modules_of_step in code for name, digest in modules_of_step.items()}


def _artifact(manifest: Mapping[str, Any]) -> dict[str, Any]:
    created = manifest["made"]
    named = {"step": manifest["identity"]["step"], "fingerprint": manifest["fingerprint"]}
    return named | {"digest": content_digest(manifest["files"]), "at": created["at"], "by": created["by"]}
