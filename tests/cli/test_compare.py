"""`tunesmith compare`, as a user meets it. `pytest tests/comparison`."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import moods_recipe, send_nothing, write_moods
from typer.testing import CliRunner

from pipeline_lib.cli.main import app
from pipeline_lib.evaluation.predictions import Predictions, RowCounts
from pipeline_lib.evaluation.predictions_file import KeyedPredictions, read_predictions
from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import check


def written(path, document):
    path.write_text(json.dumps(document))
    return str(path)


@pytest.fixture(scope="module")
def learned(tmp_path_factory, tiny_bert, tracking_uri):
    """A recipe with epochs enough to learn, as plain data, of which there is a run."""
    folder = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        send_nothing(patch)
        document = moods_recipe(folder, tiny_bert, write_moods(folder / "moods.csv"), tracking_uri)
        document["training"]["epochs"] = 20
        run(check(document))
        yield document


@pytest.fixture(scope="module")
def two(learned, tmp_path_factory):
    """The files of that recipe, and of one with a rate at which nothing is learned, which was run as well."""
    idle = learned | {"name": "idle", "training": learned["training"] | {"epochs": 1, "learning_rate": 1e-9}}
    run(check(idle))
    folder = tmp_path_factory.mktemp("recipes")
    return written(folder / "moods.yaml", learned), written(folder / "idle.yaml", idle)


def say(*arguments):
    said = CliRunner().invoke(app, ["compare", *arguments])
    return said.exit_code, " ".join(said.output.split())


def test_a_table_and_a_sentence(two):
    code, said = say(two[1], two[0])
    assert code == 0, said
    assert "idle and moods on 12 test rows" in said
    assert "95% interval" in said
    assert "moods is better in accuracy, macro_f1" in said
    code, said = say(two[0], two[0])
    assert "the difference in accuracy, macro_f1" in said
    assert "is better" not in said


def test_other_test_rows_are_refused(two, tmp_path, document):
    test = tmp_path / "test.csv"
    test.write_text("text,mood\na sweet song of rain,glad\nthe soup is gone,sad\n")
    document["data"]["source"]["test"] = str(test)
    document["training"]["epochs"] = 1
    run(check(document))
    code, said = say(two[0], written(tmp_path / "other.yaml", document))
    assert code == 2
    assert "has 2 test rows, of which 0 are among the 12 of moods. Evaluate both on the same test data" in said


def test_what_was_not_run_and_what_is_no_evaluation_is_reported(two, tmp_path, document):
    document["training"]["epochs"] = 2
    code, said = say(two[0], written(tmp_path / "new.yaml", document))
    assert (code, "has not been run" in said) == (2, True)
    code, said = say(two[0], str(tmp_path))
    assert (code, "contains no outcome.parquet" in said) == (2, True)


def test_rows_in_another_order_are_found_again(learned, tmp_path):
    scores = run(check(learned)).scores.folder
    again = shutil.copytree(scores, tmp_path / "again")
    table = pq.read_table(again / "outcome.parquet")
    order = np.random.default_rng(0).permutation(len(table))
    pq.write_table(table.take(order), again / "outcome.parquet")
    one, other = read_predictions(scores).sorted_by_hash, read_predictions(again).sorted_by_hash
    assert (read_predictions(scores).rows != read_predictions(again).rows).any()
    assert (one.rows == other.rows).all()
    assert (one.outcome.probabilities == other.outcome.probabilities).all()
    code, said = say(str(scores), str(again))
    assert (code, "is better" in said) == (0, False)


@pytest.mark.parametrize(
    "outcome",
    [
        Predictions(np.array([0, 1]), np.array([1, 1]), np.array([[0.4, 0.6], [0.1, 0.9]], np.float32)),
        Predictions(np.array([[1, 0], [1, 1]]), np.array([[1, 1], [0, 1]]), np.array([[0.9, 0.6], [0.1, 0.9]])),
        Predictions(np.array([0.5, 1]), np.array([1, 1.5])),
        RowCounts({"gold": np.array([[1, 2], [0, 3]]), "tokens": np.array([3, 4])}),
        RowCounts({"gold": np.zeros((2, 0), np.int64), "tokens": np.array([3, 4])}),
    ],
    ids=["one label", "several labels", "a number", "sums", "sums of no class"],
)
def test_every_outcome_comes_back_as_it_was(outcome, tmp_path):
    from types import SimpleNamespace

    import pyarrow as pa

    from pipeline_lib.evaluation.predictions_file import write_predictions

    rows = pa.table({"key": [1, 2], "line": [2, 3], "text": ["a", "b"], "input_ids": [[1], [2]]})
    write_predictions(outcome, SimpleNamespace(rows=rows), ["input_ids"], tmp_path)
    found = read_predictions(tmp_path)
    before, after = (
        vars(predictions) if isinstance(predictions, Predictions) else predictions.counts
        for predictions in (outcome, found.outcome)
    )
    assert before.keys() == after.keys()
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])
        assert getattr(before[name], "dtype", None) == getattr(after[name], "dtype", None)
    assert isinstance(found, KeyedPredictions) and len(set(found.rows.tolist())) == 2
