"""Settle runs that a kill has left RUNNING: finished where all was made, KILLED where not."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pipeline_lib.audit import flow_states
from pipeline_lib.audit.disagreements import left_running
from pipeline_lib.audit.kept import kept_by
from pipeline_lib.export import lineage
from pipeline_lib.recipe import Recipe, check
from pipeline_lib.store.artifact import Artifact
from pipeline_lib.store.digests import content_digest
from pipeline_lib.store.disk import DAMAGE
from pipeline_lib.store.store import sound
from pipeline_lib.tracking.circumstances import flow_run
from pipeline_lib.tracking.deliver import deliver, deliver_training
from pipeline_lib.tracking.describe import STORE
from pipeline_lib.tracking.find import Finder
from pipeline_lib.tracking.held import Held, Told
from pipeline_lib.tracking.refusals import while_delivering
from pipeline_lib.tracking.runs import BY, FINGERPRINT, PARENT, Tracker


def repair(finder: Finder, held: Held, store: str | None = None) -> list[str]:
    """What was done about a training's runs whose processes are gone, a sentence for each; nothing where none is."""
    dead = [run for run in held.runs if is_dead(run)]
    kept, _ = kept_by(held.training, store)
    if dead and kept and held.recipe:
        _deliver_what_is_made(held, kept.root, _for_here(finder, held))
    return [line for run in dead for line in (settle(finder, run), *_settle_flow(run))]


def is_dead(run: Told) -> bool:
    """Whether a run is called RUNNING and is not, for sure."""
    finding = left_running(run)
    return finding is not None and finding.sure


def settle(finder: Finder, run: Told) -> str:
    """Call a run KILLED unless it was finished meanwhile; what it is now, in words."""
    status = finder.status(run.id)
    if status == "RUNNING":
        finder.client.set_terminated(run.id, status := "KILLED")
    return f"{run.name} {run.id[:8]} was left RUNNING: {status} now"


def _settle_flow(run: Told) -> Iterator[str]:
    """Tell Prefect of a flow run that was at work on a dead run, and is RUNNING there as well."""
    if (flow := flow_run(run.tags.get(BY, ""))) is None or PARENT in run.tags:  # the run around the others has said it
        return
    with suppress(flow_states.Unanswered):  # which the audit says
        if flow_states.state(flow) == "RUNNING":
            flow_states.crash(flow)
            yield f"flow run {flow.name} ({flow.id}) was left RUNNING: CRASHED now"


def _for_here(finder: Finder, held: Held) -> Recipe:
    """The recipe, to be delivered to where its run is; MLflow holds no password of an address."""
    recipe, tags = check(held.recipe or {}), held.training.tags
    where = {"tracking_uri": finder.uri, "experiment": finder.client.get_experiment(held.training.experiment).name}
    execution = recipe.execution.model_copy(update=where | {"store": tags.get(STORE, recipe.execution.store)})
    return recipe.model_copy(update={"execution": execution})


def _deliver_what_is_made(held: Held, root: Path, recipe: Recipe) -> None:
    """Complete the training's run if its model is in the store, and all runs if its scores are."""
    folder, by = root / "steps" / "finetune" / held.training.tags[FINGERPRINT][:16], held.training.tags[BY]
    try:
        model, found = _artifact(folder), lineage.of_folder(folder)
        if found.base is None or found.prepared is None:
            return
        prepared, scores = _artifact(found.prepared), _artifact(found.scores) if found.scores else None
    except DAMAGE:
        return
    if scores:
        deliver(recipe, prepared, model, scores, found.base, by)
    else:
        with while_delivering(recipe.execution, model.fingerprint):
            deliver_training(Tracker(recipe, by), prepared, model, found.base)


def _artifact(folder: Path) -> Artifact:
    """A sound artifact by its folder; raises one of DAMAGE where it is not there or damaged."""
    told = sound(folder)
    digest = content_digest(told["files"])
    return Artifact(told["identity"]["step"], told["fingerprint"], digest, folder, told["made"], reused=True)
