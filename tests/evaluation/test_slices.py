"""Scores of parts of the test rows. `pytest tests/evaluation/test_slices.py`."""

import csv
import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from mlflow.tracking import MlflowClient

from pipeline_lib.data.examples import Examples, Ragged
from pipeline_lib.evaluation.slices import ByColumn, ByLength, row_lengths, select_slices
from pipeline_lib.pipeline.plan import plan
from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import check
from pipeline_lib.tracking.scores import metric_part

SLICES = [{"kind": "column", "column": "place"}, {"kind": "length", "edges": [6, 7]}]


def test_rows_go_by_the_values_of_a_column_the_largest_slice_first():
    values = ["web", "mail", "web", "", "mail", "web"]
    found = select_slices([ByColumn(kind="column", column="channel")], np.ones(6), {"channel": values})
    assert {name: rows.tolist() for name, rows in found.items()} == {
        "channel web": [0, 2, 5],
        "channel mail": [1, 4],
        "channel (empty)": [3],
    }


def test_rare_values_of_a_column_are_one_slice():
    values = [str(number) for number in range(25)] + ["often"] * 2
    found = select_slices([ByColumn(kind="column", column="id")], np.ones(27), {"id": values})
    assert len(found) == 21 and next(iter(found)) == "id often"
    assert len(found["id: 6 other values"]) == 6
    assert sorted(np.concatenate([*found.values()])) == list(range(27))


def test_an_edge_begins_a_bin_and_empty_bins_are_left_out():
    found = select_slices([ByLength(kind="length", edges=(20, 50, 90))], np.array([19, 20, 49, 19, 120]), {})
    assert {name: rows.tolist() for name, rows in found.items()} == {
        "length 1 to 19": [0, 3],
        "length 20 to 49": [1, 2],
        "length from 90": [4],
    }


def test_the_windows_of_a_row_are_long_together():
    ids = Ragged(np.zeros(9, np.int32), np.array([0, 2, 5, 9]))
    assert row_lengths(Examples(ids, np.zeros(3)), 3).tolist() == [2, 3, 4]
    assert row_lengths(Examples(ids, np.zeros(3), rows=np.array([0, 1, 1])), 3).tolist() == [2, 7, 0]


@pytest.fixture
def placed(document, moods_csv):
    """The moods with one more column, the last word, that nothing but slices reads."""
    with moods_csv.open(encoding="utf-8") as file:
        (head, *rows) = csv.reader(file)
    with moods_csv.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([[*head, "place"], *([*row, row[0].split()[-1]] for row in rows)])
    return document


def test_each_slice_is_scored_as_its_rows_are_and_another_slice_makes_only_scores_anew(placed):
    first = run(check(placed))
    placed["evaluation"] = {"metrics": ["accuracy"], "slices": SLICES}
    assert [step.step for step in plan(check(placed)).planned if not step.artifact] == ["columns", "evaluate"]
    second = run(check(placed))
    assert second.model.reused and second.model.digest == first.model.digest
    metrics = json.loads((second.scores.folder / "metrics.json").read_text())
    rows = pq.read_table(second.scores.folder / "predictions.parquet").to_pylist()
    wanted: dict[str, list[bool]] = {}
    for row in rows:
        words = row["text"].split()  # one token a word, and two special ones
        bins = "length 1 to 5" if len(words) < 4 else "length 6 to 6" if len(words) < 5 else "length from 7"
        for name in (f"place {words[-1]}", bins):
            wanted.setdefault(name, []).append(row["prediction"] == row["label"])
    assert {record["name"]: record["rows"] for record in metrics["slices"]} == {
        name: len(r) for name, r in wanted.items()
    }
    for slice_scores in metrics["slices"]:
        assert slice_scores["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(wanted[slice_scores["name"]]))
        assert (slice_scores["metrics"]["accuracy"]["low"] is None) == (slice_scores["rows"] == 1)
    assert "By slice" in second.report.read_text()
    client = MlflowClient(placed["execution"]["tracking_uri"])
    logged = client.get_run(second.published["evaluation"].split()[0]).data.metrics
    for slice_scores in metrics["slices"]:
        score = slice_scores["metrics"]["accuracy"]
        for what, end in (("value", ""), ("low", "/low"), ("high", "/high")):
            assert logged.get(f"slice/{slice_scores['name']}/accuracy{end}") == score[what]
    placed["evaluation"]["slices"] = SLICES[1:]
    assert [step.step for step in plan(check(placed)).planned if not step.artifact] == ["evaluate"]


def test_the_values_follow_the_file(placed, moods_csv):
    placed["evaluation"] = {"slices": SLICES[:1]}
    run(check(placed))
    moods_csv.write_text(moods_csv.read_text().replace(",home\n", ",house\n"))
    third = run(check(placed))
    assert third.model.reused, "what no model reads trains nothing anew"
    metrics = json.loads((third.scores.folder / "metrics.json").read_text())
    assert not any("home" in record["name"] for record in metrics["slices"])


def test_names_that_lose_characters_in_mlflow_stay_apart():
    names = ["band <5", "band >5", "band _5", "band 1.0", "band 1/0", "x" * 200, "x" * 199 + "y", "label ä", "(empty)"]
    parts = [metric_part(name) for name in names]
    assert len(set(parts)) == len(names)
    assert all(re.fullmatch(r"[\w -]{1,160}", part) for part in parts)
    assert metric_part("length 1 to 5") == "length 1 to 5"
