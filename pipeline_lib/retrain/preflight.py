"""What stands before a retraining: is anything new, is the data fit, and how far has it moved."""

import json
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline_lib.errors import RecipeError
from pipeline_lib.evaluation.statistics.power import detects
from pipeline_lib.pipeline.plan import plan
from pipeline_lib.preflight import preflight
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.retrain import tags
from pipeline_lib.retrain.drift import Drift, measure_drift
from pipeline_lib.retrain.gate import Gate
from pipeline_lib.retrain.gate_checks import Decision
from pipeline_lib.retrain.steps import embedder
from pipeline_lib.retrain.tags import challenge, digest, registry_of
from pipeline_lib.store.artifacts import Artifact
from pipeline_lib.store.remote import open_store
from pipeline_lib.util.redaction import redact_errors
from pipeline_lib.util.temporary import temporary_folder

if TYPE_CHECKING:
    from pipeline_lib.tracking.registry import Version

log = logging.getLogger("tunesmith")


@dataclass(frozen=True)
class Preflight:
    """What stands before a retraining: the champion, how far the data moved, and a decision where all ends here."""

    champion: "Version | None"
    ends: Decision | None = None
    drift: Drift | None = None


def challengers(recipe: Recipe, gate: Gate) -> list[Recipe]:
    """One recipe a seed, from the recipe's own on; all on the same rows."""
    if gate.seeds == 1:
        return [recipe]
    return [recipe.with_seed(recipe.seed + index) for index in range(gate.seeds)]


@redact_errors()
def refuse_unfit(recipe: Recipe, gate: Gate) -> Preflight:
    """The champion, and whether there is nothing to do: asked of the plan and the registry, so that nothing is made."""
    gate.check(recipe)
    preflight.require(recipe, tell=False)
    registry = registry_of(recipe, gate)
    champion = registry.champion()
    _refuse_stranger(recipe, gate, champion)
    fingerprints = [_planned(each) for each in challengers(recipe, gate)]
    if None in fingerprints:
        return Preflight(champion)
    trained = challenge(fingerprints)
    same = [version for version in registry.versions() if version.tags.get(tags.CHALLENGE) == trained]
    known = next((why for version in same if (why := _settled(version, champion, gate))), None)
    return Preflight(champion, Decision("nothing to do", f"every step is reused, and {known}") if known else None)


def _refuse_stranger(recipe: Recipe, gate: Gate, champion: "Version | None") -> None:
    """Raise RecipeError for a champion of another objective, or one of which nothing is known here."""
    kind = champion and champion.tags.get(tags.OBJECTIVE)
    if champion and kind != recipe.objective.kind:
        problem = f"has a champion that was trained for {kind or 'something unknown here'}"
        raise RecipeError("gate.model", gate.name(recipe), problem, "Name another model for this recipe")


def closed(version: "Version", champion: "Version | None") -> str | None:
    """Why a version can't be promoted whatever it shows; None where it can."""
    from pipeline_lib.tracking.registry import ROLLED_BACK

    if champion and version.number == champion.number:
        return f"the champion is this model (version {version.number})"
    if ROLLED_BACK in version.tags:
        return f"this model (version {version.number}) was rolled back by {version.tags[ROLLED_BACK]}"
    return None


def _settled(version: "Version", champion: "Version | None", gate: Gate) -> str | None:
    """Why a version that was trained on the same is not to be judged again; None where it is."""
    if why := closed(version, champion):
        return why
    judged = (version.tags.get(tags.VERDICT), version.tags.get(tags.AGAINST), version.tags.get(tags.GATE))
    if judged == ("refused", str(champion and champion.number), digest(gate.model_dump(mode="json"))):
        return f"this model (version {version.number}) was refused: {version.tags[tags.REASON]}"
    return None


def _planned(recipe: Recipe) -> str | None:
    """The fingerprint of a trained model that is there already, with its evaluation."""
    planned = plan(recipe).planned
    if any(step.artifact is None for step in planned):
        return None
    return next(step.artifact.fingerprint for step in planned if step.step == "finetune" and step.artifact)


@redact_errors()
def prepare_retraining(recipe: Recipe, gate: Gate, seen: Preflight, prepared: Artifact, made_by: str) -> Preflight:
    """How far the prepared data is from the champion's; raises RecipeError where its labels are others."""
    if seen.champion is None:
        return seen
    report = json.loads((prepared.folder / "report.json").read_text(encoding="utf-8"))
    log.info("%-11s %s", "gate", detects(report["rows"]["test"], report["groups"]["test"]))
    store, base = open_store(recipe.execution.store), embedder(recipe, made_by)
    with temporary_folder() as aside:
        before = registry_of(recipe, gate).profile(seen.champion, aside)
        found = measure_drift(recipe.objective, prepared.folder, store.root / "steps" / "shard", before, base)
    blocked = found.beyond(gate.drift)
    if warnings := found.warnings(gate.drift):
        few = f", too few to block (gate.drift.least_rows is {gate.drift.least_rows})"
        rows_note = few if found.rows < gate.drift.least_rows else ""
        log.warning(
            "%-11s The %s new rows differ from the champion's data%s: %s. Training goes on; stop it if this is wrong",
            "drift",
            f"{found.rows:,}",
            rows_note,
            "; ".join(warnings),
        )
    reason = f"{'; '.join(blocked)} over {found.rows:,} new rows"
    told = Decision("blocked", reason, None, seen.champion.number, found.numbers, found.notes)
    return replace(seen, drift=found, ends=told if blocked else None)
