"""What a run would do, step by step, and why; nothing is made and no model is loaded."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

from pipeline_lib.data.splits import SPLITS
from pipeline_lib.models.base_model import locate
from pipeline_lib.models.parameter_depth import PLACES, read_parameter_infos
from pipeline_lib.pipeline import fingerprints, input_checks
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.artifacts import Artifact, Step
from pipeline_lib.store.differences import explain_difference
from pipeline_lib.store.remote import open_store
from pipeline_lib.store.store import Store
from pipeline_lib.strategies.base import ParameterInfo
from pipeline_lib.training.frozen_backbone.layers import frozen_layers, why_not_cached
from pipeline_lib.training.parameters import ParameterRow, resolve
from pipeline_lib.util.times import humanize_time

FILES = 5
"""Files to be encoded that are named one by one."""


class Planned(NamedTuple):
    """A step: what will be reused, or why it has to be created, or why it is not `kept`; `of` names a shard's file."""

    step: str
    of: str
    artifact: Artifact | None
    why: str
    kept: bool = True

    @property
    def status(self) -> str:
        """What will become of it."""
        return "reused" if self.artifact else "to be created" if self.kept else "not cached"

    def __str__(self) -> str:
        if self.artifact:
            return f"reused {self.artifact.short} of {humanize_time(self.artifact.made['at'])}"
        return f"{self.status}: {self.why}"


def lines(planned: Sequence[Planned]) -> Iterator[str]:
    """One line a step; of the files that are encoded already no more than their number."""
    for name, group in groupby(planned, key=lambda each: each.step):
        members = list(group)
        if name != "shard":
            yield f"{name:<11} {members[0]}"
            continue
        made = [each for each in members if not each.artifact]
        yield f"{name:<11} {len(members) - len(made)} of {len(members)} files reused"
        yield from (f"{'':<11} {each.of}: {each}" for each in made[:FILES])
        if len(made) > FILES:
            yield f"{'':<11} and {len(made) - FILES} more"


@dataclass(repr=False)
class Plan:
    """All steps of a recipe in order; `parameters` is empty until the starting point has been made once."""

    store: Store
    planned: list[Planned] = field(default_factory=list)
    parameters: Sequence[ParameterRow] = ()
    detects: str = ""
    """What the test set can show; empty until the rows have been prepared once."""
    known: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, step: Step, of: str = "") -> Artifact | None:
        """Look a step up; one whose inputs are yet to be created has no artifact."""
        known = None not in (*step.inputs.values(), step.recipe.get("labels", ()))
        found = self.store.peek(step) if known else None
        self.planned.append(
            Planned(step.name, of, found, "" if found else explain_difference(step, self._manifests(step.name)))
        )
        return found

    def __repr__(self) -> str:
        """One line for each step."""
        return "\n".join(lines(self.planned))

    def _manifests(self, name: str) -> list[dict[str, Any]]:
        """Those of a step, read once: many new files are compared with the same ones."""
        if name not in self.known:
            self.known[name] = list(self.store.manifests(name))
        return self.known[name]


def plan(recipe: Recipe) -> Plan:
    """The plan of a recipe; raises RecipeError for what would stop the run before its first step."""
    input_checks.check(recipe)
    made = Plan(open_store(recipe.execution.store))
    folder = locate(recipe.model)
    base = digest(made.add(fingerprints.base_step(folder)))
    tokenizer = fingerprints.tokenizer_digests(folder)
    files = [(split, file) for split in SPLITS for file in recipe.data.source.files(split)]
    steps_of_files = ((split, file.name, fingerprints.shard_step(recipe, tokenizer, file)) for split, file in files)
    shards = [(split, digest(made.add(step, name))) for split, name, step in steps_of_files]
    shards.sort(key=lambda shard: (SPLITS.index(shard[0]), shard[1] or ""))
    prepared = made.add(fingerprints.prepare_step(recipe, shards))
    made.detects = _detects(prepared) if prepared else ""
    labels = json.loads((prepared.folder / "labels.json").read_text(encoding="utf-8")) if prepared else None
    initial = made.add(fingerprints.initialise_step(recipe, {"base": base}, labels))
    inputs = {"prepare": digest(prepared), "initialise": digest(initial), "base": base}
    found = made.add(fingerprints.checks_step(recipe, inputs))
    compared: dict[str, str | None] = {}
    if recipe.objective.reference_splits:
        step = fingerprints.reference_step(recipe, {"prepare": inputs["prepare"], "base": base})
        compared = {"reference": digest(made.add(step))}
    model = made.add(fingerprints.finetune_step(recipe, inputs | compared))
    if initial:
        decay = sum(regularizer.weight_decay() for regularizer in recipe.regularizers)
        where = read_parameter_infos(initial.folder / PLACES)
        made.parameters = resolve(where, recipe.strategies, recipe.training.learning_rate, decay)
        if not model:
            _add_trunk(made, recipe, {"prepare": digest(prepared), "base": base}, where)
    scored = {"prepare": digest(prepared), "checks": digest(found), "finetune": digest(model)}
    if recipe.evaluation.columns:
        scored["columns"] = digest(made.add(fingerprints.columns_step(recipe, digest(prepared))))
    scored |= compared
    made.add(fingerprints.evaluate_step(recipe, scored))
    return made


def _detects(prepared: Artifact) -> str:
    from pipeline_lib.evaluation.statistics.power import detects

    report = json.loads((prepared.folder / "report.json").read_text(encoding="utf-8"))
    return detects(report["rows"]["test"], report["groups"]["test"])


def _add_trunk(made: Plan, recipe: Recipe, inputs: fingerprints.Inputs, where: Collection[ParameterInfo]) -> None:
    """What training goes on from, before it: known once there are places, and looked up only for a training to come."""
    training = made.planned.pop()
    if why_not := why_not_cached(recipe, where):
        made.planned.append(Planned("features", "", None, why_not, kept=False))
    elif layers := frozen_layers(recipe, where):
        made.add(fingerprints.features_step(recipe, inputs, layers))
    made.planned.append(training)


def digest(artifact: Artifact | None) -> str | None:
    """The digest of what is there."""
    return artifact.digest if artifact else None
