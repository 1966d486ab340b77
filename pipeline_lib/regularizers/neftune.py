"""Add noise to what the model reads."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from pipeline_lib.regularizers.base import RegularizerSection

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class Neftune(RegularizerSection):
    """Uniform(-1, 1) alpha / sqrt(L d) is added to token embeddings in training (Jain et al. 2023, algorithm 1).

    L is the length of the input with its padding, as in the authors' code, and d the size of an embedding. An
    encoder-decoder has one table for both sides, and both get noise. Virtual tokens get none.
    """

    acts_everywhere: ClassVar[bool] = True

    kind: Literal["neftune"]
    alpha: Annotated[float, Field(ge=0)] = 5.0
    """Size of the noise; the paper tries 5, 10 and 15."""

    def prepare(self, model: "PreTrainedModel") -> None:
        """Noise behind every module that looks tokens up in the model's table."""
        from torch import nn

        # not the module that get_input_embeddings gives: T5 and BART have a copy of it for each side and never call it,
        # and a strategy may have wrapped it
        table = next(module for module in model.get_input_embeddings().modules() if isinstance(module, nn.Embedding))
        for module in model.modules():
            if isinstance(module, nn.Embedding) and module.weight is table.weight:
                module.register_forward_hook(self._noise)

    def _noise(self, module: Any, inputs: Any, output: "Tensor") -> "Tensor":
        import torch

        if not module.training:
            return output
        length, size = output.shape[-2:]
        most = self.alpha / (length * size) ** 0.5
        return output + torch.empty_like(output).uniform_(-most, most)
