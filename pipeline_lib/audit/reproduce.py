"""Repeat a training from its records in MLflow, in a new store, and compare the results byte by byte."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline_lib.audit.provenance import recorded_modules
from pipeline_lib.errors import RecipeError
from pipeline_lib.models.base_model import locate_base
from pipeline_lib.pipeline.fingerprints import base_step
from pipeline_lib.pipeline.run import RunOutcome, run
from pipeline_lib.recipe.schema import Recipe, check
from pipeline_lib.store.differences import MISSING, Difference, flatten
from pipeline_lib.store.lineage import manifest_of, manifests
from pipeline_lib.tracking.data_files import changes, data_files
from pipeline_lib.tracking.records import TrainingRecords

WEIGHTS, PREDICTIONS = "model/", "predictions.parquet"
HOW = ("device", "precision", "processes", "sharding")
"""Parameters with the actual values of settings that may be `auto` in the recipe."""


@dataclass(frozen=True)
class Reproduction:
    """The comparison of a repeated training with the original."""

    store: str
    weights: bool
    """Whether all files of the model are byte-identical."""
    predictions: bool | None
    """Whether the predictions are byte-identical; None if MLflow has no evaluation."""
    metrics: dict[str, tuple[float | None, float | None]]
    """Original and new score on the test rows, of metrics that differ."""
    changed: list[str]
    """Differences in code, software and machine."""

    @property
    def same(self) -> bool:
        """Whether weights and predictions are byte-identical."""
        return self.weights and self.predictions is not False

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as JSON."""
        return asdict(self) | {"same": self.same}

    def lines(self) -> Iterator[str]:
        """Yield the comparison as text."""
        words = {True: "identical", False: "different", None: "not compared (MLflow has none)"}
        yield f"weights     {words[self.weights]}"
        yield f"predictions {words[self.predictions]}"
        for name, (then, now) in self.metrics.items():
            far = "" if then is None or now is None else f" ({now - then:+.6g})"
            yield f"{name:<11} {_number(then)} then, {_number(now)} now{far}"
        yield from (f"changed     {difference}" for difference in self.changed)
        if not self.changed:
            yield "changed     no recorded difference in code, software or machine"
        yield f"store       {self.store}"


def reproduce(held: TrainingRecords, store: Path) -> Reproduction:
    """Repeat a training in the new folder `store`, which also gets its own MLflow database.

    Raises:
        RecipeError: MLflow's records are incomplete, `store` is not empty, or the data or the base model has changed.
    """
    recipe = _recipe(held, store)
    _refuse_other_data(held, recipe)
    _refuse_other_base(held, recipe)
    outcome = run(recipe)
    model, scored = manifest_of(outcome.model.folder), _newest_evaluation(held)
    weights = _digests(held.manifests["finetune"], WEIGHTS) == _digests(model, WEIGHTS)
    changed = [str(fact) for fact in _find_changed_facts(_recorded_facts(held, scored), _current_facts(outcome))]
    if scored is None:
        return Reproduction(str(store), weights, None, {}, changed)
    predictions = _digests(scored[0], PREDICTIONS) == _digests(manifest_of(outcome.scores.folder), PREDICTIONS)
    now = json.loads((outcome.scores.folder / "metrics.json").read_text(encoding="utf-8"))
    return Reproduction(str(store), weights, predictions, dict(_find_changed_scores(scored[1], now)), changed)


def _recipe(held: TrainingRecords, store: Path) -> Recipe:
    """Return the resolved recipe with the new store, and the settings of the last evaluation."""
    if not held.recipe or "finetune" not in held.manifests:
        hint = "Give the run of a finished training; `tunesmith audit` lists them"
        raise RecipeError("RUN", held.training.id, "is not a finished training", hint)
    if store.exists() and (not store.is_dir() or any(store.iterdir())):
        hint = "Name a new folder: steps that a store already has would be reused"
        raise RecipeError("--store", str(store), "is not empty", hint)
    scored = _newest_evaluation(held)
    document = held.recipe | ({"evaluation": scored[0]["identity"]["recipe"]["evaluation"]} if scored else {})
    own = {"store": str(store), "tracking_uri": f"sqlite:///{store}/mlflow.db", "experiment": "reproduced"}
    execution = document["execution"] | own
    # as many processes as trained on several machines, on this one
    count = execution.get("processes", 1) * execution.get("machines", 1)
    return check(document | {"execution": execution | {"processes": count, "machines": 1, "rendezvous": None}})


def _refuse_other_data(held: TrainingRecords, recipe: Recipe) -> None:
    for file, what in changes(held.data, list(data_files(recipe))):
        hint = "Restore the original files; the run in MLflow has their SHA-256 digests"
        raise RecipeError(f"data.source.{file.split}", file.path, f"{what}, so this would be a different run", hint)


def _refuse_other_base(held: TrainingRecords, recipe: Recipe) -> None:
    then, now = held.manifests["base"]["identity"]["inputs"], base_step(locate_base(recipe.model)).inputs
    if changed := sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name)):
        problem = f"has changed since the run ({', '.join(changed)})"
        raise RecipeError("model.base", recipe.model.base, problem, "Restore its original files")


def _newest_evaluation(held: TrainingRecords) -> tuple[Any, Any] | None:
    """Manifest and scores of the newest evaluation."""
    if not held.evaluations:
        return None
    manifest, scores = (held.json(held.evaluations[-1], name) for name in ("manifest.json", "metrics.json"))
    return (manifest, scores) if manifest and scores else None


def _digests(manifest: Mapping[str, Any], prefix: str) -> dict[str, str]:
    return {name: facts["sha256"] for name, facts in manifest["files"].items() if name.startswith(prefix)}


def _find_changed_scores(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for name in then["metrics"] | now["metrics"]:
        was, is_ = (scores["metrics"].get(name, {}).get("value") for scores in (then, now))
        if was != is_:
            yield name, (was, is_)


def _recorded_facts(held: TrainingRecords, scored: tuple[Any, Any] | None) -> dict[str, Any]:
    by_step = {**held.manifests, **({"evaluate": scored[0]} if scored else {})}
    parameters = held.client.get_run(held.training.id).data.params
    carried = {name: parameters.get(name) for name in HOW}
    return _facts(by_step, held.environment, carried)


def _current_facts(outcome: RunOutcome) -> dict[str, Any]:
    summary = json.loads((outcome.model.folder / "summary.json").read_text(encoding="utf-8"))
    by_step = manifests(outcome.model.folder) | {"evaluate": manifest_of(outcome.scores.folder)}
    return _facts(by_step, outcome.model.made, {name: str(summary[name]) for name in HOW})


def _facts(by_step: Mapping[str, Any], environment: Mapping[str, Any], how: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that can make results differ for the same recipe and data."""
    project = (environment.get("git") or {}).get("project") or {}
    known = {
        "libraries": environment.get("software"),
        "machine": environment.get("machine"),
        "commit": project.get("commit"),
    }
    return {"code": recorded_modules(by_step), "training": how, **known}


def _find_changed_facts(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    """Facts that differ, by dotted path."""
    before, after = dict(flatten(then)), dict(flatten(now))
    for what in sorted(before.keys() | after.keys()):
        was, is_ = before.get(what, MISSING), after.get(what, MISSING)
        if was != is_:
            yield Difference(what, was, is_)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"
