"""Learn to answer: instructions and dialogues with a decoder, the loss on the answers alone."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import PositiveInt

from pipeline_lib.objectives.base import ObjectiveSection, limit_of
from pipeline_lib.objectives.dialogue import one_turn, pieces
from pipeline_lib.objectives.tokens import token_ids
from pipeline_lib.objectives.values import text_of

if TYPE_CHECKING:
    import numpy
    import pyarrow
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline_lib.data.dataset import Encoded, Split
    from pipeline_lib.evaluation.errors import Errors
    from pipeline_lib.evaluation.outcome import Metric, Sums
    from pipeline_lib.recipe import Columns


class CausalLM(ObjectiveSection):
    """Each token of an answer from all before it (Radford et al. 2019, equation 1); of a prompt none is learned.

    A prompt becomes a dialogue of one turn, written by the tokenizer's chat template where it has one, else as
    plain lines. The loss is the mean cross-entropy of all answer tokens of a step. Where a dialogue is too long,
    its beginning is cut.
    """

    main_metric: ClassVar = "perplexity"
    same_if: ClassVar = ("messages",)
    asked: ClassVar = {"prompt": True, "input": False}
    hidden: ClassVar = ("input_ids", "target_ids")
    by_token: ClassVar = True
    writes: ClassVar = True

    kind: Literal["causal_lm"]
    max_length: PositiveInt | None = None
    """Longer dialogues are cut to this many tokens; empty: the model's own limit, at most 1,024."""
    max_answer: PositiveInt = 128
    """Most tokens that are written as an answer."""
    beams: PositiveInt = 1
    """Beams of the search when an answer is written; 1: the likeliest token each time."""

    def columns(self, columns: "Columns") -> dict[str, str]:
        """Whole dialogues where the recipe names their column, else prompt and answer."""
        if columns.messages:
            return {"messages": columns.messages}
        more = {"input": columns.input} if columns.input else {}
        return {"prompt": columns.prompt, **more, "answer": columns.answer}

    def clean(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A dialogue as a list of messages, the last one an answer."""
        messages = row["messages"] if "messages" in row else one_turn(row)
        if not isinstance(messages, (list, tuple)) or not messages:
            raise ValueError("no messages")
        if not all(isinstance(message, Mapping) and {"role", "content"} <= message.keys() for message in messages):
            raise ValueError("a message lacks role or content")
        kept = [{"role": str(m["role"]), "content": text_of(m["role"], m["content"])} for m in messages]
        if kept[-1]["role"] != "assistant":
            raise ValueError("the last message is not the assistant's")
        return {"messages": kept}

    def arrow_schema(self) -> "list[tuple[str, pyarrow.DataType]]":
        """Messages, token ids, and the ids that are learned."""
        import pyarrow as pa

        message = pa.struct([("role", pa.string()), ("content", pa.string())])
        ids = pa.list_(pa.int32())
        return [("messages", pa.list_(message)), ("input_ids", ids), ("target_ids", ids)]

    def encode(self, tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """Token ids of the dialogues; `target_ids` is IGNORED where nothing is learned."""
        from pipeline_lib.data.dataset import IGNORED

        dialogues = [pieces(tokenizer, row.get("messages") or one_turn(row)) for row in rows]
        texts = [text for dialogue in dialogues for text, _ in dialogue]
        parts = iter(token_ids(tokenizer, texts, special=False)[0])
        limit = limit_of(tokenizer, self.max_length, 1024)
        columns: dict[str, list[Any]] = {"input_ids": [], "target_ids": []}
        for dialogue in dialogues:
            marked = [(token, learned) for _, learned in dialogue for token in next(parts)][-limit:]
            columns["input_ids"].append([token for token, _ in marked])
            # nothing stands before the first token, so it is never learned
            wanted = [token if learned and place else IGNORED for place, (token, learned) in enumerate(marked)]
            columns["target_ids"].append(wanted)
        return columns

    def features(self, rows: "pyarrow.Table", labels: Sequence[str]) -> "Encoded":
        """One input a dialogue; targets by token, each in its own place."""
        from pipeline_lib.data.dataset import Encoded, Ragged

        return Encoded(Ragged.of(rows["input_ids"]), Ragged.of(rows["target_ids"]), aligned=True)

    def model(self, base: str, labels: Sequence[str], **config: Any) -> "tuple[PreTrainedModel, set[str]]":
        """AutoModelForCausalLM."""
        from transformers import AutoModelForCausalLM

        from pipeline_lib.models.heads import pretrained

        return pretrained(AutoModelForCausalLM, base, **config)

    def forward(self, model: "PreTrainedModel", batch: "dict[str, Tensor]", targets: "Tensor") -> "Tensor":
        """[rows, length, vocabulary]: what is expected in each place from the tokens before it."""
        import torch

        logits = model(**batch, use_cache=False).logits
        return torch.cat([logits[:, :1], logits[:, :-1]], 1)  # the first place is never learned

    def read(self, logits: "Tensor", targets: "Tensor") -> "list[numpy.ndarray]":
        """[negative log likelihood in nats, tokens] of each dialogue's answers."""
        from pipeline_lib.models.generation import likelihoods

        return likelihoods(logits, targets)

    def questions(self, encoded: "Encoded") -> "Encoded":
        """The dialogues up to their last answer."""
        import numpy as np

        from pipeline_lib.data.dataset import Encoded, Ragged

        targets: Any = encoded.targets
        keep = np.ones(len(targets.values), bool)
        for row in range(len(targets)):
            keep[targets.offsets[row] + _last_answer(targets[row]) : targets.offsets[row + 1]] = False
        kept = encoded.ids.only(keep)
        return Encoded(kept, Ragged(np.full_like(kept.values, -1), kept.offsets), aligned=True)

    def generate(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        batch: "dict[str, Tensor]",
        targets: "Tensor",
    ) -> list[str]:
        """The likeliest continuation, up to the end-of-text token."""
        from pipeline_lib.models.generation import left_padded, write

        asked = {"max_new_tokens": self.max_answer, "num_beams": self.beams, "eos_token_id": tokenizer.eos_token_id}
        return write(model, tokenizer, batch["input_ids"].shape[1], **left_padded(batch), **asked)

    def metrics(self) -> Mapping[str, "Metric"]:
        """Of likelihood, and of the text that is written."""
        from pipeline_lib.evaluation.perplexity import LIKELIHOOD
        from pipeline_lib.evaluation.written import WRITTEN

        return LIKELIHOOD | WRITTEN

    def outcome(self, read: "Sequence[numpy.ndarray]", split: "Split", texts: Sequence[str] | None = None) -> "Sums":
        """Likelihoods of all answers; with `texts` also how near these are to the last answers."""
        import numpy as np

        from pipeline_lib.evaluation.outcome import Sums
        from pipeline_lib.evaluation.written import text_counts

        nll, tokens = np.stack(read).T
        right = [[messages[-1]["content"]] for messages in split.rows["messages"].to_pylist()]
        return Sums({"nll": nll, "tokens": tokens, **(text_counts(right, texts) if texts is not None else {})})

    def errors(self, outcome: "Sums") -> "Errors":
        """What the answers lack of the right ones."""
        from pipeline_lib.evaluation.errors import of_text

        return of_text(outcome)

    def answers(
        self, read: "Sequence[numpy.ndarray]", split: "Split", texts: Sequence[str] | None = None
    ) -> dict[str, list[Any]]:
        """`prediction`: the answer that was written."""
        return {"prediction": list(texts or [])}


def _last_answer(targets: "numpy.ndarray") -> int:
    """Where the last run of learned tokens begins; the end where nothing is learned."""
    import numpy as np

    learned = np.flatnonzero(targets >= 0)
    if not len(learned):
        return len(targets)
    breaks = np.flatnonzero(np.diff(learned) > 1)
    return int(learned[breaks[-1] + 1 if len(breaks) else 0])
