"""What a run would do, step by step, and why; nothing is made and no model is loaded."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

from pipeline_lib import identity, input_checks
from pipeline_lib.data.splits import SPLITS
from pipeline_lib.models.base import locate
from pipeline_lib.models.places import PLACES, read_places
from pipeline_lib.plan.explain import why
from pipeline_lib.recipe import Recipe
from pipeline_lib.store.artifact import Artifact, Step
from pipeline_lib.store.remote import open_store
from pipeline_lib.store.store import Store
from pipeline_lib.strategies.base import Place
from pipeline_lib.times import when
from pipeline_lib.training.frozen import trunk_layers, why_not_kept
from pipeline_lib.training.parameters import ParameterRow, resolve

FILES = 5
"""Files to be encoded that are named one by one."""


class Planned(NamedTuple):
    """A step: what will be reused, or why it has to be made, or why it is not `kept`; `of` names a shard's file."""

    step: str
    of: str
    artifact: Artifact | None
    why: str
    kept: bool = True

    @property
    def status(self) -> str:
        """What will become of it."""
        return "reused" if self.artifact else "to be made" if self.kept else "not kept"

    def __str__(self) -> str:
        if self.artifact:
            return f"reused {self.artifact.short} of {when(self.artifact.made['at'])}"
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
    known: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, step: Step, of: str = "") -> Artifact | None:
        """Look a step up; one whose inputs are yet to be made has no artifact."""
        known = None not in (*step.inputs.values(), step.recipe.get("labels", ()))
        found = self.store.peek(step) if known else None
        self.planned.append(Planned(step.name, of, found, "" if found else why(step, self._manifests(step.name))))
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
    base = digest(made.add(identity.base_step(folder)))
    tokenizer = identity.tokenizer_digests(folder)
    files = [(split, file) for split in SPLITS for file in recipe.data.source.files(split)]
    steps_of_files = ((split, file.name, identity.shard_step(recipe, tokenizer, file)) for split, file in files)
    shards = [(split, digest(made.add(step, name))) for split, name, step in steps_of_files]
    shards.sort(key=lambda shard: (SPLITS.index(shard[0]), shard[1] or ""))
    prepared = made.add(identity.prepare_step(recipe, shards))
    labels = json.loads((prepared.folder / "labels.json").read_text(encoding="utf-8")) if prepared else None
    initial = made.add(identity.initialise_step(recipe, {"base": base}, labels))
    inputs = {"prepare": digest(prepared), "initialise": digest(initial), "base": base}
    found = made.add(identity.checks_step(recipe, inputs))
    model = made.add(identity.finetune_step(recipe, inputs))
    if initial:
        decay = sum(regularizer.weight_decay() for regularizer in recipe.regularizers)
        where = read_places(initial.folder / PLACES)
        made.parameters = resolve(where, recipe.strategies, recipe.training.learning_rate, decay)
        if not model:
            _add_trunk(made, recipe, {"prepare": digest(prepared), "base": base}, where)
    scored = {"prepare": digest(prepared), "checks": digest(found), "finetune": digest(model)}
    if recipe.evaluation.columns:
        scored["columns"] = digest(made.add(identity.columns_step(recipe, digest(prepared))))
    made.add(identity.evaluate_step(recipe, scored))
    return made


def _add_trunk(made: Plan, recipe: Recipe, inputs: identity.Inputs, where: Collection[Place]) -> None:
    """What training goes on from, before it: known once there are places, and looked up only for a training to come."""
    training = made.planned.pop()
    if why_not := why_not_kept(recipe, where):
        made.planned.append(Planned("trunk", "", None, why_not, kept=False))
    elif layers := trunk_layers(recipe, where):
        made.add(identity.trunk_step(recipe, inputs, layers))
    made.planned.append(training)


def digest(artifact: Artifact | None) -> str | None:
    """The digest of what is there."""
    return artifact.digest if artifact else None
