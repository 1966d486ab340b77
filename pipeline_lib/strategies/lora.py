"""Train low-rank updates of frozen weights."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.families import expert_weights, projections
from pipeline_lib.strategies import peft_adapter
from pipeline_lib.strategies.base import AddedWeights, ParameterInfo

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


RANK, ALPHA = 8, 16.0
"""Defaults; the default alpha for rslora is derived from both."""


class LoRA(AddedWeights):
    """LoRA: h = W_0 x + (alpha / r) B A x, where only A and B of rank r are learned (Hu et al. 2021, equation 3).

    B starts at zero, so that training starts from the base's own outputs. Variants: DoRA learns the column norms
    separately, W = m (W_0 + B A) / ||W_0 + B A|| (Liu et al. 2024, equation 5); rsLoRA scales by alpha / sqrt(r)
    (Kalajdzievski 2023). For serving, the product is added to a W_0 in fp32, so inference costs nothing extra; it stays
    beside one in half precision or quantised.
    """

    kind: Literal["lora"]
    rank: PositiveInt = RANK
    """Rank r of the updates."""
    alpha: PositiveFloat | None = None
    """Updates are scaled by alpha / rank; empty: 16, or 16 / sqrt(8) with rslora, so that both scale rank 8 by 2."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout probability of the updates' inputs in training."""
    targets: tuple[str, ...] = ()
    """Weights to update, by the end of their names, such as `q_proj` or `mlp.c_fc`; empty: all projections in the
    layers, and in a mixture of experts also the weights with one matrix per expert, such as `experts.gate_up_proj`.

    Updating all of them is needed to match full fine-tuning (Dettmers et al. 2023, QLoRA, section 4); queries and
    values only, as in Hu et al., is faster.
    """
    rate: PositiveFloat = 10.0
    """Learning rate of the updates and the head, relative to the recipe's; 20 may diverge with all projections."""
    dora: bool = False
    """Learn the norms of the weight columns separately from their directions (DoRA)."""
    rslora: bool = False
    """Scale updates by alpha / sqrt(rank), so that high ranks still learn (rsLoRA)."""

    def inject(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
        """Wrap the target weights."""
        peft_adapter.wrap_modules(self.peft_config(model), model)

    def peft_config(self, model: "PreTrainedModel") -> "LoraConfig":
        """Return the target weights with rank, scale and variant."""
        from peft import LoraConfig

        known, known_experts = projections(model), expert_weights(model)
        matrices, experts = self._select_names(known), self._select_names(known_experts)
        self._refuse_unknown([*known, *known_experts])
        if not matrices and not experts:
            problem = f"finds no weight matrix in the blocks of the family {model.config.model_type}"
            raise RecipeError("strategies", self.kind, problem, "Choose another base, or another strategy such as full")
        if experts and (self.dora or self.dropout):
            self._refuse_experts(model)
        return LoraConfig(
            r=self.rank,
            lora_alpha=self._alpha,  # type: ignore[arg-type]  # PEFT accepts floats
            lora_dropout=self.dropout,
            target_modules=matrices,
            target_parameters=experts or None,
            use_dora=self.dora,
            use_rslora=self.rslora,
        )

    def is_trainable(self, info: ParameterInfo) -> bool:
        """Select A, B and DoRA's norms."""
        return ".lora_" in info.name

    def merge(self, model: "PreTrainedModel") -> None:
        """Add the updates to the weights."""
        peft_adapter.merge(model)

    @property
    def _alpha(self) -> float:
        return self.alpha or (ALPHA / RANK**0.5 if self.rslora else ALPHA)

    def _select_names(self, known: list[str]) -> list[str]:
        """Return the known names that end with a target; all of them if there are no targets."""
        ends = tuple(f".{target}" for target in self.targets)
        return [name for name in known if not ends or f".{name}".endswith(ends)]

    def _refuse_unknown(self, known: list[str]) -> None:
        for target in self.targets:
            if not any(f".{name}".endswith(f".{target}") for name in known):
                ends = ", ".join(sorted({name.rpartition(".")[2] for name in known}))
                problem = f"the model's layers have no weight named {target!r}"
                raise RecipeError("strategies", self.kind, problem, f"Choose targets from {ends}")

    def _refuse_experts(self, model: "PreTrainedModel") -> None:
        """Raise RecipeError: PEFT updates experts as one parameter and does not see its inputs."""
        field = "dora" if self.dora else "dropout"
        problem = f"does not support {field} for the experts of the family {model.config.model_type}"
        names = sorted({name.rpartition(".")[2] for name in projections(model)})
        hint = f"Remove {field}, or set targets to matrices outside the experts: {', '.join(names)}"
        raise RecipeError("strategies", self.kind, problem, hint)
