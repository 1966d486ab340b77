"""Preference tuning: move a decoder towards chosen answers and away from rejected ones."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import PositiveFloat, PositiveInt, model_validator

from pipeline_lib.errors import RecipeError
from pipeline_lib.objectives.dialogue_objective import DialogueObjective
from pipeline_lib.objectives.messages import clean_tools, message_type
from pipeline_lib.objectives.preference_rows import clean_labelled_row, pair

if TYPE_CHECKING:
    import numpy
    import pyarrow
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline_lib.data.examples import Examples, SplitExamples
    from pipeline_lib.data.settings import Columns
    from pipeline_lib.evaluation.predictions import Metric, RowCounts
    from pipeline_lib.evaluation.row_errors import RowErrors

BELONGS_TO = {"gamma": "simpo", "desirable_weight": "kto", "undesirable_weight": "kto"}
"""Fields that only one loss uses."""
REFERENCE_FREE = ("orpo", "simpo")
SMOOTHED = ("dpo", "simpo")
"""Losses in which a label can be wrong with some probability."""


class Preference(DialogueObjective):
    """Preference tuning on pairs of answers to a prompt, or on single answers labelled desirable or undesirable (kto).

    The reference model is the base; its log-probabilities are computed once and cached in the store. The loss is the
    mean over the pairs of a step, computed as in TRL.
    """

    main_metric: ClassVar = "preference_accuracy"
    input_roles: ClassVar = {"prompt": True}
    model_columns: ClassVar = ("input_ids", "target_ids", "rejected_ids", "rejected_target_ids", "expected", "tools")
    distinguishing: ClassVar = ("chosen", "rejected", "completion")
    of_loss: ClassVar = frozenset({"loss", "beta", *BELONGS_TO})

    kind: Literal["preference"]
    loss: Literal["dpo", "ipo", "orpo", "kto", "simpo"]
    """DPO (Rafailov et al. 2023, equation 7), IPO (Azar et al. 2024, equation 17), ORPO (Hong et al. 2024, equation 6),
    KTO (Ethayarajh et al. 2024, equation 8) or SimPO (Meng et al. 2024, equation 6); kto uses single answers with a
    label, the others pairs."""
    beta: PositiveFloat | None = None
    """How strongly the model is kept close to the reference; tau in IPO, lambda in ORPO. Empty: 0.1, or 2 for simpo."""
    gamma: PositiveFloat | None = None
    """Target margin between the rewards of the chosen and the rejected answer (simpo); empty: 1."""
    desirable_weight: PositiveFloat | None = None
    """Weight of desirable answers (kto); empty: 1."""
    undesirable_weight: PositiveFloat | None = None
    """Weight of undesirable answers (kto); empty: 1."""
    whole_dialogues: bool = False
    """Whether `chosen` and `rejected` are whole dialogues. Then there is no prompt column: the prompt is the part that
    they share. For kto, `completion` is a whole dialogue, and the prompt is everything before the last answer."""
    max_length: PositiveInt | None = None
    """Longer dialogues lose their oldest turns; empty: the model's own limit, at most 1,024 tokens."""
    max_answer: PositiveInt = 128
    """Maximum tokens of a generated answer. Prompts are cut to leave room for it, at most half of the positions."""
    beams: PositiveInt = 1
    """Number of beams when generating an answer; 1: greedy decoding."""

    @model_validator(mode="after")
    def _refuse_fields_of_other_losses(self) -> "Preference":
        for name, loss in BELONGS_TO.items():
            if getattr(self, name) is not None and self.loss != loss:
                raise ValueError(f"{name} is only used by the loss {loss}, but the loss is {self.loss}. Remove it")
        return self

    @property
    def strength(self) -> float:
        """beta, or the loss's usual one."""
        return self.beta or (2.0 if self.loss == "simpo" else 0.1)

    @property
    def paired(self) -> bool:
        """Whether rows are pairs of answers."""
        return self.loss != "kto"

    def columns(self, columns: "Columns") -> dict[str, str]:
        """Prompt, chosen and rejected; for kto prompt, completion and label."""
        roles = ("chosen", "rejected") if self.paired else ("completion", "label")
        prompt = {} if self.whole_dialogues else {"prompt": columns.prompt}
        return {**prompt, **{role: getattr(columns, role) for role in roles}, **self.columns_beside(columns)}

    def clean(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The prompt as `messages`, and the answers as lists of messages."""
        read = pair if self.paired else clean_labelled_row
        known = clean_tools(row)
        return {**read(row, self.whole_dialogues), **known}

    def read_row(self, tokenizer: "PreTrainedTokenizerBase", row: dict[str, Any]) -> dict[str, Any]:
        """With the renderings, so that a dialogue which the chat template refuses is an unusable row."""
        from pipeline_lib.objectives.preference_tokens import render_answers

        return row | {"rendered": render_answers(tokenizer, row)}

    def arrow_schema(self) -> "list[tuple[str, pyarrow.DataType]]":
        """Return the Arrow types of messages, token ids, target ids and the text of the preferred answer."""
        import pyarrow as pa

        ids, messages = pa.list_(pa.int32()), pa.list_(message_type())
        shared = [("messages", messages), ("tools", pa.string())]
        tokens = [("expected", pa.string()), ("input_ids", ids), ("target_ids", ids)]
        if not self.paired:
            return [*shared, ("completion", messages), ("label", pa.bool_()), *tokens]
        rejected = [("rejected_ids", ids), ("rejected_target_ids", ids)]
        return [*shared, ("chosen", messages), ("rejected", messages), *tokens, *rejected]

    def encode(self, tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """Return token ids of the prompt with each answer, equally truncated; without answers, of the prompt only."""
        from pipeline_lib.objectives.preference_tokens import encode_columns

        return encode_columns(tokenizer, rows, self.max_length, self.max_answer, self.paired)

    def features(self, rows: "pyarrow.Table", labels: Sequence[str]) -> "Examples":
        """Two inputs a row: chosen and rejected, or for kto the answer and another row's. One where answers lack."""
        from pipeline_lib.objectives.preference_tokens import add_mismatched_answers, interleave_pairs, prompts_alone

        if len(rows) and rows["expected"].null_count == len(rows):
            return prompts_alone(rows)
        return interleave_pairs(rows) if self.paired else add_mismatched_answers(rows)

    def forward(self, model: "PreTrainedModel", batch: "dict[str, Tensor]", targets: "Tensor") -> "Tensor":
        """Return [groups, inputs of a group, fields of `Answers`] without keeping the logits.

        With `step_mean` (in training), kto skips the answers to other prompts, which `step_sum` has already used.
        """
        from pipeline_lib.objectives.preference_model import summaries

        if "step_mean" in batch and not self.paired:
            targets = targets[::2]
            batch = {name: tensor[::2] if tensor.dim() else tensor for name, tensor in batch.items()}
            return summaries(model, batch, targets, False).unflatten(0, (-1, 1))
        group = 1 if self._is_alone(targets) else 2
        return summaries(model, batch, targets, self.loss == "orpo").unflatten(0, (-1, group))

    def _is_alone(self, targets: "Tensor") -> bool:
        """Whether a batch holds prompts without answers, or a single input: then there are no groups of two."""
        return len(targets) % 2 == 1 or not bool((targets >= 0).any())

    @property
    def needs_step_mean(self) -> bool:
        """KTO compares with a mean log-ratio, ORPO divides by the tokens of the whole step."""
        return self.loss in ("kto", "orpo")

    def step_sum(self, model: "PreTrainedModel", batch: "dict[str, Tensor]", targets: "Tensor") -> "Tensor":
        """For kto the log-ratios of answers to other prompts, for orpo the tokens of prompts with chosen answers."""
        import torch

        from pipeline_lib.objectives.preference_losses import Answers
        from pipeline_lib.objectives.preference_model import summaries, text_tokens

        if self.loss == "orpo":
            total = text_tokens({name: tensor[::2] for name, tensor in batch.items()}).sum()
        else:
            others = {name: tensor[1::2] for name, tensor in batch.items()}
            total = Answers.from_summary(summaries(model, others, targets[1::2], False)).log_ratio.sum()
        return torch.stack([total.float(), torch.tensor(len(targets) / 2, device=targets.device)])

    def loss_sum(self, logits: "Tensor", targets: "Tensor", smoothing: float = 0.0) -> "Tensor":
        """The sum of the losses of all pairs, or of all single answers for kto."""
        from pipeline_lib.objectives import preference_losses as losses

        first, *second = (losses.Answers.from_summary(side) for side in logits.unbind(1))
        beta = self.strength
        if self.loss == "kto":
            others = second[0].log_ratio if first.step_mean is None else first.step_mean
            z0 = losses.reference_point(others)
            weights = self.desirable_weight or 1.0, self.undesirable_weight or 1.0
            return losses.kto(first, z0, beta, weights)
        (rejected,) = second
        if self.loss == "ipo":
            return losses.ipo(first, rejected, beta)
        if self.loss == "orpo":
            return losses.orpo(first, rejected, beta)
        if self.loss == "simpo":
            return losses.simpo(first, rejected, beta, self.gamma or 1.0, smoothing)
        return losses.dpo(first, rejected, beta, smoothing)

    def split_loss(self, read: "Sequence[numpy.ndarray]") -> float | None:
        """Return the mean loss of all rows together, so that means over a step become means over the split."""
        import numpy as np
        import torch

        if not read:
            return None
        logits = torch.from_numpy(np.stack(read))
        return float(self.loss_sum(logits, torch.zeros(0))) / len(read)

    def collect(self, logits: "Tensor", targets: "Tensor") -> "list[numpy.ndarray]":
        """[inputs of a group, fields of `Answers`] of each group."""
        return list(logits.double().cpu().numpy())

    @property
    def reference_splits(self) -> tuple[str, ...]:
        """All, but for losses without a reference: these need it for a metric alone."""
        held_out = ("validation", "test")
        return held_out if self.loss in REFERENCE_FREE else ("train", *held_out)

    def metrics(self) -> Mapping[str, "Metric"]:
        """Of rewards, of the wanted answers' likelihood, and for pairs of the text that is written."""
        from pipeline_lib.evaluation.metrics.generation import WRITTEN
        from pipeline_lib.evaluation.metrics.perplexity import LIKELIHOOD
        from pipeline_lib.evaluation.metrics.preference import PAIRED, SINGLE

        return PAIRED | LIKELIHOOD | WRITTEN if self.paired else SINGLE | LIKELIHOOD

    def _rewards(self, answers: Any) -> "numpy.ndarray":
        """[n] the rewards of n `Answers`, given as arrays."""
        import numpy as np

        mean = answers.logp / np.maximum(answers.tokens, 1)
        return self.strength * (mean if self.loss in REFERENCE_FREE else answers.logp - answers.reference)

    def metric_inputs(
        self, read: "Sequence[numpy.ndarray]", split: "SplitExamples", texts: Sequence[str] | None = None
    ) -> "RowCounts":
        """Rewards of all answers; with `texts` also how near these are to the chosen answers."""
        import numpy as np

        from pipeline_lib.evaluation.metrics.generation import text_counts
        from pipeline_lib.evaluation.metrics.preference import pair_counts, single_counts
        from pipeline_lib.evaluation.predictions import RowCounts

        first, second = _sides(read)
        reward, other = self._rewards(first), self._rewards(second)
        if not self.paired:
            wanted = first.desirable > 0
            point = max(0.0, float(other.mean())) if len(other) else 0.0
            counts = single_counts(reward, point, wanted)
            counts |= {"moved": first.moved, "answer_tokens": first.tokens}
            return RowCounts(
                counts | {"nll": np.where(wanted, -first.logp, 0), "tokens": np.where(wanted, first.tokens, 0)}
            )
        counts = pair_counts(reward, other, (first.tokens, second.tokens), first.moved + second.moved)
        if texts is not None:
            counts |= text_counts([[text] for text in split.rows["expected"].to_pylist()], texts)
        return RowCounts(counts | {"nll": -first.logp, "tokens": first.tokens})

    def row_errors(self, outcome: "RowCounts") -> "RowErrors":
        """By how much the wrong answer is preferred."""
        from pipeline_lib.evaluation.row_errors import preference_errors

        return preference_errors(outcome)

    def predictions(
        self, read: "Sequence[numpy.ndarray]", split: "SplitExamples", texts: Sequence[str] | None = None
    ) -> dict[str, list[Any]]:
        """`prediction`, the answer that was written, and the rewards of the answers that a row brings along."""
        written: dict[str, list[Any]] = {} if texts is None else {"prediction": list(texts)}
        if split.encoded.group == 1:
            return written
        first, second = _sides(read)
        if not self.paired:
            return written | {"reward": self._rewards(first).tolist()}
        rewards = {"chosen_reward": first, "rejected_reward": second}
        return written | {name: self._rewards(side).tolist() for name, side in rewards.items()}

    def refuse_unfit_regularizers(self, regularizers: Sequence[Any]) -> None:
        """Refuse R-Drop, which compares predictions per token, and label smoothing unless the loss supports it."""
        for index, regularizer in enumerate(regularizers):
            field, kind = f"regularizers.{index}", regularizer.kind
            if regularizer.needs_second_forward:
                raise RecipeError(field, kind, "compares two predictions of each token", "Remove it")
            if regularizer.smoothing() and self.loss not in SMOOTHED:
                problem = f"has no effect with the loss {self.loss}"
                raise RecipeError(field, kind, problem, f"Remove it, or choose one of {', '.join(SMOOTHED)}")


def _sides(read: "Sequence[numpy.ndarray]") -> tuple[Any, Any]:
    """`Answers` of the first and of the second inputs of all groups, as arrays."""
    import numpy as np

    from pipeline_lib.objectives.preference_losses import Answers

    fields: Any = np.stack(read).transpose(1, 2, 0)
    return Answers(*fields[0]), Answers(*fields[1])
