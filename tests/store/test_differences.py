"""Why a step has to be created: the most similar artifact among many. `pytest tests/store/test_differences.py`."""

import pytest

from pipeline_lib.store import differences
from pipeline_lib.store.artifacts import Step
from pipeline_lib.store.differences import Candidate, explain_difference

MADE = {"at": "2026-01-01T00:00:00+00:00"}


def shard(file: str, length: int = 64) -> Step:
    return Step("shard", 1, {"length": length}, {"file 0": file, "config.json": "same"})


def stored(step: Step) -> Candidate:
    return Candidate.from_manifest({"identity": step.identity(), "fingerprint": step.fingerprint, "made": MADE})


def test_the_shard_of_the_same_file_is_nearest_among_many_of_other_files():
    same = shard("b")
    others = [stored(shard(f"other {number}")) for number in range(50)]
    found = explain_difference(shard("b", 128), [*others, stored(same), *others])
    assert found.startswith(f"length 64 → 128; all else equal to {same.fingerprint[:8]} of ")


def test_many_shards_with_the_same_settings_are_compared_once(monkeypatch: pytest.MonkeyPatch):
    compared = []
    whole = differences._differences
    monkeypatch.setattr(differences, "_differences", lambda *given: compared.append(given) or whole(*given))
    candidates = [stored(shard(f"other {number}", length)) for number in range(50) for length in (16, 32)]
    first = candidates[0].name
    found = explain_difference(shard("new", 128), candidates)
    assert found == f"length 16 → 128; the content of the file changed; all else equal to {first}"
    assert len(compared) == 2
