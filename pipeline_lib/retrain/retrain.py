"""A whole retraining as plain calls: look at the data, train challengers, decide. The flow takes the same steps."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pipeline_lib import steps
from pipeline_lib.masking import in_errors
from pipeline_lib.plan.plan import plan
from pipeline_lib.recipe import Recipe
from pipeline_lib.retrain.decide import Check, Decision, above_floors, against, concluded
from pipeline_lib.retrain.drift import Drift, drift, not_seen
from pipeline_lib.retrain.gate import Gate
from pipeline_lib.retrain.steps import DIGEST, profile, rescore
from pipeline_lib.run import RunOutcome, run
from pipeline_lib.schema import RecipeError
from pipeline_lib.store.remote import open_store
from pipeline_lib.store.store import Artifact

if TYPE_CHECKING:
    from pipeline_lib.tracking.registry import Registry, Version

CHALLENGE, AGAINST, GATE = "tunesmith.challenge", "tunesmith.against", "tunesmith.gate"
OBJECTIVE, VERDICT, REASON = "tunesmith.objective", "tunesmith.verdict", "tunesmith.reason"
LONGEST = 5000
"""Characters of a tag that MLflow keeps."""


@dataclass(frozen=True)
class Look:
    """What stands before a retraining: the champion, how far the data moved, and a decision where all ends here."""

    champion: "Version | None"
    ends: Decision | None = None
    drift: Drift | None = None


def retrain(recipe: Recipe, gate: Gate, by: str = "a plain call") -> Decision:
    """Train a challenger where something is new, and promote it where the gate lets it through."""
    seen = ask(recipe, gate)
    if not seen.ends:
        seen = look(recipe, gate, seen, steps.prepare(recipe, by=by), by)
    if seen.ends:
        return seen.ends
    return conclude(recipe, gate, seen, [run(each, by) for each in challengers(recipe, gate)], by)


def challengers(recipe: Recipe, gate: Gate) -> list[Recipe]:
    """One recipe a seed, from the recipe's own on; all on the same rows."""
    if gate.seeds == 1:
        return [recipe]
    return [recipe.with_seed(recipe.seed + index) for index in range(gate.seeds)]


@in_errors()
def ask(recipe: Recipe, gate: Gate) -> Look:
    """The champion, and whether there is nothing to do: asked of the plan and the registry, so that nothing is made."""
    gate.check(recipe)
    registry = _registry(recipe, gate)
    champion = registry.champion()
    _refuse_stranger(recipe, gate, champion)
    fingerprints = [_planned(each) for each in challengers(recipe, gate)]
    if None in fingerprints:
        return Look(champion)
    challenge = _challenge(fingerprints)
    same = [version for version in registry.versions() if version.tags.get(CHALLENGE) == challenge]
    known = next((why for version in same if (why := _settled(version, champion, gate))), None)
    return Look(champion, Decision("nothing to do", f"every step is reused, and {known}") if known else None)


def _refuse_stranger(recipe: Recipe, gate: Gate, champion: "Version | None") -> None:
    """Raise RecipeError for a champion of another objective, or one of which nothing is known here."""
    kind = champion and champion.tags.get(OBJECTIVE)
    if champion and kind != recipe.objective.kind:
        problem = f"has a champion that was trained for {kind or 'something unknown here'}"
        raise RecipeError("gate.model", gate.name(recipe), problem, "Name another model for this recipe")


def _settled(version: "Version", champion: "Version | None", gate: Gate) -> str | None:
    """Why a version that was trained on the same is not to be judged again; None where it is."""
    from pipeline_lib.tracking.registry import ROLLED_BACK

    if champion and version.number == champion.number:
        return f"the champion is this model (version {version.number})"
    if ROLLED_BACK in version.tags:
        return f"this model (version {version.number}) was rolled back by {version.tags[ROLLED_BACK]}"
    judged = (version.tags.get(VERDICT), version.tags.get(AGAINST), version.tags.get(GATE))
    if judged == ("refused", str(champion and champion.number), _digest(gate.model_dump(mode="json"))):
        return f"this model (version {version.number}) was refused: {version.tags[REASON]}"
    return None


@in_errors()
def look(recipe: Recipe, gate: Gate, seen: Look, prepared: Artifact, by: str) -> Look:
    """How far the prepared data is from the champion's; raises RecipeError where its labels are others."""
    if seen.champion is None:
        return seen
    store = open_store(recipe.execution.store)
    with TemporaryDirectory() as aside:
        before = _registry(recipe, gate).profile(seen.champion, Path(aside))
        found = drift(recipe.objective, prepared.folder, store.root / "steps" / "shard", before)
    blocked = found.beyond(gate.drift)
    reason = f"{'; '.join(blocked)} over {found.rows:,} new rows"
    ends = Decision("blocked", reason, champion=seen.champion.number, numbers=_numbers(found)) if blocked else None
    return replace(seen, drift=found, ends=ends)


@in_errors()
def conclude(recipe: Recipe, gate: Gate, seen: Look, runs: Sequence[RunOutcome], by: str) -> Decision:
    """Judge the challengers on the rows that the champion answers too, register one of them, promote it or not.

    In this order: the version with the decision in its tags, pins, and the alias last. A kill in between leaves the
    champion in its place, and the next run takes up the same version.
    """
    registry, chosen = _registry(recipe, gate), median([each.model.folder for each in runs])
    best, champion = runs[chosen], seen.champion
    checks = _floors(recipe, gate, best.scores.folder)
    if champion:
        checks = _against(recipe, gate, registry, champion, runs, chosen, by) + checks
    decision = concluded(checks, champion.number if champion else None)
    decision = replace(decision, numbers={**decision.numbers, **(_numbers(seen.drift) if seen.drift else {})})
    registry.log_profile(best.published["model"], profile(recipe, best.data, by).folder)
    version = registry.register(
        best.published["model"], _tags(recipe, gate, runs, chosen, decision), decision.reason[:LONGEST]
    )
    if decision.verdict == "promoted":
        _pin(recipe, gate.name(recipe), version.number, best)
        registry.promote(version, champion)
    return replace(decision, version=version.number)


def median(models: Sequence[Path]) -> int:
    """The challenger whose validation score is the median: the test rows choose none, so they stay a test."""
    best = [json.loads((folder / "summary.json").read_text(encoding="utf-8"))["best"] for folder in models]
    if None in best:
        return 0  # no validation rows: all are equally good for all that is known
    return sorted(range(len(best)), key=best.__getitem__)[(len(best) - 1) // 2]


def _against(
    recipe: Recipe,
    gate: Gate,
    registry: "Registry",
    champion: "Version",
    runs: Sequence[RunOutcome],
    chosen: int,
    by: str,
) -> list[Check]:
    from pipeline_lib.data.dataset import read_split
    from pipeline_lib.evaluation.outcome_file import read_outcome

    store, prepared = open_store(recipe.execution.store), runs[chosen].data
    mine = [read_outcome(each.scores.folder) for each in runs]
    theirs = read_outcome(rescore(recipe, prepared, registry, champion, by).folder)
    rows = read_split(prepared.folder, store.root / "steps" / "shard", "test")
    if len(rows) == len(theirs.rows):  # not where blocks go across rows
        with TemporaryDirectory() as aside:
            fair = not_seen(rows, registry.profile(champion, Path(aside)))
        mine, theirs = [each.only(fair) for each in mine], theirs.only(fair)
    name = gate.compared_by(recipe)
    metric = recipe.objective.metrics()[name]
    return against(gate, name, metric, theirs.outcome, [each.outcome for each in mine], chosen)


def _floors(recipe: Recipe, gate: Gate, scores: Path) -> list[Check]:
    import pyarrow.parquet as pq

    from pipeline_lib.evaluation.outcome_file import read_outcome

    wanted = {floor.column for floor in gate.floors if floor.column}
    table = pq.read_table(scores / "predictions.parquet")
    columns = {name: table[name].to_pylist() for name in wanted & set(table.column_names)}
    return above_floors(gate.floors, recipe.objective.metrics(), read_outcome(scores).outcome, columns)


def _tags(recipe: Recipe, gate: Gate, runs: Sequence[RunOutcome], chosen: int, decision: Decision) -> dict[str, str]:
    """What an auditor asks of a version. Of a known one they are set one by one: only the last two make it settled."""
    numbers = {name: round(value, 6) if isfinite(value) else None for name, value in decision.numbers.items()}
    return {
        CHALLENGE: _challenge([each.model.fingerprint for each in runs]),
        DIGEST: runs[chosen].model.digest,
        OBJECTIVE: recipe.objective.kind,
        "tunesmith.finetune": runs[chosen].model.fingerprint,
        "tunesmith.evaluate": runs[chosen].scores.fingerprint,
        "tunesmith.gate.settings": json.dumps(gate.model_dump(mode="json", exclude_defaults=True)),
        "tunesmith.numbers": json.dumps(numbers),
        REASON: decision.reason[:LONGEST],
        VERDICT: decision.verdict,
        AGAINST: str(decision.champion),
        GATE: _digest(gate.model_dump(mode="json")),
    }


def _pin(recipe: Recipe, name: str, version: int, best: RunOutcome) -> None:
    """Keep what a champion was made from for as long as it may be audited."""
    from pipeline_lib.cache.pins import pin

    store = open_store(recipe.execution.store)
    shards = json.loads((best.data.folder / "shards.json").read_text(encoding="utf-8"))
    parts = (steps.fetch(recipe), best.data, best.start, best.model, best.scores)
    pin(store.root, f"models:/{name}/{version}", [*(part.fingerprint for part in parts), *shards])


def _numbers(found: Drift) -> dict[str, float]:
    return {"new_rows": found.rows, **{f"drift.{name}": value for name, value in found.distances.items()}}


def _planned(recipe: Recipe) -> str | None:
    """The fingerprint of a trained model that is there already, with its evaluation."""
    planned = plan(recipe).planned
    if any(step.artifact is None for step in planned):
        return None
    return next(step.artifact.fingerprint for step in planned if step.step == "finetune" and step.artifact)


def _challenge(fingerprints: Sequence[str | None]) -> str:
    return _digest(list(fingerprints))


def _digest(value: object) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _registry(recipe: Recipe, gate: Gate) -> "Registry":
    from pipeline_lib.tracking.registry import Registry  # importing MLflow takes seconds

    return Registry(recipe.execution, gate.name(recipe))
