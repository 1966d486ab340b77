"""Checks before a retraining: whether anything is new, whether the data fits, and how far it has drifted."""

import json
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline_lib.errors import RecipeError
from pipeline_lib.evaluation.statistics.power import detects
from pipeline_lib.pipeline.nested_steps import shards_of
from pipeline_lib.pipeline.plan import plan
from pipeline_lib.preflight import preflight
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.retrain import tags
from pipeline_lib.retrain.drift import Drift, measure_drift
from pipeline_lib.retrain.gate import Gate
from pipeline_lib.retrain.gate_checks import Decision
from pipeline_lib.retrain.steps import embedder
from pipeline_lib.retrain.tags import challenge, json_digest, registry_of
from pipeline_lib.store.artifacts import Artifact
from pipeline_lib.store.remote import open_store
from pipeline_lib.util.redaction import redact_errors
from pipeline_lib.util.temporary import temporary_folder

if TYPE_CHECKING:
    from pipeline_lib.tracking.registry import Version

log = logging.getLogger("tunesmith")


@dataclass(frozen=True)
class Preflight:
    """The result of the checks: the champion, the drift, and a decision if the retraining ends here."""

    champion: "Version | None"
    ends: Decision | None = None
    drift: Drift | None = None


def challengers(recipe: Recipe, gate: Gate) -> list[Recipe]:
    """One recipe per seed, counting up from the recipe's own; all use the same rows."""
    if gate.seeds == 1:
        return [recipe]
    return [recipe.with_seed(recipe.seed + index) for index in range(gate.seeds)]


@redact_errors()
def refuse_unfit(recipe: Recipe, gate: Gate) -> Preflight:
    """Find the champion, and whether there is nothing to do, from plan and registry, without running any step."""
    gate.check(recipe)
    preflight.require(recipe, warn=False)
    registry = registry_of(recipe, gate)
    champion = registry.champion()
    _refuse_stranger(recipe, gate, champion)
    fingerprints = [_trained_fingerprint(challenger) for challenger in challengers(recipe, gate)]
    if None in fingerprints:
        return Preflight(champion)
    trained = challenge(fingerprints)
    for version in registry.versions():
        if version.tags.get(tags.CHALLENGE) == trained:
            reason = _find_settled_verdict(version, champion, gate)
            if reason:
                return Preflight(champion, Decision("nothing to do", f"every step is reused, and {reason}"))
    return Preflight(champion)


def _refuse_stranger(recipe: Recipe, gate: Gate, champion: "Version | None") -> None:
    """Raise RecipeError if the champion has another or an unknown objective."""
    kind = champion and champion.tags.get(tags.OBJECTIVE)
    if champion and kind != recipe.objective.kind:
        problem = f"has a champion that was trained for {kind or 'an unknown objective'}"
        raise RecipeError("gate.model", gate.name(recipe), problem, "Set another model for this recipe")


def find_promotion_obstacle(version: "Version", champion: "Version | None") -> str | None:
    """The reason why a version cannot be promoted whatever its scores; None if it can."""
    from pipeline_lib.tracking.registry import ROLLED_BACK

    if champion and version.number == champion.number:
        return f"the champion is this model (version {version.number})"
    if ROLLED_BACK in version.tags:
        return f"this model (version {version.number}) was rolled back by {version.tags[ROLLED_BACK]}"
    return None


def _find_settled_verdict(version: "Version", champion: "Version | None", gate: Gate) -> str | None:
    """The reason why a version from the same training is not judged again; None if it is."""
    if reason := find_promotion_obstacle(version, champion):
        return reason
    last_decision = (version.tags.get(tags.VERDICT), version.tags.get(tags.AGAINST), version.tags.get(tags.GATE))
    if last_decision == ("refused", str(champion and champion.number), json_digest(gate.model_dump(mode="json"))):
        return f"this model (version {version.number}) was refused: {version.tags[tags.REASON]}"
    return None


def _trained_fingerprint(recipe: Recipe) -> str | None:
    """The fingerprint of the trained model, if all steps up to its evaluation are in the store already."""
    planned = plan(recipe).planned
    if any(step.artifact is None for step in planned):
        return None
    return next(step.artifact.fingerprint for step in planned if step.step == "finetune" and step.artifact)


@redact_errors()
def prepare_retraining(recipe: Recipe, gate: Gate, seen: Preflight, prepared: Artifact, made_by: str) -> Preflight:
    """Measure the drift of the prepared data from the champion's; raises RecipeError if labels differ."""
    if seen.champion is None:
        return seen
    report = json.loads((prepared.folder / "report.json").read_text(encoding="utf-8"))
    log.info("%-11s %s", "gate", detects(report["rows"]["test"], report["groups"]["test"]))
    store, base = open_store(recipe.execution.store), embedder(recipe, made_by)
    with temporary_folder() as download:
        before = registry_of(recipe, gate).profile(seen.champion, download)
        drift = measure_drift(recipe.objective, prepared.folder, shards_of(store), before, base)
    blocked = drift.beyond(gate.drift)
    if warnings := drift.warnings(gate.drift):
        few = f", too few to block (gate.drift.least_rows is {gate.drift.least_rows})"
        rows_note = few if drift.rows < gate.drift.least_rows else ""
        log.warning(
            "%-11s The %s new rows differ from the champion's data%s: %s. Training continues; stop it if this is wrong",
            "drift",
            f"{drift.rows:,}",
            rows_note,
            "; ".join(warnings),
        )
    reason = f"{'; '.join(blocked)} over {drift.rows:,} new rows"
    decision = Decision("blocked", reason, None, seen.champion.number, drift.numbers, drift.notes)
    return replace(seen, drift=drift, ends=decision if blocked else None)
