"""Measure the drift of new rows against the data that the champion was trained on."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.data.prepared import read_labels, read_split
from pipeline_lib.data.splits import SPLITS
from pipeline_lib.errors import RecipeError
from pipeline_lib.retrain.embeddings import Embedder, NotCompared, sample_rows
from pipeline_lib.retrain.gate import DriftLimits
from pipeline_lib.retrain.profile import LABELS, PROFILE, WORDS, input_texts, profile_rows, words_of

if TYPE_CHECKING:
    import pyarrow

    from pipeline_lib.objectives import Objective


@dataclass(frozen=True)
class Drift:
    """Distances from 0 (same) to 1 (nothing in common) between the champion's data and the number of new `rows`."""

    rows: int
    distances: dict[str, float]
    notes: tuple[str, ...] = ()
    """What could not be measured, and why."""

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers that a decision reports."""
        return {"new_rows": self.rows, **{f"drift.{name}": value for name, value in self.distances.items()}}

    def beyond(self, limits: DriftLimits) -> list[str]:
        """Describe each distance beyond its limit; empty if there are too few new rows to block."""
        return self._past(limits) if self.rows >= limits.least_rows else []

    def warnings(self, limits: DriftLimits) -> list[str]:
        """Describe distances beyond the default limits that do not block: limits are raised or off, or rows are few."""
        return [] if self.beyond(limits) else self._past(DriftLimits())

    def _past(self, limits: DriftLimits) -> list[str]:
        limit_of = {name: getattr(limits, name) for name in self.distances}
        return [
            f"{name} drifted by {value:.3f} (limit {limit_of[name]:g})"
            for name, value in self.distances.items()
            if limit_of[name] is not None and value > limit_of[name]
        ]


def refuse_other_labels(prepared: Path, profile: Path) -> None:
    """Raise RecipeError if the labels differ from the champion's, because its users rely on them."""
    now = set(read_labels(prepared))
    before = set(json.loads((profile / LABELS).read_text("utf-8")))
    changes = {"new": now - before, "gone": before - now}
    described_changes = [f"{change}: {', '.join(sorted(names)[:10])}" for change, names in changes.items() if names]
    if described_changes:
        problem = f"has other labels than the champion ({'; '.join(described_changes)})"
        hint = "Fix the data, or set another model in the gate, because this is another task"
        raise RecipeError("data", None, problem, hint)


def measure_drift(objective: "Objective", prepared: Path, shards: Path, profile: Path, embedder: Embedder) -> Drift:
    """Compare the new rows with all rows of the champion's profile; raises RecipeError if labels differ.

    Rows whose key is in the profile are left out, because they would dilute the drift of the new ones.
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
        distances["embeddings"] = embedder.distance(profile, input_texts(objective, sample_rows(new)))
    except NotCompared as reason:
        return Drift(len(new), distances, (f"drift of embeddings is unknown: {reason}",))
    return Drift(len(new), distances)


def _distances(
    objective: "Objective", before: "pyarrow.Table", new: "pyarrow.Table", known_words: set[str]
) -> dict[str, float]:
    """All distances except that of embeddings."""
    inputs = input_texts(objective, new)
    now = profile_rows(objective, new, inputs)
    words = [word for text in inputs for word in words_of(text)]
    distances = {"length": _kolmogorov_smirnov(before["length"], now["length"])}
    distances["words"] = sum(word not in known_words for word in words) / max(len(words), 1)
    if now["number"].null_count == 0:
        distances["labels"] = _kolmogorov_smirnov(before["number"], now["number"])
    elif objective.label_role:
        distances["labels"] = _total_variation(before["labels"], now["labels"])
    return distances


def _total_variation(before: "pyarrow.ChunkedArray", now: "pyarrow.ChunkedArray") -> float:
    """Half the sum of absolute differences of label shares: Levin & Peres (2017), "Markov Chains", proposition 4.2."""
    shares_before, shares_now = _label_shares(before), _label_shares(now)
    labels = shares_before.keys() | shares_now.keys()
    return sum(abs(shares_before.get(label, 0) - shares_now.get(label, 0)) for label in labels) / 2


def _label_shares(column: "pyarrow.ChunkedArray") -> dict[str, float]:
    """The share of each label among all labels of a column of lists."""
    counts: Counter[str] = Counter()
    for labels in column.to_pylist():
        counts.update(labels)
    return {label: count / counts.total() for label, count in counts.items()}


def _kolmogorov_smirnov(before: "pyarrow.ChunkedArray", now: "pyarrow.ChunkedArray") -> float:
    """The largest difference of the two cumulative distributions: Massey (1951), "The Kolmogorov-Smirnov Test"."""
    from scipy.stats import ks_2samp

    # method: that of the p-value, which is not used, as the limits are on the distance; the exact one takes long
    return float(ks_2samp(before.to_numpy(), now.to_numpy(), method="asymp").statistic)


def find_unseen_rows(rows: "pyarrow.Table", profile: Path) -> np.ndarray:
    """[rows] bool: whether the champion was neither trained nor validated on a row, so that it can be tested on it.

    When data grows, the test split can include rows that an earlier model was trained on.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    seen = pq.read_table(profile / PROFILE, filters=pc.field("split") != "test")["key"]
    return ~np.isin(rows["key"].to_numpy(), seen.to_numpy())
