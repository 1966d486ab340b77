"""Run a model over encoded rows."""

from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.training.batches import collate, within

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn

    from pipeline_lib.data.dataset import Encoded


def predict(
    model: "nn.Module", encoded: "Encoded", pad: int, batch_tokens: int, accelerator: "Accelerator"
) -> np.ndarray:
    """Logits [rows, outputs] float32 in the order of the rows; the model computes them sorted by length."""
    import torch

    rows = np.arange(len(encoded))
    parts = within(rows, encoded.lengths, batch_tokens)
    model.eval()
    with torch.inference_mode(), accelerator.autocast():
        logits = [model(**collate(encoded, part, pad, accelerator.device)).logits.float().cpu() for part in parts]
    ordered = torch.cat(logits).numpy()
    answers = np.empty_like(ordered)
    answers[np.concatenate(parts)] = ordered
    return answers
