"""End runs that are RUNNING in MLflow although their process is gone.

There are two kinds. If a training ended while MLflow was unreachable, the store has a note with the missing data: see
`note_delivery.py`. For any other run, such as one killed while its model was published, MLflow has the mark of its
process. Runs that can be completed from the store are completed; the others get the status KILLED.

Runs on other machines, and of processes whose state is unknown, are left alone.
"""

import logging
import platform
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe.execution import tracking_uri
from pipeline_lib.recipe.schema import Recipe, check
from pipeline_lib.store import lineage
from pipeline_lib.store.artifacts import Artifact
from pipeline_lib.store.digests import content_digest
from pipeline_lib.store.integrity import DAMAGE
from pipeline_lib.store.remote import open_store
from pipeline_lib.store.store import Store, verify_artifact
from pipeline_lib.tracking.errors import delivery_errors
from pipeline_lib.tracking.note_delivery import deliver_note, model_folder, settle_notes, skip_if_refused
from pipeline_lib.tracking.process_marks import UNKNOWN, exists, place
from pipeline_lib.tracking.records import TrainingRecord, TrainingRecords, training_record
from pipeline_lib.tracking.run_metadata import STORE
from pipeline_lib.tracking.run_note import read_note
from pipeline_lib.tracking.runs import BY, FINGERPRINT, HOST, PROCESS, Tracker
from pipeline_lib.tracking.search import TrainingSearch
from pipeline_lib.util.redaction import first_line

log = logging.getLogger("tunesmith")
MOST = 50
"""Maximum number of runs to settle at a time; the next run handles the rest."""


def settle_left_runs(recipe: Recipe, complete: bool = True, stopped: Callable[[], bool] = lambda: False) -> None:
    """End the runs that earlier processes left open in a recipe's store and experiment.

    Errors are logged and not raised, since they must not end the run that does this on the side.

    Args:
        recipe: Its store and experiment are searched.
        complete: Whether to publish models that are in the store, which can take minutes; otherwise skip their runs.
        stopped: Called between two runs; True ends the search.
    """
    try:
        for line in _settle_all(recipe, complete):
            log.info("%-11s %s", "mlflow", line)
            if stopped():
                return
    except Exception as error:
        log.info("%-11s runs left RUNNING will be ended later (%s)", "mlflow", first_line(error))


def settle_training(
    finder: TrainingSearch, held: TrainingRecords, store: str | None = None, complete: bool = True
) -> list[str]:
    """End a training's runs whose processes are gone, completing them if their artifacts exist; return log lines.

    Also end the run of a live process whose training ended while MLflow was unreachable.
    """
    if noted := settle_noted(finder, held, store):
        return noted
    dead = [run for run in held.runs if is_left(run)]
    here = _store_of(held.training, store)
    fingerprint = held.training.tags[FINGERPRINT]
    if not dead or (here and _is_in_progress(here, fingerprint)):
        return []
    if here and not complete and model_folder(here, fingerprint).exists():
        return []
    if here:
        deliver_note(here, here.root / "work" / fingerprint, finder.uri)
        if held.recipe:
            _deliver_artifacts(held, here, _local_recipe(finder, held))
    return [*(settle(finder, run) for run in dead), *settle_models(held)]


def settle_models(held: TrainingRecords) -> list[str]:
    """Set models to FAILED whose logging was interrupted by a kill, unless the run is active; return log lines.

    A later run of the recipe writes the model's files again and sets it to READY.
    """
    if held.client.get_run(held.training.id).info.status == "RUNNING":
        return []
    lines = []
    for model_id in held.pending_models():
        held.client.finalize_logged_model(model_id, "FAILED")
        lines.append(f"model {model_id} was left PENDING; now FAILED")
    return lines


def settle_noted(finder: TrainingSearch, held: TrainingRecords, store: str | None = None) -> list[str]:
    """End the run of a training that ended while MLflow was unreachable, as its note says; return log lines."""
    here, fingerprint = _store_of(held.training, store), held.training.tags[FINGERPRINT]
    if held.training.status != "RUNNING" or not here:
        return []
    work = here.root / "work" / fingerprint
    note = read_note(work)
    line = deliver_note(here, work, finder.uri) if note and note.status else None
    return [line] if line else []


def settle(finder: TrainingSearch, run: TrainingRecord) -> str:
    """Set a run to KILLED, unless it was finished or continued by another process meanwhile; return a log line."""
    now = training_record(finder.client.get_run(run.id))
    status = now.status
    if is_left(now):
        finder.client.set_terminated(run.id, status := "KILLED")
    return f"{run.name} {run.id[:8]} was left RUNNING; now {status}"


def is_left(run: TrainingRecord) -> bool:
    """Return whether a run has status RUNNING although its process is certainly gone."""
    return run.status == "RUNNING" and is_at_work(run) is False


def is_at_work(run: TrainingRecord) -> bool | None:
    """Return whether the process of a run still exists; None if unknown."""
    return exists(run.tags.get(PROCESS, "")) if run.tags.get(HOST) == platform.node() else None


def _settle_all(recipe: Recipe, complete: bool) -> Iterator[str]:
    execution = recipe.execution
    uri = tracking_uri(execution)
    yield from settle_notes(execution.store, uri)
    finder = TrainingSearch(uri)
    left = _find_left_runs(finder, finder.experiment(execution.experiment))
    while left:
        run = left.pop(0)
        with skip_if_refused(uri, f"{run.name} {run.id[:8]}"):
            if held := _find_training(finder, run):
                left = [other for other in left if other.id not in {known.id for known in held.runs}]
                yield from settle_training(finder, held, None, complete)
            else:
                yield settle(finder, run)


def _find_training(finder: TrainingSearch, run: TrainingRecord) -> TrainingRecords | None:
    """Return the training that a run belongs to; None for other kinds of runs, such as a sweep's."""
    try:
        return finder.find_training(run.id)
    except RecipeError:
        return None


def _find_left_runs(finder: TrainingSearch, experiment: str) -> list[TrainingRecord]:
    """Return the oldest RUNNING runs whose process on this machine is gone."""
    if place() == UNKNOWN:
        return []
    of = f"attributes.status = 'RUNNING' AND tags.`{PROCESS}` LIKE '% {place()}'"
    order = ["attributes.start_time ASC"]
    found = finder.client.search_runs([experiment], of, max_results=MOST, order_by=order)
    return [run for run in map(training_record, found) if is_left(run)]


def _is_in_progress(store: Store, fingerprint: str) -> bool:
    """Return whether a process is running the training now."""
    with store.lock_if_free(fingerprint) as free:
        return not free


def _store_of(run: TrainingRecord, named: str | None) -> Store | None:
    """Return the store with a run's artifacts, or the one called `named`; None if this machine cannot open it."""
    place_of_it = named or run.tags.get(STORE, "")
    if "://" not in place_of_it and not Path(place_of_it or "?").is_dir():
        return None
    with suppress(RecipeError):  # the address is stored in MLflow without its password
        return open_store(place_of_it)
    return None


def _local_recipe(finder: TrainingSearch, held: TrainingRecords) -> Recipe:
    """Return the recipe with this MLflow and store; addresses recorded in MLflow have no passwords."""
    recipe, tags = check(held.recipe or {}), held.training.tags
    overrides = {"tracking_uri": finder.uri, "experiment": finder.client.get_experiment(held.training.experiment).name}
    execution = recipe.execution.model_copy(update=overrides | {"store": tags.get(STORE, recipe.execution.store)})
    return recipe.model_copy(update={"execution": execution})


def _deliver_artifacts(held: TrainingRecords, store: Store, recipe: Recipe) -> None:
    """Complete the training's run if its model is in the store, and all runs if its scores are."""
    from pipeline_lib.tracking.publish import publish_run, publish_training

    folder, made_by = model_folder(store, held.training.tags[FINGERPRINT]), held.training.tags[BY]
    try:
        model, found = _artifact(folder), lineage.lineage_of_folder(folder)
        if found.base is None or found.prepared is None:
            return
        prepared, scores = _artifact(found.prepared), _artifact(found.scores) if found.scores else None
    except DAMAGE:
        return
    if scores:
        publish_run(recipe, prepared, model, scores, found.base, made_by)
    else:
        with delivery_errors(recipe.execution, model.fingerprint):
            publish_training(Tracker(recipe, made_by), prepared, model, found.base)


def _artifact(folder: Path) -> Artifact:
    """Return the intact artifact in a folder; raises one of DAMAGE if it is missing or damaged."""
    manifest = verify_artifact(folder)
    digest = content_digest(manifest["files"])
    return Artifact(
        manifest["identity"]["step"], manifest["fingerprint"], digest, folder, manifest["made"], reused=True
    )
