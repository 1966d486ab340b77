"""Find disagreements between Prefect, MLflow and the store about the same training."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pipeline_lib.audit import prefect_api
from pipeline_lib.audit.artifact_store import TrainingArtifacts, artifacts_of
from pipeline_lib.audit.provenance import all_manifests
from pipeline_lib.store.digests import content_digest
from pipeline_lib.store.integrity import DAMAGE
from pipeline_lib.tracking.environment import flow_run
from pipeline_lib.tracking.left_runs import is_at_work
from pipeline_lib.tracking.records import TrainingRecord, TrainingRecords
from pipeline_lib.tracking.runs import BY, HOST, PROCESS, PRUNED
from pipeline_lib.tracking.scores import scores_by_name

AGREE = {
    "FINISHED": {"COMPLETED"},
    "FAILED": {"FAILED", "CRASHED"},
    "KILLED": {"CANCELLED", "CANCELLING", "CRASHED", "FAILED"},
    "RUNNING": {"RUNNING", "PENDING", "SCHEDULED", "PAUSED", "CANCELLING"},
}
"""MLflow status -> the matching state types in Prefect. A flow run that will be retried is SCHEDULED."""


class Disagreement(NamedTuple):
    """A disagreement between records; `sure` is false if it could not be checked."""

    about: str
    what: str
    sure: bool = True


def disagreements(held: TrainingRecords, store: str | None = None) -> list[Disagreement]:
    """Return all disagreements about a training; `store` overrides the location in its run."""
    store_artifacts, why_not = artifacts_of(held.training, store)
    looked_at = [
        *(finding for run in held.runs if (finding := check_running(run))),
        *_pending_models(held),
        *_flow_states(held.parents),
    ]
    if store_artifacts is None:
        return [*looked_at, Disagreement("store", why_not, sure=False)]
    stored = [finding for manifest in all_manifests(held) if (finding := _artifact(store_artifacts, manifest))]
    scored = [
        (run, manifest) for run in held.evaluations if (manifest := held.evaluation_manifests(run).get("evaluate"))
    ]
    metrics = [finding for run, manifest in scored for finding in _metrics(store_artifacts, run, manifest)]
    return [*looked_at, *stored, *metrics]


def check_running(run: TrainingRecord) -> Disagreement | None:
    """Return a disagreement if a run is RUNNING in MLflow although its process is gone or cannot be checked."""
    if run.status != "RUNNING":
        return None
    host, alive = run.tags.get(HOST), is_at_work(run)
    if alive:
        return None
    if alive is None:
        return Disagreement(
            _run_name(run), f"is RUNNING on {host or 'another machine'}, which cannot be checked from here", False
        )
    pid = run.tags[PROCESS].split()[0]
    return Disagreement(
        _run_name(run), f"is RUNNING, but its process {pid} is gone: `tunesmith audit --repair` ends it"
    )


def _pending_models(held: TrainingRecords) -> Iterator[Disagreement]:
    """Yield models whose logging was interrupted: they are PENDING, and their files may be incomplete."""
    alive = is_at_work(held.training) if held.training.status == "RUNNING" else False
    for model_id in [] if alive else held.pending_models():
        repair = "" if alive is None else "; `tunesmith audit --repair` sets it to FAILED"
        yield Disagreement(f"model {model_id}", f"is PENDING: its logging was interrupted{repair}", sure=alive is False)


def _flow_states(runs: Iterable[TrainingRecord]) -> Iterator[Disagreement]:
    """Compare each run's status with the state in Prefect of the flow run that last worked on it."""
    for run in runs:
        if not (flow := flow_run(run.tags.get(BY, ""))):
            continue
        try:
            state = prefect_api.state(flow)
        except prefect_api.PrefectUnavailable as error:
            yield Disagreement(
                _run_name(run), f"Prefect could not be queried about flow run {flow.name} ({flow.id}): {error}", False
            )
            continue
        if state is None:
            yield Disagreement(_run_name(run), f"Prefect does not know flow run {flow.name} ({flow.id})")
        elif state not in AGREE.get(run.status, {state}) and not (PRUNED in run.tags and state == "COMPLETED"):
            yield Disagreement(
                _run_name(run), f"is {run.status} in MLflow, and flow run {flow.name} ({flow.id}) is {state}"
            )


def _artifact(store_artifacts: TrainingArtifacts, manifest: Mapping[str, Any]) -> Disagreement | None:
    """Return a disagreement if an artifact is missing, damaged or different from the record in MLflow."""
    name = f"{manifest['identity']['step']} {manifest['fingerprint'][:8]}"
    try:
        found = store_artifacts.manifest(manifest)
    except DAMAGE as damage:
        return Disagreement(name, f"is damaged ({damage}) in {store_artifacts}")
    if found is None:
        return Disagreement(name, f"is missing from {store_artifacts}")
    same = content_digest(found.get("files", {})) == content_digest(manifest["files"])
    return None if same else Disagreement(name, f"in {store_artifacts} differs from the record in MLflow")


def _metrics(
    store_artifacts: TrainingArtifacts, run: TrainingRecord, manifest: Mapping[str, Any]
) -> Iterator[Disagreement]:
    """Yield scores that differ between MLflow and the evaluation's artifact."""
    file = store_artifacts.folder(manifest) / "metrics.json"
    if run.status != "FINISHED" or not file.is_file():
        return
    for name, value in scores_by_name(json.loads(file.read_text(encoding="utf-8"))):
        logged = run.metrics.get(name)
        if logged is None or not math.isclose(logged, value, rel_tol=1e-9):
            shown = "missing" if logged is None else f"{logged:g}"
            yield Disagreement(
                _run_name(run), f"{name} is {shown} in MLflow and {value:g} in the artifact {file.parent.name[:8]}"
            )


def _run_name(run: TrainingRecord) -> str:
    return f"{run.name} {run.id[:8]}"
