"""Rows are answered as they are trained on: cleaned and checked alike, each for itself. `pytest tests/evaluation`."""

import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline_lib.errors import RecipeError
from pipeline_lib.evaluation.predictor import LoadedModel
from pipeline_lib.models.building import read_card
from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import check
from pipeline_lib.scoring import score as scoring
from pipeline_lib.scoring.request import Scoring


@pytest.fixture(scope="module")
def pairs(tmp_path_factory, tiny_bert, tracking_uri):
    """A run of a model of pairs."""
    folder = tmp_path_factory.mktemp("pairs")
    words = ["tea", "sun", "sea", "fog", "bus", "mud"]
    rows = [
        {"question": one, "answer": f"{two} {three}", "same": int(one == two)}
        for one in words
        for two in words[:3]
        for three in words
    ]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    document = {
        "name": "pairs",
        "data": {
            "source": {"kind": "jsonl", "train": str(folder / "pairs.jsonl")},
            "columns": {"text": "question", "text_pair": "answer", "label": "same"},
        },
        "model": {"base": str(tiny_bert)},
        "objective": {"kind": "text_classification"},
        "training": {"epochs": 1, "batch_size": 8},
        "execution": {"store": str(folder / "store"), "tracking_uri": tracking_uri, "device": "cpu"},
    }
    document["execution"] |= {"experiment": folder.name, "precision": "fp32"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return run(check(document))


@pytest.fixture(scope="module")
def answerer(pairs):
    return LoadedModel(pairs.model.folder / "model", device="cpu")


def test_a_row_that_cannot_be_answered_has_a_reason_and_the_others_an_answer(answerer):
    rows = [
        {"text": "tea", "text_pair": "tea sun"},
        {"text": None, "text_pair": "tea sun"},
        {"text": "tea"},
        {"text": " ", "text_pair": "tea"},
        {"text": {"a": 1}, "text_pair": "tea"},
        {"text": "sun", "text_pair": "tea sun"},
    ]
    answers = answerer.answer(rows)
    reasons = [None, "empty text", "empty text_pair", "empty text", "text is an object, not text", None]
    assert answers["error"] == reasons
    assert [prediction is None for prediction in answers["prediction"]] == [reason is not None for reason in reasons]
    alone = [answerer.answer([row])["probability"][0] for row in (rows[0], rows[5])]
    assert [answers["probability"][0], answers["probability"][5]] == pytest.approx(alone, abs=1e-6)


@pytest.mark.parametrize("value", ["\ud800", 10**400, pd.NA, [[[["a"]]]] * 3, {"a": {}}, b"\xff", object()])
def test_an_unreadable_value_does_not_spoil_the_other_rows(answerer, value):
    good = {"text": "tea", "text_pair": "sun sea"}
    for role in good:
        answers = answerer.answer([good, good | {role: value}, good])
        assert [reason is None for reason in answers["error"]] == [True, False, True]


def test_a_value_means_what_it_means_in_training(answerer):
    as_text, as_typed = (answerer.answer([{"text": text, "text_pair": "5"}]) for text in ("tea sun", ["tea", "sun"]))
    assert as_text == as_typed
    assert answerer.answer([{"text": 5, "text_pair": "5"}]) == answerer.answer([{"text": "5", "text_pair": "5"}])


def test_rows_without_any_answer_keep_the_columns(answerer):
    answers = answerer.answer([{"text": None}])
    assert answers == {"prediction": [None], "probability": [None], "probabilities": [None], "error": ["empty text"]}


def test_probabilities_carry_the_names_of_the_labels(pairs, answerer):
    (chances,) = answerer.answer([{"text": "tea", "text_pair": "tea sun"}])["probabilities"]
    assert chances.keys() == {"0", "1"} and sum(chances.values()) == pytest.approx(1)
    table = pq.read_table(pairs.scores.folder / "predictions.parquet").to_pylist()
    for row in table:
        probabilities = dict(row["probabilities"])
        assert (
            max(probabilities, key=probabilities.get) == row["prediction"]
            and max(probabilities.values()) == row["probability"]
        )


def test_the_served_model_takes_what_mlflow_is_given(pairs, tracking_uri):
    import mlflow
    from mlflow.pyfunc import load_model

    mlflow.set_tracking_uri(tracking_uri)

    assert read_card(pairs.model.folder / "model")["asked"] == {"text": True, "text_pair": True}
    served = load_model(pairs.published["model"])
    frame = pd.DataFrame({"text": ["tea", None, 7], "text_pair": ["tea sun", "sun", "sun"]})
    answers = served.predict(frame)
    assert answers["error"].isna().tolist() == [True, False, True] and answers["error"][1] == "empty text"
    with pytest.raises(Exception, match="text_pair"):
        served.predict(frame[["text"]])


def scored(pairs, folder, **columns):
    (folder / "in").mkdir()
    pq.write_table(pa.table(columns), folder / "in" / "a.parquet")
    request = Scoring(
        model=str(pairs.model.folder),
        data=str(folder / "in"),
        out=str(folder / "out"),
        columns={"text": "question", "text_pair": "answer"},
        device="cpu",
        store=str(folder / "store"),
    )
    scoring.score(request, scoring.fetch_model(request), *scoring.files(request))
    return pq.read_table(folder / "out" / "a.parquet")


def test_a_file_without_the_second_text_is_refused(pairs, tmp_path):
    with pytest.raises(RecipeError, match=r"columns.text_pair = 'answer': is not a column of a.parquet"):
        scored(pairs, tmp_path, question=["tea"])


def test_a_column_that_the_answers_need_is_noticed_before_any_is_computed(pairs, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "_predict_shard", lambda *_: pytest.fail("answered"))
    with pytest.raises(RecipeError, match="already has a column 'prediction'"):
        scored(pairs, tmp_path, question=["tea"], answer=["tea"], prediction=["1"])


def test_scored_files_have_named_probabilities_and_reasons(pairs, tmp_path):
    table = scored(pairs, tmp_path, question=["tea", None, "sun"], answer=["tea sun", "tea", "tea"])
    assert table["error"].to_pylist() == [None, "empty text", None]
    assert table["answered"].to_pylist() == [True, False, True]
    assert [None if row is None else sorted(dict(row)) for row in table["probabilities"].to_pylist()] == [
        ["0", "1"],
        None,
        ["0", "1"],
    ]
