"""Explain why a step has to be created: how it differs from the most similar artifact in the store."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline_lib.store.digests import value_digest
from pipeline_lib.util.times import humanize_time

if TYPE_CHECKING:
    from pipeline_lib.store.artifacts import Step

SHOWN = 4
"""Maximum number of differences to list."""


class Difference(NamedTuple):
    """One difference: the value in the artifact, and the value of the step now."""

    what: str
    before: Any
    now: Any

    def __str__(self) -> str:
        part, _, name = self.what.partition(".")
        if part == "inputs":
            return _files(name, self.before, self.now) if name in FILES else f"{name} {_change(self.before, self.now)}"
        if part == "code":
            return f"the code of {name} {_change(self.before, self.now)}"
        if part == "libraries" and MISSING not in (self.before, self.now):
            return f"{name} {self.before} → {self.now}"
        return f"{self.what.removeprefix('recipe.')} {_format_value(self.before)} → {_format_value(self.now)}"


MISSING = object()
FILES = ("file", "train", "validation", "test")
"""First words of the inputs that are files of the data; those with the same one are compared together."""


class Candidate(NamedTuple):
    """An artifact that a new step is compared with; made once from its manifest, however many steps there are."""

    name: str
    """The beginning of its fingerprint, and when it was made."""
    facts: Mapping[str, Any]
    """Its identity by dotted path."""
    inputs: Mapping[str, Any]
    settings: str
    """A digest of its identity without the inputs."""

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> "Candidate":
        """Read a manifest."""
        identity = manifest["identity"]
        name = f"{manifest['fingerprint'][:8]} of {humanize_time(manifest['made']['at'])}"
        return cls(name, _facts(identity), _join_files(identity["inputs"]), value_digest({**identity, "inputs": {}}))


def explain_difference(step: "Step", candidates: Iterable[Candidate]) -> str:
    """Describe the differences to the most similar artifact of the step, for a plan, the log and Prefect."""
    waits = _waits(step)
    nearest, found = _nearest(step, candidates)
    if nearest is None:
        return waits or "not in the store yet"
    phrases = [waits] if waits else []
    phrases += [str(difference) for difference in found[:SHOWN]]
    if len(found) > SHOWN:
        phrases.append(f"{len(found) - SHOWN} more differences")
    return f"{'; '.join(phrases)}; all else equal to {nearest.name}"


def _nearest(step: "Step", candidates: Iterable[Candidate]) -> tuple[Candidate | None, list[Difference]]:
    """Return the first artifact with the fewest differences, and the differences.

    The search ends at one difference (at none for a step that waits for its inputs): fewer are impossible, as the step
    is not in the store.
    """
    nearest, fewest, now, least = None, list[Difference](), _facts_of(step), 0 if _waits(step) else 1
    own_inputs = _join_files(step.inputs)
    fewest_inputs: dict[str, int] = {}
    for candidate in candidates:
        # of many shards with the same settings, only one that shares more inputs with the step can be nearer
        inputs = len({name for name, _ in candidate.inputs.items() ^ own_inputs.items()})
        if inputs >= fewest_inputs.get(candidate.settings, inputs + 1):
            continue
        fewest_inputs[candidate.settings] = inputs
        found = _differences(candidate.facts, now, step)
        if nearest is None or len(found) < len(fewest):
            nearest, fewest = candidate, found
        if len(fewest) <= least:
            break
    return nearest, fewest


def find_differences(identity: Mapping[str, Any], step: "Step") -> list[Difference]:
    """Return the differences between an artifact's identity and a step, by dotted path."""
    return _differences(_facts(identity), _facts_of(step), step)


def _facts_of(step: "Step") -> dict[str, Any]:
    """Return the step's facts as they would appear in a manifest."""
    return _facts(json.loads(json.dumps(step.identity())))


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], step: "Step") -> list[Difference]:
    paths = [path for path in {**now, **before} if before.get(path, MISSING) != now.get(path, MISSING)]
    all_differences = [Difference(path, before.get(path, MISSING), now.get(path, MISSING)) for path in paths]
    kinds = {difference.what for difference in all_differences if difference.what.endswith(".kind")}
    return [difference for difference in all_differences if _matters(difference, kinds, step)]


def _matters(difference: Difference, kinds: set[str], step: "Step") -> bool:
    """Return whether to report a difference: not the fields of a section whose kind differs, nor unknown inputs."""
    if _waits(step) and difference.what.startswith(("inputs.", "recipe.labels")):
        return False
    if difference.what.startswith("code."):  # another kind has its own module, which need not be mentioned
        return not kinds or MISSING not in (difference.before, difference.now)
    *parents, last = difference.what.split(".")
    kinds_above = {".".join([*parents[:depth], "kind"]) for depth in range(1, len(parents) + 1)}
    return last == "kind" or not kinds & kinds_above


def _waits(step: "Step") -> str:
    """Describe which inputs do not exist yet, naming similar files once; empty if all exist."""
    names = [name.partition(" (")[0] for name, digest in step.inputs.items() if digest is None]
    names += ["labels"] if step.recipe.get("labels", ()) is None else []
    return f"waits for {', '.join(dict.fromkeys(names))}" if names else ""


def flatten(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted paths such as strategies.0.kind with their values; empty lists and None count as values."""
    if isinstance(value, (dict, list)) and value:
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flatten(part, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _facts(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten an identity by dotted path, without empty lists: the items of the other side show the difference."""
    whole = {**identity, "inputs": _join_files(identity["inputs"])}
    return {path: value for path, value in flatten(whole) if value not in ([], {})}


def _join_files(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs with the digests of all files of the data in one tuple for each split."""
    joined: dict[str, Any] = {}
    for name, digest in inputs.items():
        word, *more = name.split()
        if more and word in FILES:
            joined[word] = (*joined.get(word, ()), digest)
        else:
            joined[name] = digest
    return joined


def _files(kind: str, before: Any, now: Any) -> str:
    """Describe what happened to files of the data, which are not named, as their names do not count."""
    if kind == "file":  # a shard's own files: there is one, or a group of small ones
        is_single = now is not MISSING and len(now) == 1
        return "the content of the file changed" if is_single else "some of the files are new or changed"
    # the difference of two counters keeps positive counts only
    counts_before = Counter(() if before is MISSING else before)
    counts_now = Counter(() if now is MISSING else now)
    new = (counts_now - counts_before).total()
    gone = (counts_before - counts_now).total()
    if new and gone:
        return f"the {kind} files changed"
    count = new + gone
    state = "new" if new else "gone"
    return f"a {kind} file is {state}" if count == 1 else f"{count} {kind} files are {state}"


def _change(before: Any, now: Any) -> str:
    """Describe what happened to an input, without digests."""
    if before is MISSING:
        return "is new"
    return "is gone" if now is MISSING else "changed"


def _format_value(value: Any) -> str:
    if value is MISSING:
        return "nothing"
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
