"""Embed texts with the untrained base model, and measure how well two sets of embeddings can be separated."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from pipeline_lib.data.examples import Examples, Ragged
from pipeline_lib.evaluation.predict import predict
from pipeline_lib.models.base_model import load_tokenizer
from pipeline_lib.models.loading import load_pretrained
from pipeline_lib.objectives.base import limit_of
from pipeline_lib.objectives.tokens import token_ids
from pipeline_lib.recipe.execution import Execution
from pipeline_lib.training.device import accelerator

if TYPE_CHECKING:
    import pyarrow
    from torch import Tensor

EMBEDDINGS = "embeddings.safetensors"
MOST, LEAST = 1000, 50
"""Largest number of rows to embed, and smallest number to compare: ten per fold, so that chance has little effect."""
FOLDS = 5
MAX_LENGTH, BATCH_TOKENS = 256, 4096


class NotCompared(Exception):
    """Raised with the reason why embeddings cannot be compared."""


@dataclass(frozen=True)
class Embedder:
    """A base model in the store; `digest` identifies it."""

    folder: Path
    digest: str
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def embed(self, texts: list[str]) -> np.ndarray:
        """[texts, width] float16: the mean over tokens of the (encoder's) last hidden state.

        Computed in fp32 on every machine, so that differences in precision do not look like drift.
        """
        from transformers import AutoModel

        tokenizer, computing = load_tokenizer(self.folder), accelerator(Execution(device=self.device, precision="fp32"))
        model = load_pretrained(AutoModel, str(self.folder))[0].to(computing.device)
        reader = model.get_encoder() if model.config.is_encoder_decoder else model

        def mean(batch: "dict[str, Tensor]", _: "Tensor") -> list[np.ndarray]:
            mask = batch["attention_mask"].unsqueeze(-1)
            return [*((reader(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)).half().cpu().numpy()]

        ids, _ = token_ids(tokenizer, texts, limit=limit_of(tokenizer, MAX_LENGTH))
        pad = tokenizer.pad_token_id
        encoded = Examples(
            Ragged.from_lists([row or [pad] for row in ids]), np.zeros(len(ids))
        )  # at least one token per row
        return np.stack(predict(model, encoded, pad, BATCH_TOKENS, computing, mean))

    def write(self, texts: list[str], folder: Path) -> None:
        """Write the embeddings of texts to a folder, with the digest of the base."""
        from safetensors.numpy import save_file

        save_file({"embeddings": self.embed(texts)}, folder / EMBEDDINGS, {"base": self.digest})

    def distance(self, profile: Path, texts: list[str]) -> float:
        """The distance between texts and a profile's embeddings; raises NotCompared if it cannot be measured."""
        before = self._read(profile)
        fewest = min(len(before), len(texts))
        if fewest < LEAST:
            raise NotCompared(f"{fewest} rows are too few; at least {LEAST} are needed")
        return measure_separability(before, self.embed(texts))

    def _read(self, profile: Path) -> np.ndarray:
        from safetensors import safe_open

        if not (profile / EMBEDDINGS).exists():
            raise NotCompared("the champion's profile has none")
        with safe_open(profile / EMBEDDINGS, "np") as file:
            if file.metadata()["base"] != self.digest:
                raise NotCompared("the champion was trained from another base")
            return file.get_tensor("embeddings")


def sample_rows(rows: "pyarrow.Table") -> "pyarrow.Table":
    """Sample up to MOST rows with a fixed seed, in their original order."""
    drawn = np.random.default_rng(0).permutation(len(rows))[:MOST]
    return rows.take(np.sort(drawn))


def measure_separability(before: np.ndarray, now: np.ndarray) -> float:
    """How well a classifier separates two sets of embeddings, [rows, width] each: 0 = not at all, 1 = perfectly.

    The value is max(0, 2 AUC - 1) of logistic regression, with the mean AUC over held-out folds. If a part of `now` is
    of an entirely different kind, it is about that part's share. Drift detection by a domain classifier: Rabanser et
    al. (2019), "Failing Loudly", section 3; held-out performance as a distance between two samples: Lopez-Paz & Oquab
    (2017), "Revisiting Classifier Two-Sample Tests", section 3.
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
