"""Answer new rows with a trained model's folder: what is served is what was evaluated."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline_lib.data.dataset import Encoded
from pipeline_lib.evaluation.predict import predict
from pipeline_lib.models.base import load_tokenizer
from pipeline_lib.models.build import load_trained, read_card
from pipeline_lib.recipe import Execution
from pipeline_lib.training.device import accelerator

BATCH_TOKENS = 4096


class Answerer:
    """A loaded model with its tokenizer and its labels, computing in the precision that it was trained in.

    Raises RecipeError where `base` is not the model's own.
    """

    def __init__(self, folder: Path, base: Path | None = None, device: Literal["auto", "cpu", "cuda"] = "auto"):
        card = read_card(folder)
        self.objective, self.labels = card["objective"], card["labels"]
        self.tokenizer = load_tokenizer(folder)
        self.accelerator = accelerator(Execution(device=device, precision=card["precision"]))
        self.model = load_trained(folder, base).to(self.accelerator.device)

    def answer(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        """Predictions column by column; rows hold `text` and, for pairs, `text_pair`."""
        encoded = Encoded.of(**self.objective.encode(self.tokenizer, rows), targets=np.empty(len(rows)))
        return self.objective.answers(self.logits(encoded), self.labels)

    def logits(self, encoded: Encoded) -> np.ndarray:
        """[rows, outputs] of encoded rows."""
        return predict(self.model, encoded, self.tokenizer.pad_token_id, BATCH_TOKENS, self.accelerator)
