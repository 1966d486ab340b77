"""Check that there is disk space for a run's base model, checkpoints, trained model and its copies."""

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
from pipeline_lib.models.base_model import WEIGHTS, locate_base
from pipeline_lib.preflight.folders import find_existing_parent
from pipeline_lib.preflight.result import CheckResult, check_warning, failed_check, passed_check
from pipeline_lib.recipe.execution import tracking_uri
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.remote import local_folder

NAME = "disk space"
FLOAT32 = 4
SMALL_PART = 0.05
"""Assumed upper bound of the parameters that adapters and prompts add, as a share of the base model's."""


class Need(NamedTuple):
    """Bytes that a run writes below a folder."""

    folder: Path
    least: int
    most: int
    """Differs from `least` if the number of trained parameters is only known during the run."""
    what: str
    """What is written, for the message."""


def check_disk_space(recipe: Recipe) -> list[CheckResult]:
    """Compare the free space of each file system with the space that a run needs there."""
    by_device: dict[int, list[Need]] = {}
    for need in needs(recipe):
        by_device.setdefault(os.stat(find_existing_parent(need.folder)).st_dev, []).append(need)
    return [_compare(group, recipe) for group in by_device.values()]


def needs(recipe: Recipe) -> list[Need]:
    """Estimate how much a run writes to which folder, assuming that none of its steps is in the store yet."""
    weights, parameters = base_size(locate_base(recipe.model))
    least, most = (int(share * parameters) for share in trained_shares(recipe))
    data = sum(file.stat().st_size for split in SPLITS for file in recipe.data.source.files(split) if file.is_file())
    per_trained = bytes_per_trained_parameter(recipe)
    training = f"{decimal(most * per_trained)} for two checkpoints and the best weights"
    what = f"{decimal(weights)} for the base model, {training}, {decimal(data)} for encoded rows"
    fixed, model, largest = weights + data, weights + least * FLOAT32, weights + most * FLOAT32
    store = Need(local_folder(recipe.execution.store), fixed + least * per_trained, fixed + most * per_trained, what)
    copy = f"{decimal(largest)} for a temporary copy of the model for MLflow"
    all_needs = [store, Need(Path(gettempdir()), model, largest, copy)]
    if urlsplit(tracking_uri(recipe.execution)).scheme not in ("http", "https"):  # MLflow writes to this machine
        all_needs.append(Need(Path("mlruns"), model, largest, f"{decimal(largest)} for the model in MLflow"))
    return all_needs


def bytes_per_trained_parameter(recipe: Recipe) -> int:
    """Return the peak bytes per trained parameter: the last checkpoint, the one being written, and the best weights.

    A checkpoint has its value and the optimizer's state. At the end of the training, the trained model replaces one.
    """
    checkpoint = FLOAT32 * (1 + recipe.training.optimizer.state_floats)
    return round(2 * checkpoint + FLOAT32)


def base_size(folder: Path) -> tuple[int, int]:
    """Return the bytes of a base model's files and its number of parameters, from the headers of the weights."""
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
    """Return bounds for the share of the base's parameters that are trained; the exact share is known in the run."""
    kinds = {strategy.kind for strategy in recipe.strategies}
    if "full" in kinds:
        return 1.0, 1.0
    return 0.0, 1.0 if "partial" in kinds else SMALL_PART


def _compare(group: Sequence[Need], recipe: Recipe) -> CheckResult:
    """Compare one file system's free space with the sum of the needs on it."""
    folder = group[0].folder
    free = shutil.disk_usage(find_existing_parent(folder)).free
    least, most = sum(need.least for need in group), sum(need.most for need in group)
    up_to = "up to " if most > least else ""
    parts = "; ".join(need.what for need in group)
    summary = f"{decimal(free)} free, and a run needs {up_to}{decimal(most)} ({parts})"
    if free >= most:
        return passed_check(NAME, f"{folder.absolute()}: {summary}.")
    if not computes_a_step(recipe):
        return passed_check(
            NAME, f"{folder.absolute()}: {decimal(free)} free; every step of this recipe is in the store."
        )
    hint = "Free some space (`tunesmith cache gc --older-than 30d`), or set execution.store or $TMPDIR to a larger disk"
    if free >= least:
        return check_warning(NAME, f"{folder.absolute()}: {summary}.", hint)
    field = "TMPDIR" if folder == Path(gettempdir()) else "execution.store"
    return failed_check(NAME, RecipeError(field, str(folder), f"has {summary}", hint))


def computes_a_step(recipe: Recipe) -> bool:
    """Return whether a run would compute a step.

    Planning takes time, so this is called only if there seems to be too little space.
    """
    from pipeline_lib.pipeline.plan import plan

    try:
        return any(step.artifact is None and step.is_cached for step in plan(recipe).planned)
    except RecipeError:
        return True
