"""Train the layer norms of a frozen model."""

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveFloat

from pipeline_lib.strategies.base import ParameterInfo, StrategySection

if TYPE_CHECKING:
    from peft import LNTuningConfig
    from transformers import PreTrainedModel


class LNTuning(StrategySection):
    """Layer norm tuning: trains g and b of y = (x - mean) / sqrt(var + eps) * g + b, and g of RMSNorm's x / rms(x) * g.

    Zhao et al. 2023, "Tuning LayerNorm in Attention: Towards Efficient Multi-Modal LLM Finetuning", section 3. All
    norms of the model are trained, those of the embeddings and of single heads of attention included.
    """

    kind: Literal["ln_tuning"]
    rate: PositiveFloat = 20.0
    """Learning rate of the norms and the head, relative to the recipe's; so few weights must each move far."""

    def is_trainable(self, info: ParameterInfo) -> bool:
        """Select the norms."""
        return info.is_norm

    def peft_config(self, model: "PreTrainedModel") -> "LNTuningConfig":
        """Return the names of the norms."""
        from peft import LNTuningConfig

        norms = [name for name, _ in model.named_parameters() if ParameterInfo(name, 0, 0).is_norm]
        return LNTuningConfig(target_modules=sorted({name.rpartition(".")[0] for name in norms}))

    def lr_scale(self, info: ParameterInfo) -> float:
        """Return `rate` for the norms."""
        return self.rate if self.is_trainable(info) and not info.is_head else 1.0

    def head_lr_scale(self) -> float:
        """Return the rate of the norms."""
        return self.rate
