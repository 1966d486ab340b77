"""Plan the memory of a training: what it will need on its device, what is free there, and what takes less."""

from typing import NamedTuple

from rich.filesize import decimal

from pipeline_lib.data.prepared import load_split
from pipeline_lib.errors import RecipeError
from pipeline_lib.models.base_model import locate_base
from pipeline_lib.pipeline.plan import Plan
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.training.distributed.sharding import why_not_sharded
from pipeline_lib.training.memory import MemoryNeed, memory_need


class MemoryPlan(NamedTuple):
    """Bytes that each process of a training needs, and those that are free on its device."""

    need: MemoryNeed
    free: int
    device: str
    hint: str
    """What to change so that the training fits; empty if it does."""

    def lines(self) -> list[str]:
        """Return one line for each part, their sum and the hint."""
        shown = [f"{name:<11} {_size(size)}" for name, size in self.need._asdict().items()]
        total = f"{'memory':<11} {decimal(self.need.total)}, of {decimal(self.free)} free ({self.device})"
        return [*shown, total, *([self.hint] if self.hint else [])]


def _size(size: int | None) -> str:
    return "unknown" if size is None else decimal(size)


def plan_memory(recipe: Recipe, plan: Plan) -> MemoryPlan:
    """Compute the memory that a recipe's training needs; reads the encoded rows and no weights.

    Raises:
        RecipeError: The data is not prepared yet, so that the lengths of its rows are unknown.
    """
    from pipeline_lib.training.device import select_device

    prepared = plan.artifact("prepare")
    if prepared is None:
        problem = "is not encoded yet, and the memory depends on the lengths of its rows"
        raise RecipeError("data.source", recipe.data.source.kind, problem, "Start a run: it encodes the data first")
    shards = prepared.folder.parents[1] / "shard"
    train = load_split(prepared.folder, shards, "train", recipe.objective)
    need = memory_need(recipe, locate_base(recipe.model), train.labels, train.encoded)
    device, _ = select_device(recipe.execution)
    free = _free_memory(device, recipe.execution.processes)
    return MemoryPlan(need, free, device, _hint(recipe, need) if need.total > free else "")


def _free_memory(device: str, processes: int) -> int:
    """Return the free bytes of a GPU, or the share of a machine's that each of its processes has."""
    import psutil
    import torch

    return torch.cuda.mem_get_info()[0] if device == "cuda" else psutil.virtual_memory().available // processes


def _hint(recipe: Recipe, need: MemoryNeed) -> str:
    """Name the change that saves most of the largest part."""
    if recipe.execution.ranks > 1 and why_not_sharded(recipe) is None:
        if recipe.execution.sharding == "auto":
            return "A copy does not fit, so the training divides the model among its processes."
        if recipe.execution.sharding == "none":
            return "This does not fit: set execution.sharding to full."
    largest = max(need._fields, key=lambda name: getattr(need, name) or 0)
    if largest == "activations":
        if recipe.training.gradient_checkpointing is not True:
            return "This does not fit: set training.gradient_checkpointing to true."
        return f"This does not fit: set training.batch_tokens below {recipe.training.batch_tokens}."
    if largest == "weights" and not any(strategy.trains_base for strategy in recipe.strategies):
        return "This does not fit: set model.dtype to bf16, or choose a smaller base."
    return "This does not fit: train less of the model, with the strategy lora, or choose a smaller base."
