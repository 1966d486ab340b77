"""Set the dropout probabilities of the model."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from pipeline_lib.errors import RecipeError
from pipeline_lib.regularizers.base import RegularizerSection

if TYPE_CHECKING:
    from transformers import PretrainedConfig

ATTENTION = ("attention_dropout", "attention_probs_dropout_prob", "attn_pdrop")
"""Names of the configuration value for dropout on attention probabilities."""

OTHERS = (
    *("activation_dropout", "dropout", "dropout_rate", "hidden_dropout", "hidden_dropout_prob", "mlp_dropout"),
    *("resid_dropout", "resid_pdrop"),
    *("embd_pdrop", "embed_dropout", "embedding_dropout"),
    *("classifier_dropout", "classifier_dropout_prob", "pooler_dropout", "qa_dropout", "seq_classif_dropout"),
    *("summary_first_dropout", "summary_last_dropout"),
)
"""Names of the configuration values for dropout elsewhere: in blocks, residual connections, embeddings and heads."""


class Dropout(RegularizerSection):
    """Dropout: in training each unit is set to zero with probability p, and the others are scaled by 1 / (1 - p)
    (Srivastava et al. 2014, section 4).

    Applies wherever the family has dropout (BERT: in every layer; Llama: in attention only), except in frozen layers
    below the lowest trained one. The trained model's configuration keeps the base's values.
    """

    kind: Literal["dropout"]
    value: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The probability p; 0 turns dropout off."""
    attention: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Dropout probability of the attention probabilities; empty: the same as `value`."""

    def configure(self, config: "PretrainedConfig") -> dict[str, Any]:
        """Return the dropout values under the family's own names; raise RecipeError if it has none."""
        attention = self.value if self.attention is None else self.attention
        names = [name for name in (*ATTENTION, *OTHERS) if hasattr(config, name)]
        if not names:
            problem = f"cannot be applied: the family {config.model_type} has no dropout"
            raise RecipeError("regularizers", self.model_dump(), problem, "Remove it")
        if self.attention is not None and not {*names} & {*ATTENTION}:
            problem = f"sets attention dropout, but the family {config.model_type} has no separate rate for it"
            raise RecipeError("regularizers", self.model_dump(), problem, "Remove attention")
        return {name: attention if name in ATTENTION else self.value for name in names}
