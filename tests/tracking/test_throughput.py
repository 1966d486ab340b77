"""How fast a training goes, by windows whose figures were worked out by hand.

pytest tests/tracking/test_throughput.py
"""

import pytest

from pipeline_lib.store.sealed import seal
from pipeline_lib.tracking import throughput as metering
from pipeline_lib.tracking.throughput import ThroughputMeter, pace, records

SECOND = {"at": 7000, "step": 30, "seconds": 8.0, "steps": 20, "rows": 400, "tokens": 8000, "system": {}}


def step(number, rows, tokens):
    values = {"loss": 0.5, "rows": rows, "tokens": tokens}
    return [{"split": "train", "metric": name, "step": number, "value": value} for name, value in values.items()]


@pytest.fixture
def meter(tmp_path, monkeypatch):
    class Idle:
        def collect_metrics(self):
            pass

        def aggregate_metrics(self):
            return {"cpu_utilization_percentage": 50.0}

        clear_metrics = collect_metrics

    monkeypatch.setattr(metering, "_monitors", lambda: [Idle()])
    return ThroughputMeter(tmp_path / "measured.jsonl")


def test_steps_are_counted_from_the_first_call_on(meter):
    meter.count([*step(1, 16, 200), *step(2, 16, 200)])  # the history of before
    for number, rows in ((3, 10), (4, 12)):
        meter.count(step(number, rows, 100))
    meter.count([{"split": "validation", "metric": "loss", "step": 4, "value": 0.4}])
    meter.finish()
    (window,) = meter.windows
    assert {name: window[name] for name in ("step", "steps", "rows", "tokens")} == {
        "step": 4,
        "steps": 2,
        "rows": 22,
        "tokens": 200,
    }
    assert window["seconds"] > 0
    assert window["system"] == {"cpu_utilization_percentage": 50.0}


def test_what_a_killed_process_has_measured_counts(tmp_path, meter):
    (tmp_path / "measured.jsonl").write_text(seal(SECOND) + '\n{"at": 80')  # cut off in the midst of a line
    again = ThroughputMeter(tmp_path / "measured.jsonl")
    again.count([])
    again.count(step(31, 20, 400))
    again.finish()
    totals = again.totals()
    assert (totals["steps"], totals["rows"], totals["tokens"]) == (21, 420, 8400)
    assert totals["seconds"] == 8.0 + again.windows[1]["seconds"]
    assert totals["peak_memory_megabytes"] > 10


def test_what_never_began_measured_nothing(meter):
    meter.finish()
    assert meter.totals()["seconds"] == 0
    assert pace(meter.totals()) == {}


def test_windows_become_records_of_a_history():
    logged = {f"{r['split']}/{r['metric']}": (r["step"], r["value"], r["at"]) for r in records([SECOND])}
    assert logged == {
        "pace/seconds_per_step": (30, 0.4, 7000),
        "pace/samples_per_second": (30, 50.0, 7000),
        "pace/tokens_per_second": (30, 1000.0, 7000),
    }
