"""Add noise to the token embeddings in training."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from pipeline_lib.regularizers.base import RegularizerSection

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class Neftune(RegularizerSection):
    """NEFTune: adds Uniform(-1, 1) alpha / sqrt(L d) to token embeddings in training (Jain et al. 2023, algorithm 1).

    L is the length of the input including padding, as in the authors' code, and d the embedding size. In an
    encoder-decoder, the embeddings of both sides get noise. Virtual tokens get none.
    """

    acts_everywhere: ClassVar[bool] = True

    kind: Literal["neftune"]
    alpha: Annotated[float, Field(ge=0)] = 5.0
    """Scale of the noise; the paper uses 5, 10 and 15."""

    def prepare(self, model: "PreTrainedModel") -> None:
        """Hook every module that looks up tokens in the model's embedding table."""
        from torch import nn

        # Hooking get_input_embeddings() is not enough: T5 and BART never call it but have one module per side with the
        # same weight, and a strategy may have wrapped it.
        table = next(module for module in model.get_input_embeddings().modules() if isinstance(module, nn.Embedding))
        for module in model.modules():
            if isinstance(module, nn.Embedding) and module.weight is table.weight:
                module.register_forward_hook(self._noise)

    def _noise(self, module: Any, inputs: Any, output: "Tensor") -> "Tensor":
        import torch

        if not module.training:
            return output
        length, size = output.shape[-2:]
        bound = self.alpha / (length * size) ** 0.5
        return output + torch.empty_like(output).uniform_(-bound, bound)
