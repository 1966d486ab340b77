"""Turn one text into another: translation, summaries, data to text, dialogue. Encoder-decoder models."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import PositiveInt

from pipeline_lib.models.languages import begin_in_language, set_languages
from pipeline_lib.objectives.base import limit_of
from pipeline_lib.objectives.token_prediction import TokenPrediction
from pipeline_lib.objectives.tokens import token_ids
from pipeline_lib.objectives.values import is_list, text_of

if TYPE_CHECKING:
    import numpy
    import pyarrow
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline_lib.data.examples import Examples, SplitExamples
    from pipeline_lib.data.settings import Columns
    from pipeline_lib.evaluation.predictions import Metric, RowCounts
    from pipeline_lib.evaluation.row_errors import RowErrors
    from pipeline_lib.models.generation import Generated


class Seq2Seq(TokenPrediction):
    """Predict each target token from the source and the tokens before it (Sutskever et al. 2014, equation 1).

    The loss is the mean cross-entropy of all target tokens of a step. A row may have several correct targets: the
    first one is trained on, and generated texts are compared with all of them.
    """

    main_metric: ClassVar = "perplexity"
    dedup_keys: ClassVar = ("source",)
    limits: ClassVar = ("max_source", "max_target")
    input_roles: ClassVar = {"source": True}
    model_columns: ClassVar = ("input_ids", "target_ids")
    generates: ClassVar = True

    kind: Literal["seq2seq"]
    prefix: str = ""
    """Prefix added to every source, such as `translate English to German: ` for T5."""
    source_language: str = ""
    """Code of the source language, which mBART, NLLB and M2M-100 need: `en_XX`, `eng_Latn`, `en`."""
    target_language: str = ""
    """Code of the target language, for the same bases."""
    max_source: PositiveInt = 512
    """Longer sources are cut to this many tokens."""
    max_target: PositiveInt = 128
    """Longer targets are cut to this many tokens; also the maximum length of generated text."""
    beams: PositiveInt = 4
    """Number of beams when generating a text; 1: greedy decoding."""

    def columns(self, columns: "Columns") -> dict[str, str]:
        """Source and target."""
        return {"source": columns.source, "target": columns.target}

    def clean(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The source as a string, the targets as a list of strings."""
        targets = row["target"] if is_list(row["target"]) else [row["target"]]
        if len(targets) == 0:
            raise ValueError("empty target")
        return {"source": text_of("source", row["source"]), "target": [text_of("target", text) for text in targets]}

    def arrow_schema(self) -> "list[tuple[str, pyarrow.DataType]]":
        """Texts and token ids."""
        import pyarrow as pa

        ids = pa.list_(pa.int32())
        return [
            *(("source", pa.string()), ("target", pa.list_(pa.string()))),
            *(("input_ids", ids), ("target_ids", ids)),
        ]

    def encode(self, tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """Token ids of source and first target, each with the tokenizer's special tokens."""
        set_languages(tokenizer, self.source_language, self.target_language)
        sources = [self.prefix + row["source"] for row in rows]
        ids, _ = token_ids(tokenizer, sources, limit=limit_of(tokenizer, self.max_source))
        targets = [(row.get("target") or [None])[0] for row in rows]
        if None in targets:
            return {"input_ids": ids, "target_ids": [[] for _ in rows]}
        wanted = tokenizer(text_target=targets, truncation=True, max_length=self.max_target, verbose=False)
        return {"input_ids": ids, "target_ids": wanted["input_ids"]}

    def features(self, rows: "pyarrow.Table", labels: Sequence[str]) -> "Examples":
        """One input a row."""
        from pipeline_lib.data.examples import Examples, Ragged

        return Examples(Ragged.from_lists(rows["input_ids"]), Ragged.from_lists(rows["target_ids"]))

    def model(self, base: str, labels: Sequence[str], **config: Any) -> "tuple[PreTrainedModel, set[str]]":
        """AutoModelForSeq2SeqLM."""
        from transformers import AutoModelForSeq2SeqLM

        from pipeline_lib.models.base_model import load_tokenizer
        from pipeline_lib.models.loading import load_pretrained

        model, head = load_pretrained(AutoModelForSeq2SeqLM, base, **config)
        tokenizer = load_tokenizer(Path(base))
        set_languages(tokenizer, self.source_language, self.target_language)
        begin_in_language(model, tokenizer)
        return model, head

    def model_inputs(self, model: "PreTrainedModel", batch: "dict[str, Tensor]", targets: "Tensor") -> dict[str, Any]:
        """Return the arguments of the model's forward pass; each target token is predicted from those before it."""
        from pipeline_lib.models.decoder_inputs import decoder_inputs

        return {**super().model_inputs(model, batch, targets), "decoder_input_ids": decoder_inputs(model, targets)}

    @property
    def max_generated(self) -> int:
        """Return `max_target`."""
        return self.max_target

    def generation_inputs(self, encoded: "Examples") -> "Examples":
        """Without targets, but for the virtual tokens that a decoder's prompt begins with."""
        from dataclasses import replace

        from pipeline_lib.data.examples import VIRTUAL, Ragged

        targets = encoded.targets
        return replace(
            encoded,
            targets=targets.select_values(targets.values <= VIRTUAL) if isinstance(targets, Ragged) else targets,
        )

    def generate(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        batch: "dict[str, Tensor]",
        targets: "Tensor",
    ) -> "list[Generated]":
        """Beam search from the decoder's first token and its virtual ones."""
        import torch

        from pipeline_lib.data.examples import IGNORED
        from pipeline_lib.models.generation import write

        start = model.generation_config.decoder_start_token_id
        first = torch.full_like(
            batch["input_ids"][:, :1], model.config.decoder_start_token_id if start is None else start
        )
        begun = torch.cat([first, targets[:, : int((targets[0] < IGNORED).sum())]], 1)
        options = {"max_new_tokens": self.max_target, "num_beams": self.beams}
        return write(model, tokenizer, begun.shape[1], **batch, decoder_input_ids=begun, **options)

    def metrics(self) -> Mapping[str, "Metric"]:
        """Of likelihood, and of the text that is written."""
        from pipeline_lib.evaluation.metrics.generation import WRITTEN
        from pipeline_lib.evaluation.metrics.perplexity import LIKELIHOOD

        return LIKELIHOOD | WRITTEN

    def metric_inputs(
        self, read: "Sequence[numpy.ndarray]", split: "SplitExamples", texts: Sequence[str] | None = None
    ) -> "RowCounts":
        """Likelihoods of the first targets; with `texts` also how near these are to all targets."""
        import numpy as np

        from pipeline_lib.evaluation.metrics.generation import text_counts
        from pipeline_lib.evaluation.predictions import RowCounts

        nll, tokens = np.stack(read).T
        counts = text_counts(split.rows["target"].to_pylist(), texts) if texts is not None else {}
        return RowCounts({"nll": nll, "tokens": tokens, **counts})

    def row_errors(self, outcome: "RowCounts") -> "RowErrors | None":
        """What the texts lack of their references."""
        from pipeline_lib.evaluation.row_errors import text_errors

        return text_errors(outcome) if "chrf" in outcome.counts else None

    def predictions(
        self, read: "Sequence[numpy.ndarray]", split: "SplitExamples", texts: Sequence[str] | None = None
    ) -> dict[str, list[Any]]:
        """Return `prediction`: the generated text; None if none was generated."""
        return {"prediction": list(texts)} if texts is not None else {}

    def fit_baselines(self) -> tuple[str, ...]:
        """Only the copy is one here."""
        return ("copy",)

    def baselines(self, names: Sequence[str], train: "SplitExamples", test: "SplitExamples") -> "dict[str, RowCounts]":
        """Return the source unchanged; it has no likelihood."""
        import numpy as np

        from pipeline_lib.evaluation.metrics.generation import text_counts
        from pipeline_lib.evaluation.predictions import RowCounts

        nothing = np.zeros(len(test.rows))
        counts = text_counts(test.rows["target"].to_pylist(), test.rows["source"].to_pylist())
        return {name: RowCounts({"nll": nothing, "tokens": nothing, **counts}) for name in names}
