"""Plan a run: which steps would be reused or created, and why. Creates nothing and loads no model."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from pipeline_lib.data.file_groups import find_groups
from pipeline_lib.data.prepared import read_labels
from pipeline_lib.data.splits import SPLITS
from pipeline_lib.models.base_model import locate_base
from pipeline_lib.models.parameter_depth import PLACES, read_parameter_infos
from pipeline_lib.pipeline import fingerprints, input_checks
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.artifacts import Artifact, Step
from pipeline_lib.store.differences import Candidate, explain_difference
from pipeline_lib.store.remote import open_store
from pipeline_lib.store.store import Store
from pipeline_lib.strategies.base import ParameterInfo
from pipeline_lib.training.frozen_backbone.layers import frozen_layers, why_not_cached
from pipeline_lib.training.parameters import ParameterRow, resolve
from pipeline_lib.util.times import humanize_time

FILES = 5
"""Maximum number of files to encode that are listed by name."""


class Planned(NamedTuple):
    """One step of a plan: the artifact to reuse, or why it has to be created or is not cached."""

    step: str
    of: str
    """Name of a shard's file or files; empty for other steps."""
    artifact: Artifact | None
    """The artifact to reuse; None if there is none."""
    why: str
    """Why the step has to be created or is not cached."""
    is_cached: bool = True
    """False for a step whose result is not cached."""
    files: int = 1
    """Number of a shard's files."""

    @property
    def status(self) -> str:
        """One of reused, to be created, not cached."""
        if self.artifact:
            return "reused"
        return "to be created" if self.is_cached else "not cached"

    def __str__(self) -> str:
        if self.artifact:
            return f"reused {self.artifact.short} of {humanize_time(self.artifact.made['at'])}"
        return f"{self.status}: {self.why}"


def format_plan(planned: Sequence[Planned]) -> Iterator[str]:
    """Yield one line per step; files that are already encoded are only counted."""
    for name, group in groupby(planned, key=lambda member: member.step):
        members = list(group)
        if name != "shard":
            yield f"{name:<11} {members[0]}"
            continue
        missing = [member for member in members if not member.artifact]
        reused = sum(member.files for member in members if member.artifact)
        yield f"{name:<11} {reused} of {sum(member.files for member in members)} files reused"
        yield from (f"{'':<11} {member.of}: {member}" for member in missing[:FILES])
        if len(missing) > FILES:
            yield f"{'':<11} and {sum(member.files for member in missing[FILES:])} more files"


@dataclass(repr=False)
class Plan:
    """All steps of a recipe in order, what would be trained, and what the test set can detect."""

    store: Store
    planned: list[Planned] = field(default_factory=list)
    parameters: Sequence[ParameterRow] = ()
    """The parameters and how they are trained; empty until `initialise` has been created once."""
    detects: str = ""
    """The smallest difference that the test set can detect; empty until `prepare` has been created once."""
    known: dict[str, list[Candidate]] = field(default_factory=dict)
    """Step -> its artifacts in the store, read once."""

    def add(self, step: Step, of: str = "", files: int = 1) -> Artifact | None:
        """Look up a step and add it to the plan; returns None if it is missing or an input does not exist yet."""
        inputs_exist = None not in (*step.inputs.values(), step.recipe.get("labels", ()))
        artifact = self.store.peek(step) if inputs_exist else None
        why = "" if artifact else explain_difference(step, self._candidates(step.name))
        self.planned.append(Planned(step.name, of, artifact, why, files=files))
        return artifact

    def artifact(self, step: str) -> Artifact | None:
        """Return the artifact of a step; None if it has to be created."""
        return next((planned.artifact for planned in self.planned if planned.step == step), None)

    def __repr__(self) -> str:
        """Show one line per step."""
        return "\n".join(format_plan(self.planned))

    def _candidates(self, name: str) -> list[Candidate]:
        """Return the artifacts of a step, read once: many new files are compared with the same ones."""
        if name not in self.known:
            self.known[name] = list(self.store.candidates(name))
        return self.known[name]


def plan(recipe: Recipe) -> Plan:
    """Plan a run without creating anything.

    Raises:
        RecipeError: The run would stop before its first step, for example because a file is missing.
    """
    input_checks.check_inputs(recipe)
    new_plan = Plan(open_store(recipe.execution.store))
    folder = locate_base(recipe.model)
    base = artifact_digest(new_plan.add(fingerprints.base_step(folder)))
    tokenizer = fingerprints.tokenizer_digests(folder)
    groups = [group for split in SPLITS for group in find_groups(recipe, tokenizer, split)]
    shards = [
        (group.split, artifact_digest(new_plan.add(group.step, group.name, len(group.files)))) for group in groups
    ]
    shards.sort(key=lambda shard: (SPLITS.index(shard[0]), shard[1] or ""))
    prepared = new_plan.add(fingerprints.prepare_step(recipe, shards))
    new_plan.detects = _detects(prepared) if prepared else ""
    labels = read_labels(prepared.folder) if prepared else None
    initial = new_plan.add(fingerprints.initialise_step(recipe, {"base": base}, labels))
    inputs = {"prepare": artifact_digest(prepared), "initialise": artifact_digest(initial), "base": base}
    checked = new_plan.add(fingerprints.checks_step(recipe, inputs))
    reference: dict[str, str | None] = {}
    if recipe.objective.reference_splits:
        step = fingerprints.reference_step(recipe, {"prepare": inputs["prepare"], "base": base})
        reference = {"reference": artifact_digest(new_plan.add(step))}
    model = new_plan.add(fingerprints.finetune_step(recipe, inputs | reference))
    if initial:
        decay = sum(regularizer.weight_decay() for regularizer in recipe.regularizers)
        parameters = read_parameter_infos(initial.folder / PLACES)
        new_plan.parameters = resolve(parameters, recipe.strategies, recipe.training.learning_rate, decay)
        if not model:
            _add_features(new_plan, recipe, {"prepare": artifact_digest(prepared), "base": base}, parameters)
    scored_inputs = {
        "prepare": artifact_digest(prepared),
        "checks": artifact_digest(checked),
        "finetune": artifact_digest(model),
    }
    if recipe.evaluation.columns:
        scored_inputs["columns"] = artifact_digest(
            new_plan.add(fingerprints.columns_step(recipe, artifact_digest(prepared)))
        )
    scored_inputs |= reference
    new_plan.add(fingerprints.evaluate_step(recipe, scored_inputs))
    return new_plan


def _detects(prepared: Artifact) -> str:
    from pipeline_lib.evaluation.statistics.power import detects

    report = json.loads((prepared.folder / "report.json").read_text(encoding="utf-8"))
    return detects(report["rows"]["test"], report["groups"]["test"])


def _add_features(
    new_plan: Plan, recipe: Recipe, inputs: fingerprints.Inputs, parameters: Collection[ParameterInfo]
) -> None:
    """Insert the `features` step before the training that would use it."""
    training = new_plan.planned.pop()
    if reason := why_not_cached(recipe, parameters):
        new_plan.planned.append(Planned("features", "", None, reason, is_cached=False))
    elif layers := frozen_layers(recipe, parameters):
        new_plan.add(fingerprints.features_step(recipe, inputs, layers))
    new_plan.planned.append(training)


def artifact_digest(artifact: Artifact | None) -> str | None:
    """Return the digest of an artifact; None if there is no artifact."""
    return artifact.digest if artifact else None
