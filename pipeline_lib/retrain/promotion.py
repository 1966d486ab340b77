"""The end of a retraining: judge the challengers, register one of them, and promote it or keep the champion."""

import json
from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.pipeline import steps
from pipeline_lib.pipeline.nested_steps import shards_of
from pipeline_lib.pipeline.receipts import forget_receipt
from pipeline_lib.pipeline.run import RunOutcome
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.retrain import tags
from pipeline_lib.retrain.drift import find_unseen_rows
from pipeline_lib.retrain.gate import Gate
from pipeline_lib.retrain.gate_checks import Decision, GateCheck, check_against_champion, check_floors, decide
from pipeline_lib.retrain.preflight import Preflight, challengers, find_promotion_obstacle
from pipeline_lib.retrain.steps import profile, rescore
from pipeline_lib.retrain.tags import challenge, json_digest, registry_of
from pipeline_lib.store.remote import open_store
from pipeline_lib.util.redaction import redact_errors
from pipeline_lib.util.temporary import temporary_folder

if TYPE_CHECKING:
    from pipeline_lib.tracking.registry import Registry, Version


@redact_errors()
def decide_promotion(recipe: Recipe, gate: Gate, seen: Preflight, runs: Sequence[RunOutcome], made_by: str) -> Decision:
    """Compare the challengers with the champion on the same rows, register one of them, and promote it or not.

    The version with the decision in its tags is written first, then pins, and the alias last. If the process is killed
    in between, the champion stays and the next run continues with the same version.
    """
    registry, chosen = registry_of(recipe, gate), median([run.model.folder for run in runs])
    best, champion = (
        _republish_if_deleted(challengers(recipe, gate)[chosen], runs[chosen], registry, made_by),
        seen.champion,
    )
    registered = next((version for version in registry.versions() if version.model == best.published["model"]), None)
    if registered and (reason := find_promotion_obstacle(registered, champion)):
        return Decision("nothing to do", f"the median of {len(runs)} challengers was chosen, and {reason}")
    checks = _floors(recipe, gate, best.scores.folder)
    if champion:
        checks = _compare_with_champion(recipe, gate, registry, champion, runs, chosen, made_by) + checks
    decision = decide(checks, champion.number if champion else None)
    if seen.drift:
        decision = replace(decision, numbers={**decision.numbers, **seen.drift.numbers}, notes=seen.drift.notes)
    registry.log_profile(best.published["model"], profile(recipe, best.data, made_by).folder)
    version = registry.register(
        best.published["model"], _tags(recipe, gate, runs, chosen, decision), decision.reason[: tags.LONGEST]
    )
    if decision.verdict == "promoted":
        _pin(recipe, gate.name(recipe), version.number, best)
        registry.promote(version, champion)
    return replace(decision, version=version.number)


def _republish_if_deleted(recipe: Recipe, outcome: RunOutcome, registry: "Registry", made_by: str) -> RunOutcome:
    """The run, published again if its model was deleted in MLflow or the server has a new database."""
    if registry.holds(outcome.published["model"]):
        return outcome
    forget_receipt(recipe, open_store(recipe.execution.store), outcome.scores)
    return replace(outcome, published=steps.publish(recipe, outcome.data, outcome.model, outcome.scores, made_by))


def median(models: Sequence[Path]) -> int:
    """The index of the challenger with the median validation score; test rows are not used, so they stay unbiased."""
    best = [json.loads((folder / "summary.json").read_text(encoding="utf-8"))["best"] for folder in models]
    if None in best:
        return 0  # without validation rows there is nothing to choose by
    return sorted(range(len(best)), key=best.__getitem__)[(len(best) - 1) // 2]


def _compare_with_champion(
    recipe: Recipe,
    gate: Gate,
    registry: "Registry",
    champion: "Version",
    runs: Sequence[RunOutcome],
    chosen: int,
    made_by: str,
) -> list[GateCheck]:
    """The checks against the champion, on test rows that it has not seen."""
    from pipeline_lib.data.prepared import read_split
    from pipeline_lib.evaluation.predictions_file import read_predictions

    store, prepared = open_store(recipe.execution.store), runs[chosen].data
    challengers_keyed = [read_predictions(run.scores.folder) for run in runs]
    champion_keyed = read_predictions(rescore(recipe, prepared, registry, champion, made_by).folder)
    rows = read_split(prepared.folder, shards_of(store), "test")
    if len(rows) == len(champion_keyed.rows):  # predictions of blocks that span rows cannot be filtered by row
        with temporary_folder() as folder:
            unseen = find_unseen_rows(rows, registry.profile(champion, folder))
        challengers_keyed = [predictions.select_rows(unseen) for predictions in challengers_keyed]
        champion_keyed = champion_keyed.select_rows(unseen)
    name = gate.metric_for(recipe)
    metric = recipe.objective.metrics()[name]
    outcomes = [predictions.outcome for predictions in challengers_keyed]
    return check_against_champion(gate, name, metric, champion_keyed.outcome, outcomes, chosen)


def _floors(recipe: Recipe, gate: Gate, scores: Path) -> list[GateCheck]:
    if not gate.floors:
        return []
    import pyarrow.parquet as pq

    from pipeline_lib.evaluation.predictions_file import read_predictions

    needed = {floor.column for floor in gate.floors if floor.column}
    table = pq.read_table(scores / "predictions.parquet")
    columns = {name: table[name].to_pylist() for name in needed & set(table.column_names)}
    return check_floors(gate.floors, recipe.objective.metrics(), read_predictions(scores).outcome, columns)


def _tags(recipe: Recipe, gate: Gate, runs: Sequence[RunOutcome], chosen: int, decision: Decision) -> dict[str, str]:
    """The tags that document a version.

    For an existing version they are set one by one, so those that mark it as decided (against, gate) come last.
    """
    numbers = {name: round(value, 6) if isfinite(value) else None for name, value in decision.numbers.items()}
    return {
        tags.CHALLENGE: challenge([run.model.fingerprint for run in runs]),
        tags.DIGEST: runs[chosen].model.digest,
        tags.OBJECTIVE: recipe.objective.kind,
        "tunesmith.finetune": runs[chosen].model.fingerprint,
        "tunesmith.evaluate": runs[chosen].scores.fingerprint,
        "tunesmith.gate.settings": json.dumps(gate.model_dump(mode="json", exclude_defaults=True)),
        "tunesmith.numbers": json.dumps(numbers),
        tags.REASON: decision.reason[: tags.LONGEST],
        tags.VERDICT: decision.verdict,
        tags.AGAINST: str(decision.champion),
        tags.GATE: json_digest(gate.model_dump(mode="json")),
    }


def _pin(recipe: Recipe, name: str, version: int, best: RunOutcome) -> None:
    """Pin the artifacts that a champion was made from, so that it can be audited later."""
    from pipeline_lib.store.pins import pin

    store = open_store(recipe.execution.store)
    shards = json.loads((best.data.folder / "shards.json").read_text(encoding="utf-8"))
    parts = (steps.fetch_base(recipe), best.data, best.start, best.model, best.scores)
    pin(store.root, f"models:/{name}/{version}", [*(part.fingerprint for part in parts), *shards])
