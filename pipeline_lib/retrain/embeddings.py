"""Where texts lie for the base model, before any training, and how well two sets of them can be told apart there."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from pipeline_lib.data.examples import Examples, Ragged
from pipeline_lib.evaluation.predict import predict
from pipeline_lib.models.base_model import load_tokenizer
from pipeline_lib.models.loading import pretrained
from pipeline_lib.objectives.base import limit_of
from pipeline_lib.objectives.tokens import token_ids
from pipeline_lib.recipe.execution import Execution
from pipeline_lib.training.device import accelerator

if TYPE_CHECKING:
    import pyarrow
    from torch import Tensor

EMBEDDINGS = "embeddings.safetensors"
MOST, LEAST = 1000, 50
"""Rows that are embedded at most, and those that it takes at least: with ten a fold, chance stays small."""
FOLDS = 5
MAX_LENGTH, BATCH_TOKENS = 256, 4096


class NotCompared(Exception):
    """Why there is no distance between embeddings."""


@dataclass(frozen=True)
class Embedder:
    """A base model, as an artifact of the store holds it; `digest` tells it from others."""

    folder: Path
    digest: str
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def embed(self, texts: list[str]) -> np.ndarray:
        """[texts, width] float16: the mean of the last hidden state, an encoder's where there is one, over all tokens.

        Computed in fp32 on every machine, so that no precision is taken for drift.
        """
        from transformers import AutoModel

        tokenizer, computing = load_tokenizer(self.folder), accelerator(Execution(device=self.device, precision="fp32"))
        model = pretrained(AutoModel, str(self.folder))[0].to(computing.device)
        reader = model.get_encoder() if model.config.is_encoder_decoder else model

        def mean(batch: "dict[str, Tensor]", _: "Tensor") -> list[np.ndarray]:
            there = batch["attention_mask"].unsqueeze(-1)
            return [*((reader(**batch).last_hidden_state * there).sum(1) / there.sum(1)).half().cpu().numpy()]

        ids, _ = token_ids(tokenizer, texts, limit=limit_of(tokenizer, MAX_LENGTH))
        pad = tokenizer.pad_token_id
        encoded = Examples(Ragged.of([row or [pad] for row in ids]), np.zeros(len(ids)))  # no row is without a token
        return np.stack(predict(model, encoded, pad, BATCH_TOKENS, computing, mean))

    def write(self, texts: list[str], folder: Path) -> None:
        """Keep the texts' embeddings in a folder, with the base that they are of."""
        from safetensors.numpy import save_file

        save_file({"embeddings": self.embed(texts)}, folder / EMBEDDINGS, {"base": self.digest})

    def distance(self, profile: Path, texts: list[str]) -> float:
        """How far texts are from those whose embeddings a profile keeps; raises NotCompared where none can be told."""
        before = self._kept(profile)
        if (fewest := min(len(before), len(texts))) < LEAST:
            raise NotCompared(f"{fewest} rows are too few, it takes {LEAST}")
        return told_apart(before, self.embed(texts))

    def _kept(self, profile: Path) -> np.ndarray:
        from safetensors import safe_open

        if not (profile / EMBEDDINGS).exists():
            raise NotCompared("the champion's profile keeps none")
        with safe_open(profile / EMBEDDINGS, "np") as file:
            if file.metadata()["base"] != self.digest:
                raise NotCompared("the champion was trained from another base")
            return file.get_tensor("embeddings")


def some(rows: "pyarrow.Table") -> "pyarrow.Table":
    """As many rows as are embedded at most, drawn by a fixed seed, in their order."""
    drawn = np.random.default_rng(0).permutation(len(rows))[:MOST]
    return rows.take(np.sort(drawn))


def told_apart(before: np.ndarray, now: np.ndarray) -> float:
    """How well a classifier tells the rows of [rows, width] and [rows, width]: 0 not at all, 1 every one.

    Where a part of `now` is of another kind altogether, it is about that share. It is max(0, 2 AUC - 1) of logistic
    regression, the AUC being the mean of those on held-out folds. To look for drift by a domain classifier: Rabanser
    et al. (2019), "Failing Loudly", section 3; held-out answers as a measure of how two samples differ: Lopez-Paz &
    Oquab (2017), "Revisiting Classifier Two-Sample Tests", section 3.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = np.concatenate([before, now]).astype(np.float32)
    new = np.repeat([0, 1], [len(before), len(now)])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    return max(0.0, 2 * float(cross_val_score(model, rows, new, cv=folds, scoring="roc_auc").mean()) - 1)
