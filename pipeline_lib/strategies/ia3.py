"""Train vectors that scale inner activations of the frozen layers."""

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveFloat

from pipeline_lib.models.families import part_modules, projections
from pipeline_lib.strategies import peft_adapter
from pipeline_lib.strategies.base import AddedWeights, ParameterInfo

if TYPE_CHECKING:
    from peft import IA3Config
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class IA3(AddedWeights):
    """(IA)^3: softmax(Q (l_k * K)^T / sqrt(d_k)) (l_v * V) and (l_ff * f(W_1 x)) W_2 with learned vectors l.

    Liu et al. 2022, section 3.3. The vectors start at one, so that training starts from the base's own outputs, and
    are multiplied into the weights for serving. In families that compute queries, keys and values in one product
    (GPT-2, GPT-NeoX, ModernBERT), PEFT also scales the queries. Activations inside experts are not scaled.
    """

    kind: Literal["ia3"]
    rate: PositiveFloat = 100.0
    """Learning rate of the vectors and the head, relative to the recipe's; so few weights must each move far."""

    def inject(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
        """Wrap the keys, the values and the last matrix of each feed-forward, whose inputs are scaled."""
        peft_adapter.wrap_modules(self.peft_config(model), model)

    def peft_config(self, model: "PreTrainedModel") -> "IA3Config":
        """Return the names of these matrices."""
        from peft import IA3Config

        keys, values = part_modules(model, "key", self.kind), part_modules(model, "value", self.kind)
        ends = part_modules(model, "feed_out", self.kind)
        matrices = {*projections(model)}
        inner = [name for name in ends if name in matrices]  # skips modules around experts
        targets = dict.fromkeys([*keys, *values, *inner])
        return IA3Config(target_modules=[*targets], feedforward_modules=inner)

    def is_trainable(self, info: ParameterInfo) -> bool:
        """Select the vectors."""
        return ".ia3_l." in info.name

    def merge(self, model: "PreTrainedModel") -> None:
        """Multiply the vectors into the weights."""
        peft_adapter.merge(model)
