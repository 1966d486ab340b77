"""Source files -> shards: which of them are to be encoded, and how they are, one by one or side by side."""

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
from pipeline_lib.models.base_model import load_config, load_tokenizer, locate
from pipeline_lib.models.building import copy_base
from pipeline_lib.pipeline import fingerprints
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.artifacts import Artifact, Step
from pipeline_lib.store.differences import differences
from pipeline_lib.store.digests import file_digest
from pipeline_lib.store.remote import open_store
from pipeline_lib.store.store import Store
from pipeline_lib.util.process_pool import one_by_one, side_by_side
from pipeline_lib.util.progress_bar import bar

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger("tunesmith")
CHANGED = ("changed while it was read", "Run again when nothing writes to it")
NOTES = 5
"""Failed files that are told of after the first one."""


@dataclass(frozen=True)
class FileToEncode:
    """A source file, the split that it is given for, and the step that encodes it."""

    split: str
    file: Path
    step: Step


@dataclass(frozen=True)
class EncodedFiles:
    """All source files of a recipe, the base whose tokenizer encodes them, and how many were not in the store."""

    base: Artifact
    files: tuple[FileToEncode, ...]
    made: int

    @property
    def message(self) -> str:
        """What happened, in the words that Prefect shows."""
        return f"{len(self.files) - self.made} of {len(self.files)} files reused"


Outcomes = Iterator[tuple[FileToEncode, BaseException | None]]
Spread = Callable[[Recipe, Artifact, Sequence[FileToEncode], str], Outcomes]
"""Who encodes: takes recipe, base, the files and for whom; each file comes back, with its error if it failed."""


def encode_files(recipe: Recipe, base: Artifact, made_by: str, spread: Spread) -> EncodedFiles:
    """Encode what is not in the store; one file that fails stops no other, and its error is raised at the end."""
    tokenizer = fingerprints.tokenizer_digests(base.folder)
    files = tuple(
        FileToEncode(split, file, fingerprints.shard_step(recipe, tokenizer, file))
        for split in SPLITS
        for file in recipe.data.source.files(split)
    )
    waiting, failed = _missing(open_store(recipe.execution.store), files), {}
    if waiting:
        with bar("encode", len(files), len(files) - len(waiting)) as shown:
            for each, error in spread(_from_anywhere(recipe), base, waiting, made_by):
                if error:
                    failed[each.file] = error
                shown.advance(each.file.name)
    _raise_first([(file, failed[file]) for file in (each.file for each in waiting) if file in failed])
    return EncodedFiles(base, files, len(waiting))


def here(recipe: Recipe, base: Artifact, files: Sequence[FileToEncode], made_by: str) -> Outcomes:
    """Encode with plain calls: in this process, or in `execution.workers` others."""
    work, workers = partial(encode_file, recipe, base, made_by), min(recipe.execution.workers, len(files))
    alone = workers == 1
    for each, outcome in one_by_one(work, files) if alone else side_by_side(work, files, workers):
        if isinstance(outcome, BaseException):
            yield each, outcome
            continue
        if not alone:  # what a worker logs is not seen here
            log.info("%-11s %s, from %s", "shard", outcome.message, each.file.name)
        yield each, None


def encode_file(recipe: Recipe, base: Artifact, made_by: str, each: FileToEncode) -> Artifact:
    """The shard of one file, in whatever process; raises RecipeError if it would not be the one that is wanted."""
    folder = base.folder if base.folder.is_dir() else fetch(recipe, made_by).folder  # another machine has another cache
    found = fingerprints.shard_step(recipe, fingerprints.tokenizer_digests(folder), each.file)
    if found.fingerprint != each.step.fingerprint:
        first = next(map(str, differences(each.step.identity(), found)), "libraries have other versions")
        hint = "Run again, and give all workers the same files and libraries"
        raise RecipeError("data.source", str(each.file), f"is not what it was when the run began ({first})", hint)
    return shard(recipe, open_store(recipe.execution.store), folder, each, made_by)


def shard(recipe: Recipe, store: Store, base: Path, each: FileToEncode, made_by: str) -> Artifact:
    """The sound shard of one file."""

    def make(folder: Path) -> None:
        tokenizer, vocabulary = _tokenizer(base)
        write_shard(recipe.data, recipe.objective, tokenizer, each.file, folder, vocabulary)
        refuse_changed(recipe, each)

    return store.ensure(each.step, make, made_by)


_loaded = threading.local()
"""The tokenizer of each thread: loading one takes as long as encoding a small file, and threads cannot share it."""


def _tokenizer(base: Path) -> "tuple[PreTrainedTokenizerBase, int | None]":
    """The tokenizer of a base in the store, whose files do not change, and the number of the base's embeddings."""
    if getattr(_loaded, "base", None) != base:
        vocabulary = getattr(load_config(base).get_text_config(), "vocab_size", None)
        _loaded.tokenizer, _loaded.vocabulary, _loaded.base = load_tokenizer(base), vocabulary, base
    return _loaded.tokenizer, _loaded.vocabulary


def refuse_changed(recipe: Recipe, each: FileToEncode) -> None:
    """Raise RecipeError where a file is not what it was when its digest was taken: its rows would be kept under it."""
    for name, part in fingerprints.file_parts(recipe, each.file).items():
        if _digest(part) != each.step.inputs.get(name):
            raise RecipeError(f"data.source.{each.split}", str(part), *CHANGED)


def _digest(file: Path) -> str | None:
    try:
        return file_digest(file)
    except OSError:
        return None


def fetch(recipe: Recipe, made_by: str = "a plain call") -> Artifact:
    """The base model's own files, copied once, so that what was trained from them stays whole."""
    folder = locate(recipe.model)
    step = fingerprints.base_step(folder)

    def make(into: Path) -> None:
        copy_base(folder, into)
        if fingerprints.base_step(folder).inputs != step.inputs:
            raise RecipeError("model.base", recipe.model.base, *CHANGED)

    return open_store(recipe.execution.store).ensure(step, make, made_by)


def _from_anywhere(recipe: Recipe) -> Recipe:
    """The recipe with the whole path of its store: a worker may have another working directory."""
    where = recipe.execution.store
    where = where if "://" in where else str(Path(where).absolute())
    return recipe.model_copy(update={"execution": recipe.execution.model_copy(update={"store": where})})


def _missing(store: Store, files: Sequence[FileToEncode]) -> list[FileToEncode]:
    """What is to be encoded: files of the same bytes once, and none that has a manifest (`prepare` reads all)."""
    of_bytes = {each.step.fingerprint: each for each in reversed(files)}
    return [each for each in files if of_bytes[each.step.fingerprint] is each and not store.peek(each.step)]


def _raise_first(failed: Sequence[tuple[Path, BaseException]]) -> None:
    """Raise the first error as it is; the others are notes on it."""
    if not failed:
        return
    (file, first), *others = failed
    first.add_note(f"while encoding {file}; the files that could be encoded are kept")
    for other, error in others[:NOTES]:
        first.add_note(f"{other}: {error}")
    if len(others) > NOTES:
        first.add_note(f"and {len(others) - NOTES} files more")
    raise first
