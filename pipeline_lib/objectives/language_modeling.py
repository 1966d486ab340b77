"""Continue pre-training on plain text."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from pipeline_lib.errors import RecipeError
from pipeline_lib.objectives.token_prediction import TokenPrediction
from pipeline_lib.objectives.tokens import token_ids
from pipeline_lib.objectives.values import text_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline_lib.data.examples import Examples, SplitExamples
    from pipeline_lib.data.settings import Columns
    from pipeline_lib.evaluation.predictions import Metric, RowCounts


class LanguageModeling(TokenPrediction):
    """Predict tokens of texts that are packed into full blocks without padding (Liu et al. 2019, section 4.2).

    causal: every next token (GPT). masked: masked tokens, chosen again in each step (BERT; Devlin et al. 2019, section
    3.1; Liu et al. 2019, section 4.1). span_corruption: masked spans (T5; Raffel et al. 2020, section 3.1.4).
    In validation and test rows, the same tokens are masked every time.
    """

    main_metric: ClassVar = "perplexity"
    dedup_keys: ClassVar = ("text",)
    per_token: ClassVar = True
    per_row: ClassVar = False
    limits: ClassVar = ()
    input_roles: ClassVar = {"text": True}
    answer_columns: ClassVar = ()
    model_columns: ClassVar = ("input_ids",)

    kind: Literal["language_modeling"]
    modeling: Literal["causal", "masked", "span_corruption"]
    """What is predicted: every next token (GPT), masked tokens (BERT), or corrupted spans (T5)."""
    block_size: Annotated[int, Field(ge=8)] = 128
    """Number of tokens per block."""
    hidden_share: Annotated[float, Field(gt=0, lt=0.9)] = 0.15
    """Share of masked tokens; not used by `causal`."""

    def columns(self, columns: "Columns") -> dict[str, str]:
        """Text."""
        return {"text": columns.text}

    def clean(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The text as a string."""
        return {"text": text_of("text", row["text"])}

    def arrow_schema(self) -> "list[tuple[str, pyarrow.DataType]]":
        """Text and token ids."""
        import pyarrow as pa

        return [("text", pa.string()), ("input_ids", pa.list_(pa.int32()))]

    def encode(self, tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """Return token ids, with an end token after each text."""
        texts = [row["text"] for row in rows]
        end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        ids, _ = token_ids(tokenizer, texts, special=False)
        return {"input_ids": [[*row, *([] if end is None else [end])] for row in ids]}

    def features(self, rows: "pyarrow.Table", labels: Sequence[str]) -> "Examples":
        """Return one input per block; the last one may be shorter."""
        import numpy as np

        from pipeline_lib.data.examples import IGNORED, Examples, Ragged

        stream = Ragged.from_lists(rows["input_ids"]).values
        offsets = np.append(
            np.arange(0, max(len(stream) - 1, 0), self.block_size), len(stream)
        )  # no block of one token
        ids, targets = Ragged(stream, offsets), stream.copy()
        if self.modeling == "causal":
            targets[offsets[:-1]] = IGNORED  # there is no token before the first one
            return Examples(ids, Ragged(targets, offsets), aligned=True)
        # what is hidden is drawn later: a step's loss is divided by what is to be expected
        expected = np.maximum(1, np.round(ids.lengths * self.hidden_share)).astype(np.int64)
        return Examples(ids, Ragged(targets, offsets), aligned=True, losses=expected)

    def model(self, base: str, labels: Sequence[str], **config: Any) -> "tuple[PreTrainedModel, set[str]]":
        """AutoModelForCausalLM, AutoModelForMaskedLM or AutoModelForSeq2SeqLM."""
        import transformers

        from pipeline_lib.models.base_model import load_tokenizer
        from pipeline_lib.models.limits import position_limit
        from pipeline_lib.models.loading import load_pretrained

        names = {"causal": "CausalLM", "masked": "MaskedLM", "span_corruption": "Seq2SeqLM"}
        model: Any
        model, head = load_pretrained(getattr(transformers, f"AutoModelFor{names[self.modeling]}"), base, **config)
        positions = position_limit(model.config)
        if positions is not None and self.block_size > positions:
            problem = f"exceeds the {positions} tokens that the base can read"
            raise RecipeError("objective.block_size", self.block_size, problem, f"Set it to {positions} or less")
        if self.modeling != "causal":
            model.gap_marks = self._marks(load_tokenizer(Path(base)))
        return model, head

    def _marks(self, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
        """Return the ids that replace masked tokens; raises RecipeError if the tokenizer has none."""
        masked = self.modeling == "masked"
        marks = [tokenizer.mask_token] if masked else [f"<extra_id_{index}>" for index in range(100)]
        known = tokenizer.get_vocab()
        ids = [known[mark] for mark in marks if mark in known]
        if not ids:
            problem = f"needs {'a mask token' if masked else 'tokens <extra_id_0> ...'}, and the tokenizer has none"
            raise RecipeError("objective.modeling", self.modeling, problem, "Choose another base, or causal")
        return ids

    @property
    def stochastic_targets(self) -> bool:
        """Where not every next token is predicted."""
        return self.modeling != "causal"

    def mask_inputs(
        self, model: Any, batch: "dict[str, Tensor]", targets: "Tensor"
    ) -> "tuple[dict[str, Tensor], Tensor]":
        """Return the masked batch and its targets."""
        import torch

        from pipeline_lib.data.token_masking import mask_tokens

        if self.modeling == "causal":
            return batch, targets
        ids: Any = batch["input_ids"]
        same = abs(int(ids.sum()))  # virtual tokens have ids below zero
        seed = int(torch.randint(2**62, ())) if model.training else same
        if self.modeling == "span_corruption":
            return self._corrupt_batch(model, batch, targets, seed)
        generator = torch.Generator(ids.device).manual_seed(seed)
        size: int = model.config.vocab_size
        seen, gold = mask_tokens(ids, targets, self.hidden_share, model.gap_marks[0], size, generator)
        return batch | {"input_ids": seen}, gold

    def _corrupt_batch(
        self, model: Any, batch: "dict[str, Tensor]", targets: "Tensor", seed: int
    ) -> "tuple[dict[str, Tensor], Tensor]":
        import numpy as np

        from pipeline_lib.data.examples import VIRTUAL, Examples, Ragged
        from pipeline_lib.data.token_masking import corrupt_spans
        from pipeline_lib.models.deep_prompts import has_deep_prompts
        from pipeline_lib.training.batches import collate

        random, pad, end = np.random.default_rng(seed), model.config.pad_token_id, model.config.eos_token_id
        texts = [row[used].cpu().numpy() for row, used in zip(batch["input_ids"], targets >= 0, strict=True)]
        pairs = [corrupt_spans(text, self.hidden_share, model.gap_marks, end, random) for text in texts]
        encoded = Examples(
            Ragged.from_lists([source for source, _ in pairs]), Ragged.from_lists([target for _, target in pairs])
        )
        virtual = (batch["input_ids"][0] <= VIRTUAL).cpu().numpy()  # in the same places of each block
        if count := int(virtual.sum()):
            before = count if virtual[0] else 0
            encoded = encoded.insert_prompt(before, count - before, has_deep_prompts(model), first=None, last=end)
        return collate(encoded, np.arange(len(pairs)), pad, targets.device)

    @property
    def can_pack(self) -> bool:
        """Where every next token is predicted."""
        return self.modeling == "causal"

    @property
    def is_shifted(self) -> bool:
        """Where every next token is predicted."""
        return self.modeling == "causal"

    def model_inputs(self, model: Any, batch: "dict[str, Tensor]", targets: "Tensor") -> dict[str, Any]:
        """Return the arguments of the model's forward pass; spans are predicted by a decoder."""
        if self.modeling == "masked":
            return {**batch}
        inputs = super().model_inputs(model, batch, targets)
        if self.modeling == "span_corruption":
            from pipeline_lib.models.decoder_inputs import decoder_inputs

            inputs["decoder_input_ids"] = decoder_inputs(model, targets)
        return inputs

    def metrics(self) -> Mapping[str, "Metric"]:
        """Perplexity: of all tokens, or of the hidden ones."""
        from pipeline_lib.evaluation.metrics.perplexity import LIKELIHOOD

        return LIKELIHOOD

    def metric_inputs(
        self, read: "Sequence[np.ndarray]", split: "SplitExamples", texts: Sequence[str] | None = None
    ) -> "RowCounts":
        """Likelihoods, block by block."""
        import numpy as np

        from pipeline_lib.evaluation.predictions import RowCounts

        nll, tokens = np.stack(read).T
        return RowCounts({"nll": nll, "tokens": tokens})

    def predictions(
        self, read: "Sequence[np.ndarray]", split: "SplitExamples", texts: Sequence[str] | None = None
    ) -> dict[str, list[Any]]:
        """Nothing by row: blocks go across texts."""
        return {}
