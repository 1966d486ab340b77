"""Check the training data of a model: changes of its source files, and the consistency of the records about it.

The two are reported separately. Changed source files are normal: they are why models are retrained. Records that
disagree (MLflow's inputs, the manifests of model, data and shards) mean that a record was modified.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline_lib.audit.consistency import Disagreement
from pipeline_lib.audit.provenance import manifests_in_order
from pipeline_lib.data.splits import SPLITS
from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe.schema import Recipe, check
from pipeline_lib.store.digests import content_digest, value_digest
from pipeline_lib.tracking.data_files import DIGITS, DataFile, changes, split_files
from pipeline_lib.tracking.records import TrainingRecords
from pipeline_lib.tracking.run_metadata import MANIFESTS
from pipeline_lib.tracking.runs import FINGERPRINT

READS = {
    "initialise": ("base",),
    "reference": ("base", "prepare"),
    "finetune": ("base", "prepare", "initialise", "reference"),
}
"""Which artifacts a step read, by the names of its inputs."""


class SourceChange(NamedTuple):
    """A change of a source file since the training."""

    split: str
    path: str
    what: str


def source_changes(held: TrainingRecords) -> list[SourceChange]:
    """Return the source files that have grown, changed, are gone or are new."""
    if not held.recipe or not held.data:
        return []
    try:
        recipe = check(held.recipe)
    except RecipeError as error:
        return [SourceChange("", "", f"the source cannot be read: {error}")]
    return [change for split in SPLITS for change in _changes_of_split(recipe, split, held.data)]


def _changes_of_split(recipe: Recipe, split: str, files: Sequence[DataFile]) -> Iterator[SourceChange]:
    then = [file for file in files if file.split == split]
    try:
        now = list(split_files(recipe, split))
    except (RecipeError, OSError) as error:
        if any(Path(file.path).exists() for file in then):
            yield SourceChange(split, "", f"the files cannot be listed: {error}")
            return
        now = []  # the path leads nowhere any more
    for file, what in changes(then, now):
        yield SourceChange(split, file.path, f"{what} since the training")


def record_findings(held: TrainingRecords) -> Iterator[Disagreement]:
    """Yield contradictions between MLflow's records of a finished training and the manifests logged with it."""
    manifests = held.manifests
    if "finetune" not in manifests:
        if held.training.status == "FINISHED":  # manifests are logged before the run is finished
            what = (
                f"MLflow has no {MANIFESTS} of it: the file was removed, or its artifacts cannot be reached from here"
            )
            yield Disagreement(held.training.name, what)
        return
    for manifest in manifests_in_order(manifests):
        if value_digest(manifest["identity"]) != manifest["fingerprint"]:
            yield Disagreement(_name(manifest), "its manifest in MLflow was changed: it does not match its fingerprint")
    if held.training.tags.get(FINGERPRINT) != manifests["finetune"]["fingerprint"]:
        yield Disagreement(held.training.name, f"the tag {FINGERPRINT} is not the fingerprint of the model's manifest")
    yield from _broken_links(manifests)
    yield from _other_data(held.data, manifests)


def _broken_links(manifests: Mapping[str, Any]) -> Iterator[Disagreement]:
    """Yield steps whose manifest lists other inputs than the artifacts logged with it."""
    for step, names in READS.items():
        for name in names:
            if step not in manifests or name not in manifests:
                continue
            read = manifests[step]["identity"]["inputs"].get(name)
            if read != content_digest(manifests[name]["files"]):
                yield Disagreement(_name(manifests[step]), f"was not made from the {name} whose manifest is in MLflow")


def _other_data(files: Sequence[DataFile], manifests: Mapping[str, Any]) -> Iterator[Disagreement]:
    """Yield data files in MLflow from which no shard was made, and shards made from files that MLflow does not list."""
    if not files or "prepare" not in manifests:
        return
    named = {file.digest for file in files}
    sources: dict[str, list[set[str]]] = defaultdict(list)
    """The source files' digests by a shard's content: files that differ in blanks can make the same shard."""
    for shard in manifests.get("shards", ()):
        sources[content_digest(shard["files"])].append(_source_digests(shard))
    read = set(manifests["prepare"]["identity"]["inputs"].values())
    known = {digest for content in read for digests in sources.get(content, ()) for digest in digests}
    complete = read <= sources.keys()
    for file in files:
        if file.digest not in known:
            what = f"MLflow lists the {file.split} file {file.path} (SHA-256 {file.digest}…)"
            if complete:
                yield Disagreement("data", f"{what}, but the model's manifests do not")
            else:
                yield Disagreement("data", f"{what}; the manifests of its shards are not in MLflow", sure=False)
    for content in sorted(read & sources.keys()):
        unnamed = min((digests - named for digests in sources[content]), key=len)
        for digest in sorted(unnamed):
            yield Disagreement(
                "data", f"the model was trained on a file with SHA-256 {digest}…, which MLflow does not list"
            )


def _source_digests(shard: Mapping[str, Any]) -> set[str]:
    """Return the digests of the files that a shard was made from, as MLflow has them."""
    return {digest[:DIGITS] for name, digest in shard["identity"]["inputs"].items() if name.startswith("file ")}


def _name(manifest: Mapping[str, Any]) -> str:
    return f"{manifest['identity']['step']} {manifest['fingerprint'][:8]}"
