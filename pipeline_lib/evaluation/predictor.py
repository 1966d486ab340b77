"""Load a trained model and predict rows; evaluation and serving share this code."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline_lib.data.examples import Examples, SplitExamples
from pipeline_lib.evaluation.predict import Read, predict
from pipeline_lib.evaluation.row_values import check_row
from pipeline_lib.models.base_model import load_tokenizer
from pipeline_lib.models.building import load_trained, read_card
from pipeline_lib.models.prompt_inputs import insert_prompt_tokens
from pipeline_lib.training.device import reader

if TYPE_CHECKING:
    import pandas
    from torch import Tensor
    from transformers import PreTrainedModel

ERROR = "error"
"""The column with the reason why a row could not be answered."""


def frame_rows(frame: "pandas.DataFrame") -> list[dict[str, Any]]:
    """Return the rows of a DataFrame, each value in its own type, whatever the types of the others."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


class LoadedModel:
    """A trained model with its tokenizer and labels, run in its training precision if the device supports it.

    Args:
        folder: The folder of the trained model.
        base: The folder of its base model, for models that are stored without it.
        device: Where to compute.
        model: A model to use instead of the one in `folder`.

    Raises:
        RecipeError: If `base` is not the base that the model was trained from.
    """

    def __init__(
        self,
        folder: Path,
        base: Path | None = None,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        model: "PreTrainedModel | None" = None,
    ):
        card = read_card(folder)
        self.objective, self.strategies, self.labels = card["objective"], card["strategies"], card["labels"]
        self.scale, self.input_roles = card["target_scale"], card["asked"]
        self.batch_tokens = card["batch_tokens"]
        self.generation = {"tokens": 0, "seconds": 0.0}
        """Tokens generated so far, end tokens included, and the time they took."""
        self.tokenizer = load_tokenizer(folder)
        self.accelerator = reader(device, card["precision"])
        self.model = (model or load_trained(folder, base)).to(self.accelerator.device)

    def answer(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """Predict rows and return the predictions by column.

        Rows are cleaned and checked as in training. A row that cannot be answered has the reason in the column
        `error` and None in all others; it does not affect the other rows.

        Args:
            rows: The objective's input columns by role, without the answers.
        """
        cleaned = [self._clean(row) for row in rows]  # (row, None) or (None, reason)
        usable = [index for index, (row, _) in enumerate(cleaned) if row is not None]
        columns: dict[str, list[Any]] = {name: [None] * len(rows) for name in self.objective.answer_columns}
        if usable:
            predictions = self.objective.predictions(
                *self.read(self.split([cleaned[index][0] or {} for index in usable]))
            )
            for name, values in predictions.items():
                for index, value in zip(usable, values, strict=True):
                    columns[name][index] = value
        return columns | {ERROR: [reason for _, reason in cleaned]}

    def _clean(self, row: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str | None]:
        """The row as training would read it, or the reason why it cannot be answered."""
        try:
            check_row(row)
            return self.objective.read_input(self.tokenizer, self.objective.clean_input(row, self.input_roles)), None
        except ValueError as error:
            return None, str(error)

    def read(self, split: SplitExamples, write: bool = True) -> tuple[list[Any], SplitExamples, list[str] | None]:
        """Run the model over a split.

        Args:
            split: The encoded rows.
            write: Whether a generative model generates text, which takes most of the time.

        Returns:
            What the objective collects from the output for each input, the split, and the generated texts or None.
        """
        split = split._replace(scale=self.scale)
        encoded = insert_prompt_tokens(split.encoded, self.strategies, self.tokenizer)
        return self._predict(encoded, self._forward), split, self._generate(encoded) if write else None

    def _forward(self, batch: "dict[str, Tensor]", targets: "Tensor") -> list[Any]:
        batch, targets = self.objective.mask_inputs(self.model, batch, targets)
        return self.objective.collect(self.objective.outputs(self.model, batch, targets), targets)

    def _generate(self, encoded: Examples) -> list[str] | None:
        if not self.objective.generates:
            return None
        begun = time.perf_counter()
        generated = self._predict(
            self.objective.generation_inputs(encoded),
            lambda batch, targets: self.objective.generate(self.model, self.tokenizer, batch, targets),
            self.objective.max_generated,
        )
        self.generation["tokens"] += sum(answer.tokens for answer in generated)
        self.generation["seconds"] += time.perf_counter() - begun
        return [answer.text for answer in generated]

    def _predict(self, encoded: Examples, read: Read, written: int = 0) -> list[Any]:
        pad = self.tokenizer.pad_token_id
        return predict(self.model, encoded, pad, self.batch_tokens, self.accelerator, read, written)

    def split(self, rows: Sequence[Mapping[str, Any]]) -> SplitExamples:
        """Encode rows for this model, with nulls for missing answers."""
        import pyarrow as pa

        columns = self.objective.encode(self.tokenizer, rows)
        schema = pa.schema(self.objective.arrow_schema())
        columns |= {name: [row.get(name) for row in rows] for name in schema.names if name not in columns}
        table = pa.table({name: columns[name] for name in schema.names}, schema=schema)
        return SplitExamples(table, self.labels, self.objective.features(table, self.labels))
