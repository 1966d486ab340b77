"""Why a step has to be made: what differs from the nearest artifact that there is."""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pipeline_lib.store import Step

SHOWN = 4
"""Differences that are told one by one."""


class Difference(NamedTuple):
    """A fact that differs: what the artifact has, and what the step has now."""

    what: str
    before: Any
    now: Any

    def __str__(self) -> str:
        if self.what.startswith("inputs."):
            return f"{self.what.removeprefix('inputs.')} {_change(self.before, self.now)}"
        if self.what.startswith("code."):
            return f"the code of {self.what.removeprefix('code.')} {_change(self.before, self.now)}"
        return f"{self.what.removeprefix('recipe.')} {_shown(self.before)} → {_shown(self.now)}"


MISSING = object()


def why(step: "Step", manifests: Iterable[Mapping[str, Any]]) -> str:
    """The differences to the nearest of the step's artifacts, in words: the same in a plan, the log and Prefect."""
    nearest = min(manifests, key=lambda told: len(differences(told["identity"], step)), default=None)
    if nearest is None:
        return _waits(step) if None in step.inputs.values() else "there is none yet"
    found = differences(nearest["identity"], step)
    words = [_waits(step)] if None in step.inputs.values() else []
    words += [str(difference) for difference in found[:SHOWN]]
    if len(found) > SHOWN:
        words.append(f"{len(found) - SHOWN} more differences")
    return f"{'; '.join(words)}; all else equal to {nearest['fingerprint'][:8]} of {when(nearest['made']['at'])}"


def differences(identity: Mapping[str, Any], step: "Step") -> list[Difference]:
    """What a step has otherwise than an artifact's identity, by dotted path."""
    before, now = (dict(_leaves(each)) for each in (identity, json.loads(json.dumps(step.identity()))))
    paths = [path for path in {**now, **before} if before.get(path, MISSING) != now.get(path, MISSING)]
    found = [Difference(path, before.get(path, MISSING), now.get(path, MISSING)) for path in paths]
    kinds = {each.what for each in found if each.what.endswith(".kind")}
    return [each for each in found if _matters(each, kinds, step)]


def _matters(found: Difference, kinds: set[str], step: "Step") -> bool:
    """Of a part of another kind the kind says it all, and what waits for its inputs does not know them yet."""
    if None in step.inputs.values() and found.what.startswith(("inputs.", "recipe.labels")):
        return False
    if found.what.startswith("code."):  # another kind brings its own module
        return not kinds or MISSING not in (found.before, found.now)
    *parents, last = found.what.split(".")
    return last == "kind" or not kinds & {".".join([*parents[:depth], "kind"]) for depth in range(1, len(parents) + 1)}


def _waits(step: "Step") -> str:
    return f"waits for {', '.join(name for name, digest in step.inputs.items() if digest is None)}"


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, (dict, list)):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(part, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _change(before: Any, now: Any) -> str:
    """What happened to an input: digests say nothing to people."""
    return "is new" if before is MISSING else "is gone" if now is MISSING else "changed"


def _shown(value: Any) -> str:
    if value is MISSING:
        return "nothing"
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def when(at: str) -> str:
    """A time as people say it, in their own zone: today 14:02, yesterday 14:02, 2026-03-01 14:02."""
    moment, today = datetime.fromisoformat(at).astimezone(), datetime.now(UTC).astimezone().date()
    days = {today: "today", today - timedelta(days=1): "yesterday"}
    return f"{days.get(moment.date(), moment.date().isoformat())} {moment:%H:%M}"
