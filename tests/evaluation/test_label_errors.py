"""Suspect labels, worked out by hand and planted. `pytest tests/evaluation/test_label_errors.py`."""

import csv

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import LEARNING

from pipeline_lib.evaluation.label_errors import suspects
from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import check


def test_a_row_is_suspect_where_it_counts_for_another_class_than_its_label():
    first = np.array([0.9, 0.7, 0.2, 0.35, 0.1, 0.75])
    chances = np.stack([first, 1 - first], axis=1)
    gold = np.array([0, 0, 0, 1, 1, 1])
    # mean p(0) of the rows labelled 0 is 0.6; mean p(1) of the rows labelled 1 is (0.65 + 0.9 + 0.25) / 3 = 0.6.
    # Row 2 has p(1) = 0.8, labelled 0; row 5 has p(0) = 0.75, labelled 1; margins 0.2 - 0.8 and 0.25 - 0.75.
    found = suspects(gold, chances)
    assert found.rows.tolist() == [2, 5]
    assert found.suggested.tolist() == [1, 0]


def test_a_class_that_is_always_given_little_needs_little():
    """What the model gives to a rare class is compared with what it gives to its own rows."""
    chances = np.array([[0.8, 0.2], [0.7, 0.3], [0.6, 0.4], [0.65, 0.35]])
    found = suspects(np.array([0, 0, 0, 1]), chances)
    # thresholds 0.7 and 0.35: row 2 counts for class 1 though class 0 is likelier, and no row else is doubted
    assert (found.rows.tolist(), found.suggested.tolist()) == ([2], [1])


def test_a_class_without_rows_suspects_nobody():
    found = suspects(np.array([0, 0]), np.array([[0.4, 0.6], [0.6, 0.4]]))
    assert not len(found.rows)


@pytest.mark.usefixtures("unpublished")
def test_planted_noise_is_found_in_validation_and_test(document, moods_csv, tmp_path):
    with moods_csv.open(encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    held = {"validation": rows[::5], "test": rows[1::5]}
    places = (3, 9)  # one of each mood: what counts for a mood is held against the mean of all rows labelled so
    wrong = {(name, place): labels[place] for name, labels in held.items() for place in places}
    for name, labels in held.items():
        for place in places:
            labels[place] = [labels[place][0], "sad" if labels[place][1] == "glad" else "glad"]
        with (tmp_path / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([head, *labels])
        document["data"]["source"][name] = str(tmp_path / f"{name}.csv")
    document["data"].pop("split")
    outcome = run(check(document | LEARNING | {"training": LEARNING["training"] | {"epochs": 20}}))
    suspects = pq.read_table(outcome.scores.folder / "suspects.parquet").to_pylist()
    found = {(row["split"], row["file"], row["line"], row["text"], row["suggested"]) for row in suspects}
    assert {(name, f"{name}.csv", place + 2, *row) for (name, place), row in wrong.items()} <= found
    assert len(found) <= 6
    assert "Suspect labels" in outcome.report.read_text()
