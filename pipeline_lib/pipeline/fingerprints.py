"""Define what identifies each step: the parts of the recipe and the input bytes that determine its output."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline_lib.models.base_model import TOKENIZER, WEIGHTS, digests
from pipeline_lib.pipeline.code_fingerprint import module_digests, step_scope
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.artifacts import Step
from pipeline_lib.store.digests import digest_of_parts, file_digest
from pipeline_lib.training.device import select_device

READING = ("pyarrow", "tokenizers", "transformers")
COMPUTING = ("accelerate", "peft", "torch", "transformers")
FEATURES = ("torch", "transformers")
SCORING = (
    "jinja2",
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
"""Fields of a source that say where the data is, not how to read it."""

Inputs = Mapping[str, str | None]
"""Name -> content digest of a step's inputs; None for an input that does not exist yet."""


def base_step(folder: Path) -> Step:
    """Identify the files of the base model."""
    return Step("base", 1, {}, digests(folder, (*WEIGHTS, *TOKENIZER)))


def shard_step(recipe: Recipe, tokenizer: Mapping[str, str], files: Sequence[str]) -> Step:
    """Identify a group of source files after reading, checking and encoding; their names and dates do not count.

    Args:
        recipe: The recipe.
        tokenizer: Digests from `tokenizer_digests`, computed once for all files because that takes time.
        files: Digests of the source files from `source_digest`.
    """
    source, objective = recipe.data.source, recipe.objective
    parts = {
        "source": source.model_dump(mode="json", exclude=LOCATION),
        "by": recipe.data.split.by,
        "columns": objective.columns(recipe.data.columns),
        **_objective_of_rows(recipe),
    }
    inputs = {f"file {index}": digest for index, digest in enumerate(files)}
    return _step("shard", 1, recipe, parts, {**inputs, **tokenizer}, READING)


def source_digest(recipe: Recipe, file: Path) -> str:
    """Return the digest of all that is read for one source file."""
    return digest_of_parts([file_digest(part) for part in recipe.data.source.parts(file)])


def tokenizer_digests(base: Path) -> dict[str, str]:
    """Return the digests of the tokenizer's files, and of the config, which has the model's maximum length."""
    return digests(base, (*TOKENIZER, "config.json"))


def prepare_step(recipe: Recipe, shards: Sequence[tuple[str, str | None]]) -> Step:
    """Identify the split of the rows; `shards` are pairs of a split and a digest."""
    parts = _objective_of_rows(recipe) | {
        "seed": recipe.drawing_seed,
        "split": recipe.data.split.model_dump(mode="json", exclude={"seed"}),
        "max_unusable": recipe.data.max_unusable,
    }
    inputs: dict[str, str | None] = {}
    for split, digest in shards:  # named by content: with an index, a new file would rename all later ones
        name = f"{split} {digest[:12]}" if digest else f"{split} file"
        inputs[name if name not in inputs else f"{name} ({len(inputs)})"] = digest
    return _step("prepare", 2, recipe, parts, inputs, ("numpy", "pyarrow"))


def initialise_step(recipe: Recipe, inputs: Inputs, labels: list[str] | None) -> Step:
    """Identify the initial model; reads the base and the labels."""
    parts = _parts(recipe, "objective", "strategies", "seed") | {"labels": labels} | _quantization_parts(recipe)
    return _step("initialise", 2, recipe, parts, inputs, _libraries(recipe, COMPUTING))


def checks_step(recipe: Recipe, inputs: Inputs) -> Step:
    """Identify the checks before training; reads prepare, initialise and base. Training does not depend on it."""
    parts = _parts(recipe, "objective", "strategies", "seed") | {"checks": recipe.data.checks.model_dump(mode="json")}
    libraries = _libraries(recipe, (*COMPUTING, "numpy", "pyarrow", "tokenizers"))
    return _step("checks", 1, recipe, parts, inputs, libraries)


def finetune_step(recipe: Recipe, inputs: Inputs) -> Step:
    """Identify the trained model; reads prepare, initialise, base, and reference if there is one.

    Precision, attention and compilation are part of it, as they change the trained weights; gradient checkpointing does
    not.
    """
    parts = _parts(recipe, "objective", "strategies", "regularizers", "training", "seed")
    del parts["training"]["gradient_checkpointing"]
    parts["precision"] = select_device(recipe.execution)[1]
    parts |= _kernels(recipe)
    libraries = _libraries(recipe, COMPUTING)
    if recipe.training.optimizer.extra and "bitsandbytes" not in libraries:
        libraries = (*libraries, "bitsandbytes")
    return _step("finetune", 1, recipe, parts, inputs, libraries)


def features_step(recipe: Recipe, inputs: Inputs, layers: int) -> Step:
    """Identify the outputs of the lowest `layers` layers, which are frozen; reads prepare and base.

    The head and the learning rate are not part of it, so that runs that differ in them share the outputs.
    """
    device, precision = select_device(recipe.execution)
    parts = _objective_of_rows(recipe) | {"layers": layers, "device": device, "precision": precision}
    parts |= _quantization_parts(recipe) | _kernels(recipe)
    return _step("features", 1, recipe, parts, inputs, _libraries(recipe, FEATURES))


def reference_step(recipe: Recipe, inputs: Inputs) -> Step:
    """Identify the base's log-probabilities of the target texts; reads prepare and base.

    Loss, beta and learning rate are not part of it, so that runs that differ in them share the log-probabilities.
    """
    splits = [*recipe.objective.reference_splits]
    parts = _objective_of_rows(recipe) | {"splits": splits, "precision": select_device(recipe.execution)[1]}
    parts |= _quantization_parts(recipe)
    return _step("reference", 1, recipe, parts, inputs, _libraries(recipe, COMPUTING))


def columns_step(recipe: Recipe, prepared: str | None) -> Step:
    """Identify the columns of the test rows that slices use; reads prepare and the files with these rows."""
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
    """Identify the scores; reads prepare, checks, finetune, and if there are any, columns and reference."""
    parts = _parts(recipe, "objective", "evaluation", "seed")
    return _step("evaluate", 1, recipe, parts, inputs, _libraries(recipe, SCORING))


def profile_step(recipe: Recipe, inputs: Inputs) -> Step:
    """Identify the profile of a data set, used to detect drift later; reads prepare and base."""
    return _step("profile", 2, recipe, _objective_of_rows(recipe), inputs, ("numpy", "torch", *READING))


def rescore_step(recipe: Recipe, inputs: Inputs) -> Step:
    """Identify a registered model's scores on the test rows; reads prepare, the champion, and reference if any."""
    return _step("rescore", 1, recipe, _parts(recipe, "objective"), inputs, SCORING)


def sweep_step(recipe: Recipe, parts: dict[str, Any], inputs: Inputs) -> Step:
    """Identify the comparison of several runs; reads their finetune and evaluate."""
    return _step("sweep", 1, recipe, parts, inputs, ("matplotlib", "numpy", "scipy"))


def _parts(recipe: Recipe, *names: str) -> dict[str, Any]:
    return recipe.model_dump(mode="json", include=set(names))


def _quantization_parts(recipe: Recipe) -> dict[str, Any]:
    """Return how the base's frozen weights are rounded; empty if they are used as they are."""
    rounding: dict[str, Any] = {}
    if recipe.model.dtype in ("bf16", "fp16"):
        rounding["dtype"] = recipe.model.dtype
    if recipe.model.quantization:
        rounding["quantization"] = recipe.model.quantization.model_dump(mode="json")
    return rounding


def _libraries(recipe: Recipe, libraries: tuple[str, ...]) -> tuple[str, ...]:
    """Return the libraries of a step that loads the base, with the one that quantises it."""
    return (*libraries, "bitsandbytes") if recipe.model.quantization else libraries


def _kernels(recipe: Recipe) -> dict[str, Any]:
    """Return the implementation of attention and the compilation that a recipe asks for; empty by default."""
    execution = recipe.execution
    named = {"attention": execution.attention} if execution.attention != "auto" else {}
    return named | ({"compile": True} if execution.compile else {})


def _objective_of_rows(recipe: Recipe) -> dict[str, Any]:
    """Return the objective without the fields that only affect its loss."""
    return {"objective": recipe.objective.model_dump(mode="json", exclude={*recipe.objective.of_loss})}


def _step(
    name: str, version: int, recipe: Recipe, parts: dict[str, Any], inputs: Inputs, libraries: tuple[str, ...]
) -> Step:
    return Step(name, version, parts, inputs, libraries, module_digests(*step_scope(name, recipe)))
