"""What objectives share that predict tokens: losses over the learned tokens only, without all logits in memory."""

from typing import TYPE_CHECKING, Any

from pipeline_lib.objectives.base import ObjectiveSection

if TYPE_CHECKING:
    import numpy
    from torch import Tensor
    from transformers import PreTrainedModel


class TokenPrediction(ObjectiveSection):
    """An objective whose loss is the cross-entropy of tokens."""

    @property
    def is_shifted(self) -> bool:
        """Whether the model's output at a place predicts the next token, as a decoder's does."""
        return False

    def model_inputs(self, model: "PreTrainedModel", batch: "dict[str, Tensor]", targets: "Tensor") -> dict[str, Any]:
        """Return the arguments of the model's forward pass."""
        return {**batch, "use_cache": False}

    def forward(self, model: "PreTrainedModel", batch: "dict[str, Tensor]", targets: "Tensor") -> "Tensor":
        """Return all logits, [rows, length, vocabulary], each at the place of the token that it predicts.

        If outputs are shifted, nothing predicts the first token; it gets the logits of the second one.
        """
        import torch

        logits = model(**self.model_inputs(model, batch, targets)).logits
        return torch.cat([logits[:, :1], logits[:, :-1]], 1) if self.is_shifted else logits

    def outputs(self, model: "PreTrainedModel", batch: "dict[str, Tensor]", targets: "Tensor") -> Any:
        """Return the predictions of the learned tokens, as `TokenOutputs`."""
        from pipeline_lib.models.token_outputs import token_outputs

        return token_outputs(model, self.model_inputs(model, batch, targets), targets, self.is_shifted)

    def flatten_targets(self, outputs: Any, targets: "Tensor") -> "tuple[Tensor, Tensor]":
        """Return the logits of the learned tokens and these tokens."""
        return outputs.logits(), outputs.targets

    def loss_sum(self, outputs: Any, targets: "Tensor", smoothing: float = 0.0) -> "Tensor":
        """Return the sum of the cross-entropies of the learned tokens."""
        return outputs.loss_sum(smoothing)

    def collect(self, outputs: Any, targets: "Tensor") -> "list[numpy.ndarray]":
        """Return [negative log-likelihood in nats, tokens] of the learned tokens of each row."""
        import torch

        learned = targets >= 0
        losses = torch.zeros(targets.shape, device=targets.device)
        losses[learned] = outputs.losses
        return list(torch.stack([losses.sum(-1), learned.sum(-1)], -1).double().cpu().numpy())
