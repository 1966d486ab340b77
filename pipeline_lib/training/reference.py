"""The step `reference`: log-probabilities of the target tokens under the base model, shared by all trainings.

train.safetensors, validation.safetensors, test.safetensors: `logp` [target tokens] float32, input after input.

The reference is the base model for all strategies: it is the model below an adapter, and the initial model of a full
fine-tuning.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.data.examples import Examples, Ragged
from pipeline_lib.data.prepared import load_split
from pipeline_lib.evaluation.predict import predict
from pipeline_lib.models.base_model import load_tokenizer
from pipeline_lib.models.building import save_tensors
from pipeline_lib.models.generation import logp_by_token
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.training.device import accelerator
from pipeline_lib.util.freed_memory import return_freed_memory
from pipeline_lib.util.progress_bar import bar

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor
    from transformers import PreTrainedModel

BATCH_TOKENS = 4096


@return_freed_memory()
def write_reference(recipe: Recipe, prepared: Path, shards: Path, base: Path, folder: Path) -> None:
    """Write one file for each split whose reference the objective needs."""
    import torch

    objective, here, pad = recipe.objective, accelerator(recipe.execution), load_tokenizer(base).pad_token_id
    of_base = recipe.model
    model, _ = objective.model(str(base), [], dtype=of_base.dtype, quantization=of_base.quantization)
    model.to(here.device)
    names = objective.reference_splits
    splits = {name: load_split(prepared, shards, name, objective).encoded for name in names}
    with bar("reference", "rows", sum(map(len, splits.values()))) as shown:
        for name, encoded in splits.items():
            logp = torch.from_numpy(reference_of(model, encoded, pad, here).values)
            save_tensors({"logp": logp}, folder / f"{name}.safetensors")
            shown.advance(by=len(encoded))


def reference_of(model: "PreTrainedModel", encoded: Examples, pad: int, here: "Accelerator") -> Ragged:
    """Compute the log-probabilities of all target tokens under a model, input by input."""

    def read(batch: "dict[str, Tensor]", targets: "Tensor") -> list[tuple[np.ndarray]]:
        logits = model(**batch, use_cache=False).logits[:, :-1]
        # logits at a position predict the next token, so both are shifted by one
        logp, is_target = logp_by_token(logits, targets).cpu().numpy(), (targets[:, 1:] >= 0).cpu().numpy()
        return [(row[learned],) for row, learned in zip(logp, is_target, strict=True)]

    rows = [row for (row,) in predict(model, replace(encoded, group=1), pad, BATCH_TOKENS, here, read)]
    return Ragged(np.concatenate([np.empty(0, np.float32), *rows]), _offsets(encoded))


def with_reference(encoded: Examples, folder: Path, split: str) -> Examples:
    """Add the reference log-probabilities to the examples of a split, if the folder has them.

    Raises ValueError if their number does not match the target tokens.
    """
    from safetensors.numpy import load_file

    path = folder / f"{split}.safetensors"
    if not path.exists():
        return encoded
    values, offsets = load_file(path)["logp"], _offsets(encoded)
    if len(values) != offsets[-1]:
        raise ValueError(
            f"the reference has {len(values)} tokens of {split}, and there are {offsets[-1]} target tokens"
        )
    return replace(encoded, reference=Ragged(values, offsets))


def _offsets(encoded: Examples) -> np.ndarray:
    """Return where each input's target tokens begin among those of all inputs, and where the last one's end."""
    targets = encoded.targets
    if not isinstance(targets, Ragged):
        raise TypeError("a reference needs targets per token")
    return np.concatenate([[0], np.cumsum(targets.values >= 0)])[targets.offsets]
