"""Instruction and dialogue tuning of decoders, with the loss on the answers only."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import PositiveInt

from pipeline_lib.objectives.dialogue_objective import DialogueObjective
from pipeline_lib.objectives.messages import (
    clean_tools,
    dialogue,
    exchange,
    is_learned,
    message_type,
    up_to_last_answer,
    with_system,
)
from pipeline_lib.objectives.token_prediction import TokenPrediction

if TYPE_CHECKING:
    import numpy
    import pyarrow
    from transformers import PreTrainedTokenizerBase

    from pipeline_lib.data.examples import Examples, SplitExamples
    from pipeline_lib.data.settings import Columns
    from pipeline_lib.evaluation.predictions import Metric, RowCounts
    from pipeline_lib.evaluation.row_errors import RowErrors


class CausalLM(TokenPrediction, DialogueObjective):
    """Predict each token of an answer from all tokens before it (Radford et al. 2019, equation 1).

    Prompts are not trained on. A prompt becomes a dialogue with one turn, formatted by the tokenizer's chat template if
    it has one, otherwise as plain lines. The loss is the mean cross-entropy of all answer tokens of a step. A dialogue
    that is too long loses its oldest turns, but keeps its system prompt.
    """

    main_metric: ClassVar = "perplexity"
    input_roles: ClassVar = {"prompt": True, "input": False}
    model_columns: ClassVar = ("input_ids", "target_ids", "expected", "tools")

    kind: Literal["causal_lm"]
    max_length: PositiveInt | None = None
    """Longer dialogues lose their oldest turns; empty: the model's own limit, at most 1,024 tokens."""
    max_answer: PositiveInt = 128
    """Maximum tokens of a generated answer. Prompts are cut to leave room for it, at most half of the positions."""
    learn: Literal["all", "last"] = "all"
    """Which of the assistant's turns are trained on; a message with `weight: 0` never is."""
    beams: PositiveInt = 1
    """Number of beams when generating an answer; 1: greedy decoding."""

    def columns(self, columns: "Columns") -> dict[str, str]:
        """Return the dialogue column if the recipe names it, otherwise prompt and answer."""
        beside = self.columns_beside(columns)
        if columns.messages:
            return {"messages": columns.messages, **beside}
        more = {"input": columns.input} if columns.input else {}
        return {"prompt": columns.prompt, **more, "answer": columns.answer, **beside}

    def clean(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the dialogue as a list of messages that ends with an answer."""
        whole = "messages" in row
        messages = with_system(dialogue(row["messages"]), row.get("system")) if whole else exchange(row)
        known = clean_tools(row)
        return {"messages": up_to_last_answer(messages), **known}

    def read_row(self, tokenizer: "PreTrainedTokenizerBase", row: dict[str, Any]) -> dict[str, Any]:
        """Add the rendered text, so that a dialogue that the chat template rejects is an unusable row."""
        from pipeline_lib.objectives.dialogue_tokens import render_row

        return row | {"rendered": render_row(tokenizer, row)}

    def arrow_schema(self) -> "list[tuple[str, pyarrow.DataType]]":
        """Return the Arrow types of messages, token ids, target ids and the text of the last answer."""
        import pyarrow as pa

        ids = pa.list_(pa.int32())
        columns = [("messages", pa.list_(message_type())), ("tools", pa.string()), ("expected", pa.string())]
        return [*columns, ("input_ids", ids), ("target_ids", ids)]

    def encode(self, tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """Token ids of the dialogues; `target_ids` is IGNORED where nothing is learned."""
        from pipeline_lib.data.examples import IGNORED
        from pipeline_lib.objectives.dialogue_tokens import Fitting, render_row
        from pipeline_lib.objectives.turn_frame import answer_of, turn_frame

        fitting = Fitting.from_limits(tokenizer, self.max_length, self.max_answer)
        frame = turn_frame(tokenizer)
        columns: dict[str, list[Any]] = {"input_ids": [], "target_ids": [], "expected": []}
        for row in rows:
            whole = row.get("rendered") or render_row(tokenizer, row)
            ids, learned = fitting.fit(tokenizer, whole, self._learns)
            columns["input_ids"].append(ids)
            # there is no token before the first one, so it is never predicted
            wanted = [token if learned[place] and place else IGNORED for place, token in enumerate(ids)]
            columns["target_ids"].append(wanted)
            columns["expected"].append(answer_of(tokenizer, frame, whole.answer) if whole.answered else None)
        return columns

    def _learns(self, messages: Sequence[Mapping[str, Any]], index: int) -> bool:
        """Whether the answer with this index is learned."""
        return is_learned(dict(messages[index])) and (self.learn == "all" or index == len(messages) - 1)

    def features(self, rows: "pyarrow.Table", labels: Sequence[str]) -> "Examples":
        """One input a dialogue; targets by token, each in its own place."""
        from pipeline_lib.data.examples import Examples, Ragged

        return Examples(Ragged.from_lists(rows["input_ids"]), Ragged.from_lists(rows["target_ids"]), aligned=True)

    @property
    def can_pack(self) -> bool:
        """Always True."""
        return True

    @property
    def is_shifted(self) -> bool:
        """Always True."""
        return True

    def metrics(self) -> Mapping[str, "Metric"]:
        """Of likelihood, and of the text that is written."""
        from pipeline_lib.evaluation.metrics.generation import WRITTEN
        from pipeline_lib.evaluation.metrics.perplexity import LIKELIHOOD

        return LIKELIHOOD | WRITTEN

    def metric_inputs(
        self, read: "Sequence[numpy.ndarray]", split: "SplitExamples", texts: Sequence[str] | None = None
    ) -> "RowCounts":
        """Likelihoods of all answers; with `texts` also how near these are to the last answers."""
        import numpy as np

        from pipeline_lib.evaluation.metrics.generation import text_counts
        from pipeline_lib.evaluation.predictions import RowCounts

        nll, tokens = np.stack(read).T
        right = [[text] for text in split.rows["expected"].to_pylist()]
        return RowCounts({"nll": nll, "tokens": tokens, **(text_counts(right, texts) if texts is not None else {})})

    def row_errors(self, outcome: "RowCounts") -> "RowErrors | None":
        """What the answers lack of the right ones."""
        from pipeline_lib.evaluation.row_errors import text_errors

        return text_errors(outcome) if "chrf" in outcome.counts else None

    def predictions(
        self, read: "Sequence[numpy.ndarray]", split: "SplitExamples", texts: Sequence[str] | None = None
    ) -> dict[str, list[Any]]:
        """Return `prediction`: the generated answer; None if none was generated."""
        return {"prediction": list(texts)} if texts is not None else {}
