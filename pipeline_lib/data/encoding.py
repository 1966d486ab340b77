"""Encode source files to shards, skipping those already in the store, in this process or in several."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.data.file_groups import FileGroup, find_groups
from pipeline_lib.data.shards import write_shard
from pipeline_lib.data.splits import SPLITS
from pipeline_lib.errors import RecipeError, raise_first
from pipeline_lib.models.base_model import load_config, locate
from pipeline_lib.models.building import copy_base
from pipeline_lib.models.tokenizer_trial import refuse_endless
from pipeline_lib.objectives import Objective
from pipeline_lib.pipeline import fingerprints
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.artifacts import Artifact
from pipeline_lib.store.differences import differences
from pipeline_lib.store.remote import absolute_address, open_store
from pipeline_lib.store.store import Store
from pipeline_lib.util.process_pool import one_by_one, side_by_side
from pipeline_lib.util.progress_bar import bar

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger("tunesmith")
CHANGED = ("changed while it was being read", "Run again when nothing writes to it")


@dataclass(frozen=True)
class EncodedFiles:
    """All source files of a recipe, the base whose tokenizer encodes them, and the number of files newly encoded."""

    base: Artifact
    groups: tuple[FileGroup, ...]
    made: int

    @property
    def message(self) -> str:
        """Summary shown as the state message in Prefect."""
        files = sum(len(group.files) for group in self.groups)
        return f"{files - self.made} of {files} files reused"


Outcomes = Iterator[tuple[FileGroup, BaseException | None]]
Spread = Callable[[Recipe, Artifact, Sequence[FileGroup], str], Outcomes]
"""Encodes files: takes the recipe, the base, the groups and `made_by`; yields each group with its error or None."""


def encode_files(recipe: Recipe, base: Artifact, made_by: str, spread: Spread) -> EncodedFiles:
    """Encode the files that are not in the store yet.

    A file that fails does not stop those of other groups; the first error is raised at the end.
    """
    tokenizer = fingerprints.tokenizer_digests(base.folder)
    groups = tuple(group for split in SPLITS for group in find_groups(recipe, tokenizer, split))
    waiting = _select_missing(open_store(recipe.execution.store), groups)
    made, failed = sum(len(group.files) for group in waiting), {}
    if waiting:
        total = sum(len(group.files) for group in groups)
        with bar("encode", "files", total, total - made) as shown:
            for group, error in spread(_make_store_absolute(recipe), base, waiting, made_by):
                if error:
                    failed[group.files] = error
                shown.advance(group.name, len(group.files))
    if failed:
        # in the order of the recipe, not in the order in which they failed
        errors = [failed[group.files] for group in waiting if group.files in failed]
        errors[0].add_note("the shards of the other files are kept")
        raise_first(errors)
    return EncodedFiles(base, groups, made)


def here(recipe: Recipe, base: Artifact, groups: Sequence[FileGroup], made_by: str) -> Outcomes:
    """Encode without an orchestrator: in this process, or in `execution.workers` worker processes."""
    work = partial(encode_group, recipe, base, made_by)
    workers = min(recipe.execution.workers, len(groups))
    in_process = workers == 1
    for group, outcome in one_by_one(work, groups) if in_process else side_by_side(work, groups, workers):
        if isinstance(outcome, BaseException):
            yield group, outcome
            continue
        if not in_process:  # log records of a worker process do not reach this one
            log.info("%-11s %s, from %s", "shard", outcome.message, group.name)
        yield group, None


def encode_group(recipe: Recipe, base: Artifact, made_by: str, group: FileGroup) -> Artifact:
    """Return the shard of a group of files, in any process or on any machine.

    Raises:
        RecipeError: A file or the libraries here differ from those the run was planned with.
    """
    # A worker on another machine has its own cache and may have to fetch the base first.
    folder = base.folder if base.folder.is_dir() else fetch(recipe, made_by).folder
    digests = [fingerprints.source_digest(recipe, file) for file in group.files]
    local_step = fingerprints.shard_step(recipe, fingerprints.tokenizer_digests(folder), digests)
    if local_step.fingerprint != group.step.fingerprint:
        first = next(map(str, differences(group.step.identity(), local_step)), "library versions differ")
        hint = "Run again, and give all workers the same files and libraries"
        file = group.first_difference(local_step)
        raise RecipeError("data.source", str(file), f"differs from the start of the run ({first})", hint)
    return shard(recipe, open_store(recipe.execution.store), folder, group, made_by)


def shard(recipe: Recipe, store: Store, base: Path, group: FileGroup, made_by: str) -> Artifact:
    """Return the intact shard of a group of files, encoding them if the store does not have it."""

    def make(folder: Path) -> None:
        tokenizer, vocabulary = _tokenizer(recipe.objective, base)
        write_shard(recipe.data, recipe.objective, tokenizer, group.files, folder, vocabulary)
        refuse_changed(recipe, group)

    return store.ensure(group.step, make, made_by)


_loaded = threading.local()
"""Tokenizer cache per thread: loading takes as long as encoding a small file, and threads cannot share a tokenizer."""


def _tokenizer(objective: Objective, base: Path) -> "tuple[PreTrainedTokenizerBase, int | None]":
    """Return the tokenizer of a base in the store and the number of the base's embeddings.

    Cached by objective and folder, because files in the store never change.
    """
    if getattr(_loaded, "key", None) != (objective, base):
        _loaded.vocabulary = getattr(load_config(base).get_text_config(), "vocab_size", None)
        _loaded.tokenizer = objective.tokenizer(base)
        refuse_endless(_loaded.tokenizer, base)
        _loaded.key = (objective, base)
    return _loaded.tokenizer, _loaded.vocabulary


def refuse_changed(recipe: Recipe, group: FileGroup) -> None:
    """Raise RecipeError if a file changed after its digest was computed: its rows would be cached under a wrong key."""
    for file, digest in zip(group.files, group.digests, strict=True):
        if _digest(recipe, file) != digest:
            raise RecipeError(f"data.source.{group.split}", str(file), *CHANGED)


def _digest(recipe: Recipe, file: Path) -> str | None:
    try:
        return fingerprints.source_digest(recipe, file)
    except OSError:
        return None


def fetch(recipe: Recipe, made_by: str = "a plain call") -> Artifact:
    """Copy the base model's files into the store once, so that models trained from it remain usable."""
    folder = locate(recipe.model)
    step = fingerprints.base_step(folder)

    def make(into: Path) -> None:
        copy_base(folder, into)
        if fingerprints.base_step(folder).inputs != step.inputs:
            raise RecipeError("model.base", recipe.model.base, *CHANGED)

    return open_store(recipe.execution.store).ensure(step, make, made_by)


def _make_store_absolute(recipe: Recipe) -> Recipe:
    """Return the recipe with an absolute store path, because a worker may have another working directory."""
    store = absolute_address(recipe.execution.store)
    return recipe.model_copy(update={"execution": recipe.execution.model_copy(update={"store": store})})


def _select_missing(store: Store, groups: Sequence[FileGroup]) -> list[FileGroup]:
    """Return the groups to encode: those without a manifest in the store, and one of several identical groups.

    The artifacts' contents are not verified here, because `prepare` reads them all.
    """
    # Reversed, so that the first of several identical groups is the one that remains in the dict.
    by_content = {group.step.fingerprint: group for group in reversed(groups)}
    return [group for group in groups if by_content[group.step.fingerprint] is group and not store.peek(group.step)]
