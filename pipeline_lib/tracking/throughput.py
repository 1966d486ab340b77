"""Measure the throughput and resource usage of a training in time windows.

Each window is written next to the checkpoints when it closes, so that a resumed training keeps earlier windows. At the
end they are stored in the manifest, from which they can be sent to MLflow at any time.
"""

import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.store.sealed import seal, unseal
from pipeline_lib.tracking.record_queue import cut_torn_line

if TYPE_CHECKING:
    from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor

TICK = 1.0
"""Seconds between two measurements of the machine."""
EVERY, SHARE = 10.0, 0.01
"""A window lasts this many seconds or this share of the time so far, whichever is longer."""
COUNTED = ("rows", "tokens")
FEATURES_SECONDS = "features_seconds"
"""Key of the seconds that it took to compute the cached outputs of the frozen layers."""
IMPORTING = threading.Lock()
"""Held while MLflow is imported: a second importing thread would see a partly initialized module."""


class ThroughputMeter:
    """Measures one training and writes the windows to `file`. The clock starts with the first call."""

    def __init__(self, file: Path):
        self.file = file
        cut_torn_line(file)
        self.windows = list(read_windows(file))
        self.counts, self.step, self.began = Counter[str](), 0, 0.0
        self.lock, self.ending = threading.Lock(), threading.Event()
        self.thread = threading.Thread(target=self._work, name="meter", daemon=True)

    def count(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Take new records of the history; the first ones are those of before this process."""
        if not self.began:
            self.began = time.monotonic()
            return
        if not self.is_running:
            self.thread.start()  # not before the first step: it imports MLflow
        with self.lock:
            for record in records:
                if record["split"] == "train" and record["metric"] in COUNTED:
                    self.counts[record["metric"]] += int(record["value"])
                    self.counts["steps"] += record["metric"] == "rows"  # recorded once per step
                self.step = record["step"]

    def finish(self) -> None:
        """Close the last window."""
        self.ending.set()
        if self.began:
            if not self.is_running:
                self.thread.start()
            self.thread.join()

    @property
    def is_running(self) -> bool:
        """Whether this process has completed a step (the first call has the records of earlier processes)."""
        return self.thread.ident is not None

    def totals(self) -> dict[str, Any]:
        """Return totals; `seconds` run from the first step to the end of the last, with validation and lost work."""
        sums = {name: sum(window[name] for window in self.windows) for name in ("seconds", "steps", *COUNTED)}
        return {**sums, "peak_memory_megabytes": _peak(), "windows": self.windows}

    def _work(self) -> None:
        monitors = _monitors()
        ended = False
        while not ended:
            ended = self.ending.wait(TICK)
            for monitor in monitors:
                monitor.collect_metrics()
            long = max(EVERY, SHARE * sum(window["seconds"] for window in self.windows))
            if ended or (self.counts["steps"] and time.monotonic() - self.began >= long):
                self._close(monitors)

    def _close(self, monitors: "Sequence[BaseMetricsMonitor]") -> None:
        with self.lock:
            counts, self.counts, step = self.counts, Counter(), self.step
            now, began = time.monotonic(), self.began
            self.began = now
        system = {name: value for monitor in monitors for name, value in monitor.aggregate_metrics().items()}
        for monitor in monitors:
            monitor.clear_metrics()
        counted = {name: counts[name] for name in ("steps", *COUNTED)}
        window = {"at": int(time.time() * 1000), "step": step, "seconds": now - began, **counted, "system": system}
        self.windows.append(window)
        with (
            suppress(OSError),
            self.file.open("a", encoding="utf-8") as file,
        ):  # a full disk is reported by the training itself
            file.write(seal(window) + "\n")


def records(windows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Convert windows to history records: throughput, and the means of MLflow's system metrics."""
    return [
        {"split": split, "metric": metric, "step": window["step"], "value": value, "at": window["at"]}
        for window in windows
        for split, values in (("pace", pace(window)), ("system", window["system"]))
        for metric, value in values.items()
    ]


def pace(done: Mapping[str, Any]) -> dict[str, float]:
    """Return seconds per step, and rows and tokens per second, of a window or of totals; empty without a step."""
    if not done["steps"] or not done["seconds"]:
        return {}
    return {
        "seconds_per_step": done["seconds"] / done["steps"],
        "samples_per_second": done["rows"] / done["seconds"],
        "tokens_per_second": done["tokens"] / done["seconds"],
    }


def training_seconds(measured: Mapping[str, Any]) -> float:
    """Return the seconds of a training with those of the cached features it read, whichever run computed them.

    Without the latter a training with frozen layers would look cheaper when another one has filled the cache.
    """
    seconds: float = measured["seconds"] + measured.get(FEATURES_SECONDS, 0.0)
    return seconds


def generation_figures(done: Mapping[str, Any]) -> dict[str, float]:
    """Return the number of generated tokens, and tokens per second, of an evaluation."""
    tokens, seconds = done["tokens"], done["seconds"]
    return {"generated_tokens": tokens, "generated_tokens_per_second": tokens / seconds}


def _monitors() -> "list[BaseMetricsMonitor]":
    """Return MLflow's monitors without its thread, which sends values immediately and drops them during an outage."""
    with IMPORTING:
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

    found: list[BaseMetricsMonitor] = [CPUMonitor()]
    with suppress(Exception):  # no NVIDIA GPU, or nvidia-ml-py is not installed
        found.append(GPUMonitor())
    return found


def _peak() -> float:
    """Return the peak memory in megabytes of this process or of its largest child process."""
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / unit


def read_windows(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the windows in a file; damaged ones are skipped."""
    if file.exists():
        for line in file.read_bytes().splitlines():
            with suppress(ValueError):
                yield unseal(line)
