"""Compile the layers of a model for a GPU."""

from typing import TYPE_CHECKING

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.blocks import stacks

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def compile_blocks(model: "PreTrainedModel") -> None:
    """Compile each block of a model with torch.compile, for inputs of any width.

    Blocks are compiled rather than the whole model: they share one compilation, and losses without logits stop the
    model at its head. Blocks of the frozen backbone, whose forward is patched, stay as they are.

    Raises:
        RecipeError: The family has no blocks that are single modules.
    """
    blocks = [block for stack in stacks(model) for block in stack.blocks]
    if not blocks or any(len(block.names) > 1 for block in blocks):
        problem = f"is not supported by the family {model.config.model_type}, whose layers are not single modules"
        raise RecipeError("execution.compile", True, problem, "Leave it out")
    for block in blocks:
        if "forward" not in vars(block.module):
            block.module.compile(dynamic=True)
