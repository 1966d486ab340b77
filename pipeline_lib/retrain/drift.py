"""How far today's new rows are from the data that the champion was trained on."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.data.prepared import read_labels, read_split
from pipeline_lib.data.splits import SPLITS
from pipeline_lib.errors import RecipeError
from pipeline_lib.retrain.embeddings import Embedder, NotCompared, some
from pipeline_lib.retrain.gate import DriftLimits
from pipeline_lib.retrain.profile import LABELS, PROFILE, WORDS, described, texts, words_of

if TYPE_CHECKING:
    import pyarrow

    from pipeline_lib.objectives import Objective


@dataclass(frozen=True)
class Drift:
    """Distances from 0 (the same) to 1 (nothing shared) over the `rows` that the champion's data does not hold."""

    rows: int
    distances: dict[str, float]
    notes: tuple[str, ...] = ()
    """What could not be measured, and why."""

    @property
    def numbers(self) -> dict[str, float]:
        """For a decision to rest on."""
        return {"new_rows": self.rows, **{f"drift.{name}": value for name, value in self.distances.items()}}

    def beyond(self, limits: DriftLimits) -> list[str]:
        """What is past its limit, in words; nothing where too few rows are new."""
        return self._past(limits) if self.rows >= limits.least_rows else []

    def warnings(self, limits: DriftLimits) -> list[str]:
        """What is past the default limits but blocks nothing, in words: its limit is off or higher, or rows are few."""
        return [] if self.beyond(limits) else self._past(DriftLimits())

    def _past(self, limits: DriftLimits) -> list[str]:
        bound = {name: getattr(limits, name) for name in self.distances}
        return [
            f"{name} drifted by {value:.3f} (limit {bound[name]:g})"
            for name, value in self.distances.items()
            if bound[name] is not None and value > bound[name]
        ]


def refuse_other_labels(prepared: Path, profile: Path) -> None:
    """Raise RecipeError where the labels are no longer those that the champion knows: its users rely on them."""
    now, before = (set(each) for each in (read_labels(prepared), json.loads((profile / LABELS).read_text("utf-8"))))
    parts = {"new": now - before, "gone": before - now}
    told = [f"{what}: {', '.join(sorted(names)[:10])}" for what, names in parts.items() if names]
    if told:
        hint = "Fix the data, or name another model in the gate, for this is another task"
        raise RecipeError("data", None, f"has other labels than the champion knows ({'; '.join(told)})", hint)


def measure_drift(objective: "Objective", prepared: Path, shards: Path, profile: Path, embedder: Embedder) -> Drift:
    """Compare today's new rows, by key, with all rows of the champion's profile; raises RecipeError for other labels.

    Old rows that are still there would only hide what the new ones are like.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    refuse_other_labels(prepared, profile)
    before = pq.read_table(profile / PROFILE)
    today = pa.concat_tables(read_split(prepared, shards, split) for split in SPLITS)
    new = today.filter(pc.invert(pc.is_in(today["key"], before["key"].combine_chunks())))
    if not len(new):
        return Drift(0, {})
    distances = _distances(objective, before, new, set(pq.read_table(profile / WORDS)["word"].to_pylist()))
    try:
        distances["embeddings"] = embedder.distance(profile, texts(objective, some(new)))
    except NotCompared as why:
        return Drift(len(new), distances, (f"drift by embeddings is not known: {why}",))
    return Drift(len(new), distances)


def _distances(
    objective: "Objective", before: "pyarrow.Table", new: "pyarrow.Table", known: set[str]
) -> dict[str, float]:
    now = described(objective, new)
    words = [word for text in texts(objective, new) for word in words_of(text)]
    distances = {"length": _kolmogorov_smirnov(before["length"], now["length"])}
    distances["words"] = sum(word not in known for word in words) / max(len(words), 1)
    if now["number"].null_count == 0:
        distances["labels"] = _kolmogorov_smirnov(before["number"], now["number"])
    elif objective.label_role:
        distances["labels"] = _total_variation(before["labels"], now["labels"])
    return distances


def _total_variation(before: "pyarrow.ChunkedArray", now: "pyarrow.ChunkedArray") -> float:
    """Half the sum of the differences of all shares: Levin & Peres (2017), "Markov Chains", proposition 4.2."""
    counts = [Counter(label for row in column.to_pylist() for label in row) for column in (before, now)]
    one, other = ({label: count / each.total() for label, count in each.items()} for each in counts)
    return sum(abs(one.get(label, 0) - other.get(label, 0)) for label in one.keys() | other.keys()) / 2


def _kolmogorov_smirnov(before: "pyarrow.ChunkedArray", now: "pyarrow.ChunkedArray") -> float:
    """The largest difference of the two cumulative distributions: Massey (1951), "The Kolmogorov-Smirnov Test"."""
    one, other = (np.sort(column.to_numpy()) for column in (before, now))
    every = np.concatenate([one, other])
    shares = (np.searchsorted(each, every, side="right") / len(each) for each in (one, other))
    return float(np.abs(np.subtract(*shares)).max())


def not_seen(rows: "pyarrow.Table", profile: Path) -> np.ndarray:
    """[rows] bool: whether the champion was neither trained nor validated on a row, so that it is a test for it too.

    As data grows, a share that is drawn for test can move over rows that were once trained on.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    seen = pq.read_table(profile / PROFILE, filters=pc.field("split") != "test")["key"]
    return ~np.isin(rows["key"].to_numpy(), seen.to_numpy())
