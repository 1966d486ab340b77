"""Why a step has to be created: what differs from the nearest artifact that there is."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline_lib.util.times import humanize_time

if TYPE_CHECKING:
    from pipeline_lib.store.artifacts import Step

SHOWN = 4
"""Differences that are told one by one."""


class Difference(NamedTuple):
    """A fact that differs: what the artifact has, and what the step has now."""

    what: str
    before: Any
    now: Any

    def __str__(self) -> str:
        part, _, name = self.what.partition(".")
        if part == "inputs":
            return _input(name, _change(self.before, self.now))
        if part == "code":
            return f"the code of {name} {_change(self.before, self.now)}"
        if part == "libraries" and MISSING not in (self.before, self.now):
            return f"{name} {self.before} → {self.now}"
        return f"{self.what.removeprefix('recipe.')} {_shown(self.before)} → {_shown(self.now)}"


MISSING = object()


def explain_difference(step: "Step", manifests: Iterable[Mapping[str, Any]]) -> str:
    """The differences to the nearest of the step's artifacts, in words: the same in a plan, the log and Prefect."""
    waits = _waits(step)
    nearest, found = _nearest(step, manifests)
    if nearest is None:
        return waits or "not in the store yet"
    words = [waits] if waits else []
    words += [str(difference) for difference in found[:SHOWN]]
    if len(found) > SHOWN:
        words.append(f"{len(found) - SHOWN} more differences")
    return (
        f"{'; '.join(words)}; all else equal to {nearest['fingerprint'][:8]} of {humanize_time(nearest['made']['at'])}"
    )


def _nearest(step: "Step", manifests: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any] | None, list[Difference]]:
    """The first manifest with the fewest differences, and these.

    No two artifacts are alike, so one difference is the least there can be (none for a step that waits for its inputs),
    and no further manifest is read.
    """
    nearest, fewest, now, least = None, list[Difference](), _facts_of(step), 0 if _waits(step) else 1
    for manifest in manifests:
        found = _differences(_facts(manifest["identity"]), now, step)
        if nearest is None or len(found) < len(fewest):
            nearest, fewest = manifest, found
        if len(fewest) <= least:
            break
    return nearest, fewest


def differences(identity: Mapping[str, Any], step: "Step") -> list[Difference]:
    """What a step has otherwise than an artifact's identity, by dotted path."""
    return _differences(_facts(identity), _facts_of(step), step)


def _facts_of(step: "Step") -> dict[str, Any]:
    """As a manifest would tell them."""
    return _facts(json.loads(json.dumps(step.identity())))


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], step: "Step") -> list[Difference]:
    paths = [path for path in {**now, **before} if before.get(path, MISSING) != now.get(path, MISSING)]
    found = [Difference(path, before.get(path, MISSING), now.get(path, MISSING)) for path in paths]
    kinds = {each.what for each in found if each.what.endswith(".kind")}
    return [each for each in found if _matters(each, kinds, step)]


def _matters(found: Difference, kinds: set[str], step: "Step") -> bool:
    """Of a part of another kind the kind says it all, and what waits for its inputs does not know them yet."""
    if _waits(step) and found.what.startswith(("inputs.", "recipe.labels")):
        return False
    if found.what.startswith("code."):  # another kind brings its own module
        return not kinds or MISSING not in (found.before, found.now)
    *parents, last = found.what.split(".")
    return last == "kind" or not kinds & {".".join([*parents[:depth], "kind"]) for depth in range(1, len(parents) + 1)}


def _waits(step: "Step") -> str:
    """What has to be created first; of many files that are alike the first one stands for all. Empty: nothing."""
    names = [name.partition(" (")[0] for name, digest in step.inputs.items() if digest is None]
    names += ["labels"] if step.recipe.get("labels", ()) is None else []
    return f"waits for {', '.join(dict.fromkeys(names))}" if names else ""


def flatten(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """training.epochs, strategies.0.kind ... with their values; empty lists and None are values too."""
    if isinstance(value, (dict, list)) and value:
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flatten(part, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _facts(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity by dotted path; what an empty list lacks the other side's items tell."""
    return {path: value for path, value in flatten(identity) if value not in ([], {})}


def _input(name: str, change: str) -> str:
    """Files of data have no name of their own: by it nothing is decided."""
    if re.fullmatch(r"file \d+", name) and change == "changed":
        return "the file holds other bytes"
    plain = re.sub("^(train|validation|test) [0-9a-f]{12}.*", r"a \1 file", name)
    return f"{plain} {change}"


def _change(before: Any, now: Any) -> str:
    """What happened to an input: digests say nothing to people."""
    return "is new" if before is MISSING else "is gone" if now is MISSING else "changed"


def _shown(value: Any) -> str:
    if value is MISSING:
        return "nothing"
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
