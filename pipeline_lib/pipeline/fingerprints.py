"""What each step is: the recipe's parts and the bytes that decide what it writes. No step is made here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline_lib.models.base_model import TOKENIZER, WEIGHTS, digests
from pipeline_lib.pipeline.code_fingerprint import module_digests, step_scope
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.artifacts import Step
from pipeline_lib.store.digests import file_digest
from pipeline_lib.training.device import chosen

READING = ("pyarrow", "tokenizers", "transformers")
COMPUTING = ("accelerate", "peft", "torch", "transformers")
TRUNK = ("torch", "transformers")
SCORING = (
    "matplotlib",
    "numpy",
    "pyarrow",
    "rouge-score",
    "sacrebleu",
    "scikit-learn",
    "scipy",
    "torch",
    "transformers",
)

LOCATION = {"train", "validation", "test", "path", "name", "revision"}
"""Fields of a source that say where the bytes are, not how they are read."""

Inputs = Mapping[str, str | None]
"""Content digests of what a step reads; None for what is yet to be created."""


def base_step(folder: Path) -> Step:
    """The base model's own files."""
    return Step("base", 1, {}, digests(folder, (*WEIGHTS, *TOKENIZER)))


def shard_step(recipe: Recipe, tokenizer: Mapping[str, str], file: Path) -> Step:
    """One source file, read, checked and encoded; neither its name nor its date counts.

    `tokenizer` holds the digests of the base's tokenizer files and config: the same for all files,
    and large ones take time.
    """
    source, objective = recipe.data.source, recipe.objective
    parts = {
        "source": source.model_dump(mode="json", exclude=LOCATION),
        "by": recipe.data.split.by,
        "columns": objective.columns(recipe.data.columns),
        **_objective_of_rows(recipe),
    }
    inputs = {name: file_digest(part) for name, part in file_parts(recipe, file).items()}
    return _step("shard", 1, recipe, parts, {**inputs, **tokenizer}, READING)


def file_parts(recipe: Recipe, file: Path) -> dict[str, Path]:
    """The files that are read for one source file, by the names that its shard's inputs have."""
    return {f"file {index}": part for index, part in enumerate(recipe.data.source.parts(file))}


def tokenizer_digests(base: Path) -> dict[str, str]:
    """The tokenizer that encodes the files, and the config that says how much the model reads, by their bytes."""
    return digests(base, (*TOKENIZER, "config.json"))


def prepare_step(recipe: Recipe, shards: Sequence[tuple[str, str | None]]) -> Step:
    """Which row is for what; `shards` are pairs of a split and a digest."""
    parts = _objective_of_rows(recipe) | {
        "seed": recipe.drawing_seed,
        "split": recipe.data.split.model_dump(mode="json", exclude={"seed"}),
        "max_unusable": recipe.data.max_unusable,
    }
    inputs: dict[str, str | None] = {}
    for split, digest in shards:  # by what they hold: a new file must not seem to change those behind it
        name = f"{split} {digest[:12]}" if digest else f"{split} file"
        inputs[name if name not in inputs else f"{name} ({len(inputs)})"] = digest
    return _step("prepare", 2, recipe, parts, inputs, ("numpy", "pyarrow"))


def initialise_step(recipe: Recipe, inputs: Inputs, labels: list[str] | None) -> Step:
    """The starting point; reads the base and the labels."""
    parts = _parts(recipe, "objective", "strategies", "seed") | {"labels": labels}
    return _step("initialise", 2, recipe, parts, inputs, COMPUTING)


def checks_step(recipe: Recipe, inputs: Inputs) -> Step:
    """What is found before training; reads prepare, initialise, base. Training does not read it."""
    parts = _parts(recipe, "objective", "strategies", "seed") | {"checks": recipe.data.checks.model_dump(mode="json")}
    return _step("checks", 1, recipe, parts, inputs, (*COMPUTING, "numpy", "pyarrow", "tokenizers"))


def finetune_step(recipe: Recipe, inputs: Inputs) -> Step:
    """The trained model; reads prepare, initialise, base, and reference where there is one. Another precision trains
    another model."""
    parts = _parts(recipe, "objective", "strategies", "regularizers", "training", "seed")
    parts["precision"] = chosen(recipe.execution)[1]
    return _step("finetune", 1, recipe, parts, inputs, COMPUTING)


def features_step(recipe: Recipe, inputs: Inputs, layers: int) -> Step:
    """What so many frozen layers put out for all rows; reads prepare and base. Neither head nor rate decides it."""
    device, precision = chosen(recipe.execution)
    parts = _objective_of_rows(recipe) | {"layers": layers, "device": device, "precision": precision}
    return _step("features", 1, recipe, parts, inputs, TRUNK)


def reference_step(recipe: Recipe, inputs: Inputs) -> Step:
    """The base's log-probabilities of what is learned; reads prepare and base. Neither loss, beta nor rate decides
    them."""
    splits = [*recipe.objective.reference_splits]
    parts = _objective_of_rows(recipe) | {"splits": splits, "precision": chosen(recipe.execution)[1]}
    return _step("reference", 1, recipe, parts, inputs, COMPUTING)


def columns_step(recipe: Recipe, prepared: str | None) -> Step:
    """Columns of the test rows that slices are named by; reads prepare and the files that hold these rows."""
    source = recipe.data.source
    parts = {
        "source": source.model_dump(mode="json", exclude=LOCATION),
        "columns": sorted({*recipe.evaluation.columns.values()}),
    }
    split = "test" if source.test else "train"
    digests = sorted(file_digest(part) for file in source.files(split) for part in source.parts(file))
    inputs = {"prepare": prepared} | {f"{split} {digest[:12]}": digest for digest in digests}
    return _step("columns", 1, recipe, parts, inputs, ("pyarrow",))


def evaluate_step(recipe: Recipe, inputs: Inputs) -> Step:
    """The scores; reads prepare, checks, finetune, columns where slices name some, and reference where there is one."""
    return _step("evaluate", 1, recipe, _parts(recipe, "objective", "evaluation", "seed"), inputs, SCORING)


def profile_step(recipe: Recipe, inputs: Inputs) -> Step:
    """What is remembered of a data set, to tell how later ones differ; reads prepare and base."""
    return _step("profile", 2, recipe, _objective_of_rows(recipe), inputs, ("numpy", "torch", *READING))


def rescore_step(recipe: Recipe, inputs: Inputs) -> Step:
    """What a registered model answers to the test rows; reads prepare, the champion, and reference if there is one."""
    return _step("rescore", 1, recipe, _parts(recipe, "objective"), inputs, SCORING)


def sweep_step(recipe: Recipe, parts: dict[str, Any], inputs: Inputs) -> Step:
    """The comparison of several runs; reads their finetune and evaluate."""
    return _step("sweep", 1, recipe, parts, inputs, ("matplotlib", "numpy", "scipy"))


def _parts(recipe: Recipe, *names: str) -> dict[str, Any]:
    return recipe.model_dump(mode="json", include=set(names))


def _objective_of_rows(recipe: Recipe) -> dict[str, Any]:
    """The objective without what only its loss reads."""
    return {"objective": recipe.objective.model_dump(mode="json", exclude={*recipe.objective.of_loss})}


def _step(
    name: str, version: int, recipe: Recipe, parts: dict[str, Any], inputs: Inputs, libraries: tuple[str, ...]
) -> Step:
    return Step(name, version, parts, inputs, libraries, module_digests(*step_scope(name, recipe)))
