"""Whether there is room for what a run will write: the base, checkpoints, the trained model and its copies."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import gettempdir
from typing import NamedTuple
from urllib.parse import urlsplit

from rich.filesize import decimal

from pipeline_lib.data.splits import SPLITS
from pipeline_lib.errors import RecipeError
from pipeline_lib.models.base_model import WEIGHTS, locate
from pipeline_lib.preflight.folders import existing_part
from pipeline_lib.preflight.result import CheckResult, failed, ok, warning
from pipeline_lib.recipe.execution import tracking_uri
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.remote import local_folder

NAME = "disk space"
FLOAT32 = 4
CHECKPOINT = 3 * FLOAT32
"""Bytes of a trained parameter in a checkpoint: its value, and AdamW's two moments."""
PER_TRAINED = 2 * CHECKPOINT + FLOAT32
"""At its peak a training keeps the last checkpoint, the one that is being written, and the best weights. When it has
ended, the trained model takes the place of a checkpoint."""
SMALL_PART = 0.05
"""Most of a model that adapters and prompts are taken to add to it."""


class Need(NamedTuple):
    """What a run writes below a folder."""

    folder: Path
    least: int
    most: int
    """Differs from `least` where only the run itself finds out how much is trained."""
    what: str


def check_disk_space(recipe: Recipe) -> list[CheckResult]:
    """Compare the free space of each file system with what a run writes there."""
    by_device: dict[int, list[Need]] = {}
    for need in needs(recipe):
        by_device.setdefault(os.stat(existing_part(need.folder)).st_dev, []).append(need)
    return [_compare(group, recipe) for group in by_device.values()]


def needs(recipe: Recipe) -> list[Need]:
    """Estimate what a run writes where, if nothing of it is in the store yet."""
    weights, parameters = base_size(locate(recipe.model))
    least, most = (int(share * parameters) for share in trained_shares(recipe))
    data = sum(file.stat().st_size for split in SPLITS for file in recipe.data.source.files(split) if file.is_file())
    training = f"{decimal(most * PER_TRAINED)} for two checkpoints and the best weights"
    what = f"{decimal(weights)} for the base model, {training}, {decimal(data)} for encoded rows"
    fixed, model, largest = weights + data, weights + least * FLOAT32, weights + most * FLOAT32
    store = Need(local_folder(recipe.execution.store), fixed + least * PER_TRAINED, fixed + most * PER_TRAINED, what)
    copy = f"{decimal(largest)} for a copy of the model on its way to MLflow"
    found = [store, Need(Path(gettempdir()), model, largest, copy)]
    if urlsplit(tracking_uri(recipe.execution)).scheme not in ("http", "https"):  # MLflow writes here, too
        found.append(Need(Path("mlruns"), model, largest, f"{decimal(largest)} for the model in MLflow"))
    return found


def base_size(folder: Path) -> tuple[int, int]:
    """Bytes of a base model's files, and its parameters, read from the headers of its weights."""
    from safetensors import safe_open

    files = {file for pattern in WEIGHTS for file in folder.glob(pattern)}
    parameters = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (not a dictionary)
                size = 1
                for length in tensors.get_slice(name).get_shape():
                    size *= length
                parameters += size
    return sum(file.stat().st_size for file in files), parameters


def trained_shares(recipe: Recipe) -> tuple[float, float]:
    """The least and the most of a base's parameters that are trained; which ones is known once a run has begun."""
    kinds = {strategy.kind for strategy in recipe.strategies}
    if "full" in kinds:
        return 1.0, 1.0
    return 0.0, 1.0 if "partial" in kinds else SMALL_PART


def _compare(group: Sequence[Need], recipe: Recipe) -> CheckResult:
    """Compare one file system's free space with all that is written there."""
    folder = group[0].folder
    free = shutil.disk_usage(existing_part(folder)).free
    least, most = sum(need.least for need in group), sum(need.most for need in group)
    up_to = "up to " if most > least else ""
    parts = "; ".join(need.what for need in group)
    told = f"{decimal(free)} free, and a run needs {up_to}{decimal(most)} ({parts})"
    if free >= most:
        return ok(NAME, f"{folder.absolute()}: {told}.")
    if not makes_something(recipe):
        return ok(NAME, f"{folder.absolute()}: {decimal(free)} free; every step of this recipe is in the store.")
    hint = "Free some space (`tunesmith cache gc --older-than 30d`), or set execution.store or $TMPDIR to a larger disk"
    if free >= least:
        return warning(NAME, f"{folder.absolute()}: {told}.", hint)
    field = "TMPDIR" if folder == Path(gettempdir()) else "execution.store"
    return failed(NAME, RecipeError(field, str(folder), f"has {told}", hint))


def makes_something(recipe: Recipe) -> bool:
    """Whether a run would make a step; asked only where there seems to be no room for it."""
    from pipeline_lib.pipeline.plan import plan

    try:
        return any(step.artifact is None and step.kept for step in plan(recipe).planned)
    except RecipeError:
        return True
