"""Train low-rank updates of the frozen weights."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.families import expert_weights, projections
from pipeline_lib.strategies import peft_adapter
from pipeline_lib.strategies.base import AddedWeights, ParameterInfo

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


RANK, ALPHA = 8, 16.0
"""By default; what alpha is with rslora follows from both."""


class LoRA(AddedWeights):
    """h = W_0 x + (alpha / r) B A x, where only B and A are learned, of rank r (Hu et al. 2021, equation 3).

    B starts at zero, so that training starts from the base's own function. Variants: DoRA learns the columns' lengths
    apart, W = m (W_0 + B A) / ||W_0 + B A|| (Liu et al. 2024, equation 5); rsLoRA scales by alpha / sqrt(r)
    (Kalajdzievski 2023). For serving the product is added to W_0, which costs nothing more.
    """

    kind: Literal["lora"]
    rank: PositiveInt = RANK
    """The rank r of the updates."""
    alpha: PositiveFloat | None = None
    """Updates are scaled by alpha / rank; empty: 16, with rslora 16 / sqrt(8): rank 8 is scaled by 2 in both."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of an update's inputs that are dropped in training."""
    targets: tuple[str, ...] = ()
    """Weights to update, by the end of their names: `q_proj`, `mlp.c_fc`; empty: all projections in the layers,
    with a mixture of experts also `experts.gate_up_proj` and what else is one matrix for each expert.

    All of them are what comes up to full fine-tuning (Dettmers et al. 2023, QLoRA, section 4); queries and values
    alone, as Hu et al. have it, take less time.
    """
    rate: PositiveFloat = 10.0
    """Learning rate of what is added and of the head, relative to the recipe's: all projections at 20 may diverge."""
    dora: bool = False
    """Learn the columns' lengths apart from their directions."""
    rslora: bool = False
    """Scale updates by alpha / sqrt(rank), which keeps high ranks learning."""

    def inject(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
        """Wrap the targets."""
        from peft import LoraConfig

        matrices, experts = self._chosen(projections(model)), self._chosen(expert_weights(model))
        self._refuse_unknown([*projections(model), *expert_weights(model)])
        if experts and (self.dora or self.dropout):
            self._refuse_experts(model)
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self._alpha,  # type: ignore[arg-type]  # a float does as well
            lora_dropout=self.dropout,
            target_modules=matrices,
            target_parameters=experts or None,
            use_dora=self.dora,
            use_rslora=self.rslora,
        )
        peft_adapter.inject(config, model)

    def is_trainable(self, place: ParameterInfo) -> bool:
        """A, B, and with DoRA the lengths."""
        return ".lora_" in place.name

    def merge(self, model: "PreTrainedModel") -> None:
        """Add the updates to the weights."""
        peft_adapter.merge(model)

    @property
    def _alpha(self) -> float:
        return self.alpha or (ALPHA / RANK**0.5 if self.rslora else ALPHA)

    def _chosen(self, known: list[str]) -> list[str]:
        """Those of the known names that end as a target does; all of them where there are no targets."""
        ends = tuple(f".{target}" for target in self.targets)
        return [name for name in known if not ends or f".{name}".endswith(ends)]

    def _refuse_unknown(self, known: list[str]) -> None:
        for target in self.targets:
            if not any(f".{name}".endswith(f".{target}") for name in known):
                ends = ", ".join(sorted({name.rpartition(".")[2] for name in known}))
                problem = f"finds no weight named {target!r} in the model's layers"
                raise RecipeError("strategies", self.kind, problem, f"Choose its targets among {ends}")

    def _refuse_experts(self, model: "PreTrainedModel") -> None:
        """PEFT updates experts as one parameter, whose inputs it does not see."""
        field = "dora" if self.dora else "dropout"
        problem = f"cannot update the experts of the family {model.config.model_type} with {field}"
        names = sorted({name.rpartition(".")[2] for name in projections(model)})
        hint = f"Leave out {field}, or set targets to matrices beside the experts: {', '.join(names)}"
        raise RecipeError("strategies", self.kind, problem, hint)
