"""What Prefect, MLflow and the store say of the same training, where they do not say the same."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pipeline_lib.audit import prefect_api
from pipeline_lib.audit.artifact_store import TrainingArtifacts, artifacts_of
from pipeline_lib.audit.provenance import made
from pipeline_lib.store.digests import content_digest
from pipeline_lib.store.integrity import DAMAGE
from pipeline_lib.tracking.environment import flow_run
from pipeline_lib.tracking.left_runs import is_at_work
from pipeline_lib.tracking.records import TrainingRecord, TrainingRecords
from pipeline_lib.tracking.runs import BY, HOST, PROCESS, PRUNED
from pipeline_lib.tracking.scores import named_scores

AGREE = {
    "FINISHED": {"COMPLETED"},
    "FAILED": {"FAILED", "CRASHED"},
    "KILLED": {"CANCELLED", "CANCELLING", "CRASHED", "FAILED"},
    "RUNNING": {"RUNNING", "PENDING", "SCHEDULED", "PAUSED", "CANCELLING"},
}
"""Prefect's state types that go with a status in MLflow. A flow run that will be tried again is SCHEDULED."""


class Disagreement(NamedTuple):
    """Something that does not fit; `sure` is false where it could not be looked into."""

    about: str
    what: str
    sure: bool = True


def disagreements(held: TrainingRecords, store: str | None = None) -> list[Disagreement]:
    """All that disagrees about a training; `store` takes the place of the one that its run names."""
    kept, why_not = artifacts_of(held.training, store)
    looked_at = [
        *(finding for run in held.runs if (finding := left_running(run))),
        *_pending_models(held),
        *_flow_states(held.parents),
    ]
    if kept is None:
        return [*looked_at, Disagreement("store", why_not, sure=False)]
    stored = [finding for told in made(held) if (finding := _artifact(kept, told))]
    scored = [(run, told) for run in held.evaluations if (told := held.evaluated(run).get("evaluate"))]
    metrics = [finding for run, told in scored for finding in _metrics(kept, run, told)]
    return [*looked_at, *stored, *metrics]


def left_running(run: TrainingRecord) -> Disagreement | None:
    """A run that MLflow calls RUNNING and whose process is gone, or cannot be seen from here."""
    if run.status != "RUNNING":
        return None
    host, alive = run.tags.get(HOST), is_at_work(run)
    if alive:
        return None
    if alive is None:
        return Disagreement(
            _run(run), f"is RUNNING on {host or 'another machine'}, and from here nobody can see if it still is", False
        )
    pid = run.tags[PROCESS].split()[0]
    return Disagreement(_run(run), f"is RUNNING, and its process {pid} is gone: `tunesmith audit --repair` settles it")


def _pending_models(held: TrainingRecords) -> Iterator[Disagreement]:
    """Models whose logging was cut off: MLflow calls them PENDING, and their files may be incomplete."""
    alive = is_at_work(held.training) if held.training.status == "RUNNING" else False
    for model_id in [] if alive else held.pending_models():
        settled = "" if alive is None else "; `tunesmith audit --repair` settles it"
        yield Disagreement(f"model {model_id}", f"is PENDING: its logging was cut off{settled}", sure=alive is False)


def _flow_states(runs: Iterable[TrainingRecord]) -> Iterator[Disagreement]:
    """Prefect's state of the flow run that was last at work on a run."""
    for run in runs:
        if not (flow := flow_run(run.tags.get(BY, ""))):
            continue
        try:
            state = prefect_api.state(flow)
        except prefect_api.PrefectUnavailable as error:
            yield Disagreement(
                _run(run), f"Prefect cannot be asked about flow run {flow.name} ({flow.id}): {error}", False
            )
            continue
        if state is None:
            yield Disagreement(_run(run), f"Prefect does not know flow run {flow.name} ({flow.id})")
        elif state not in AGREE.get(run.status, {state}) and not (PRUNED in run.tags and state == "COMPLETED"):
            yield Disagreement(_run(run), f"is {run.status} in MLflow, and flow run {flow.name} ({flow.id}) is {state}")


def _artifact(kept: TrainingArtifacts, told: Mapping[str, Any]) -> Disagreement | None:
    """An artifact that is gone, damaged, or not the one that MLflow was told of."""
    name = f"{told['identity']['step']} {told['fingerprint'][:8]}"
    try:
        found = kept.manifest(told)
    except DAMAGE as damage:
        return Disagreement(name, f"is damaged ({damage}) in {kept}")
    if found is None:
        return Disagreement(name, f"is gone from {kept}")
    same = content_digest(found.get("files", {})) == content_digest(told["files"])
    return None if same else Disagreement(name, f"in {kept} holds other bytes than MLflow was told of")


def _metrics(kept: TrainingArtifacts, run: TrainingRecord, told: Mapping[str, Any]) -> Iterator[Disagreement]:
    """Scores in MLflow that are not those of the evaluation's artifact."""
    file = kept.folder(told) / "metrics.json"
    if run.status != "FINISHED" or not file.is_file():
        return
    for name, value in named_scores(json.loads(file.read_text(encoding="utf-8"))):
        logged = run.metrics.get(name)
        if logged is None or not math.isclose(logged, value, rel_tol=1e-9):
            shown = "missing" if logged is None else f"{logged:g}"
            yield Disagreement(
                _run(run), f"{name} is {shown} in MLflow and {value:g} in the artifact {file.parent.name[:8]}"
            )


def _run(run: TrainingRecord) -> str:
    return f"{run.name} {run.id[:8]}"
