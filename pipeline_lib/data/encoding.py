"""Encode source files to shards, skipping those already in the store, in this process or in several."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.data.shards import write_shard
from pipeline_lib.data.splits import SPLITS
from pipeline_lib.errors import RecipeError
from pipeline_lib.models.base_model import load_config, locate
from pipeline_lib.models.building import copy_base
from pipeline_lib.objectives import Objective
from pipeline_lib.pipeline import fingerprints
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.artifacts import Artifact, Step
from pipeline_lib.store.differences import differences
from pipeline_lib.store.digests import file_digest
from pipeline_lib.store.remote import absolute_address, open_store
from pipeline_lib.store.store import Store
from pipeline_lib.util.process_pool import one_by_one, side_by_side
from pipeline_lib.util.progress_bar import bar

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger("tunesmith")
CHANGED = ("changed while it was being read", "Run again when nothing writes to it")
NOTES = 5
"""Number of further failed files listed in notes on the first error."""


@dataclass(frozen=True)
class FileToEncode:
    """A source file, its split, and the step that encodes it."""

    split: str
    file: Path
    step: Step


@dataclass(frozen=True)
class EncodedFiles:
    """All source files of a recipe, the base whose tokenizer encodes them, and the number of files newly encoded."""

    base: Artifact
    files: tuple[FileToEncode, ...]
    made: int

    @property
    def message(self) -> str:
        """Summary shown as the state message in Prefect."""
        return f"{len(self.files) - self.made} of {len(self.files)} files reused"


Outcomes = Iterator[tuple[FileToEncode, BaseException | None]]
Spread = Callable[[Recipe, Artifact, Sequence[FileToEncode], str], Outcomes]
"""Encodes files: takes the recipe, the base, the files and `made_by`; yields each file with its error or None."""


def encode_files(recipe: Recipe, base: Artifact, made_by: str, spread: Spread) -> EncodedFiles:
    """Encode the files that are not in the store yet.

    A file that fails does not stop the others; the first error is raised at the end.
    """
    tokenizer = fingerprints.tokenizer_digests(base.folder)
    files = tuple(
        FileToEncode(split, file, fingerprints.shard_step(recipe, tokenizer, file))
        for split in SPLITS
        for file in recipe.data.source.files(split)
    )
    waiting, failed = _select_missing(open_store(recipe.execution.store), files), {}
    if waiting:
        with bar("encode", "files", len(files), len(files) - len(waiting)) as shown:
            for item, error in spread(_make_store_absolute(recipe), base, waiting, made_by):
                if error:
                    failed[item.file] = error
                shown.advance(item.file.name)
    # in the order of the recipe, not in the order in which they failed
    _raise_first([(item.file, failed[item.file]) for item in waiting if item.file in failed])
    return EncodedFiles(base, files, len(waiting))


def here(recipe: Recipe, base: Artifact, files: Sequence[FileToEncode], made_by: str) -> Outcomes:
    """Encode without an orchestrator: in this process, or in `execution.workers` worker processes."""
    work = partial(encode_file, recipe, base, made_by)
    workers = min(recipe.execution.workers, len(files))
    in_process = workers == 1
    for item, outcome in one_by_one(work, files) if in_process else side_by_side(work, files, workers):
        if isinstance(outcome, BaseException):
            yield item, outcome
            continue
        if not in_process:  # log records of a worker process do not reach this one
            log.info("%-11s %s, from %s", "shard", outcome.message, item.file.name)
        yield item, None


def encode_file(recipe: Recipe, base: Artifact, made_by: str, item: FileToEncode) -> Artifact:
    """Return the shard of one file, in any process or on any machine.

    Raises:
        RecipeError: The file or the libraries here differ from those the run was planned with.
    """
    # A worker on another machine has its own cache and may have to fetch the base first.
    folder = base.folder if base.folder.is_dir() else fetch(recipe, made_by).folder
    local_step = fingerprints.shard_step(recipe, fingerprints.tokenizer_digests(folder), item.file)
    if local_step.fingerprint != item.step.fingerprint:
        first = next(map(str, differences(item.step.identity(), local_step)), "library versions differ")
        hint = "Run again, and give all workers the same files and libraries"
        raise RecipeError("data.source", str(item.file), f"differs from the start of the run ({first})", hint)
    return shard(recipe, open_store(recipe.execution.store), folder, item, made_by)


def shard(recipe: Recipe, store: Store, base: Path, item: FileToEncode, made_by: str) -> Artifact:
    """Return the intact shard of one file, encoding the file if the store does not have it."""

    def make(folder: Path) -> None:
        tokenizer, vocabulary = _tokenizer(recipe.objective, base)
        write_shard(recipe.data, recipe.objective, tokenizer, item.file, folder, vocabulary)
        refuse_changed(recipe, item)

    return store.ensure(item.step, make, made_by)


_loaded = threading.local()
"""Tokenizer cache per thread: loading takes as long as encoding a small file, and threads cannot share a tokenizer."""


def _tokenizer(objective: Objective, base: Path) -> "tuple[PreTrainedTokenizerBase, int | None]":
    """Return the tokenizer of a base in the store and the number of the base's embeddings.

    Cached by objective and folder, because files in the store never change.
    """
    if getattr(_loaded, "key", None) != (objective, base):
        _loaded.vocabulary = getattr(load_config(base).get_text_config(), "vocab_size", None)
        _loaded.tokenizer = objective.tokenizer(base)
        _loaded.key = (objective, base)
    return _loaded.tokenizer, _loaded.vocabulary


def refuse_changed(recipe: Recipe, item: FileToEncode) -> None:
    """Raise RecipeError if a file changed after its digest was computed: its rows would be cached under a wrong key."""
    for name, part in fingerprints.file_parts(recipe, item.file).items():
        if _digest(part) != item.step.inputs.get(name):
            raise RecipeError(f"data.source.{item.split}", str(part), *CHANGED)


def _digest(file: Path) -> str | None:
    try:
        return file_digest(file)
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


def _select_missing(store: Store, files: Sequence[FileToEncode]) -> list[FileToEncode]:
    """Return the files to encode: those without a manifest in the store, and one of several identical files.

    The artifacts' contents are not verified here, because `prepare` reads them all.
    """
    # Reversed, so that the first of several identical files is the one that remains in the dict.
    by_content = {item.step.fingerprint: item for item in reversed(files)}
    return [item for item in files if by_content[item.step.fingerprint] is item and not store.peek(item.step)]


def _raise_first(failed: Sequence[tuple[Path, BaseException]]) -> None:
    """Raise the first error, with the other ones as notes."""
    if not failed:
        return
    (file, first), *others = failed
    first.add_note(f"while encoding {file}; the shards of the other files are kept")
    for other, error in others[:NOTES]:
        first.add_note(f"{other}: {error}")
    if len(others) > NOTES:
        first.add_note(f"and {len(others) - NOTES} more files")
    raise first
