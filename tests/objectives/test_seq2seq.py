"""From one text to another with an encoder-decoder. `pytest tests/objectives`."""

import pyarrow.parquet as pq
import pytest

from pipeline_lib.errors import RecipeError
from pipeline_lib.evaluation.predictor import LoadedModel
from pipeline_lib.objectives import Seq2Seq
from pipeline_lib.recipe.schema import check

OBJECTIVE = {"kind": "seq2seq", "max_target": 8, "beams": 2}
TEXTS = ["fine day", "sweet song", "cold soup", "long wait", "warm sun"]
PLACES = ["home", "town", "mill", "train", "sister"]


def rows():
    """The target is the source with its words in another order."""
    return [
        {"source": f"{text} {place} {other}", "target": f"{place} {text} {place}"}
        for text in TEXTS
        for place in PLACES
        for other in [*PLACES, "again", "night"]
    ]


def test_a_new_order_of_words_is_learned(trained):
    outcome, scores = trained(
        rows(),
        "t5",
        OBJECTIVE,
        training={"epochs": 25, "learning_rate": 1e-2, "batch_size": 16},
        evaluation={"baselines": ["copy"]},
    )
    assert scores["bleu"] > 60
    assert scores["perplexity"] < 2
    predictions = pq.read_table(outcome.scores.folder / "predictions.parquet").to_pylist()
    answers = LoadedModel(outcome.model.folder / "model").answer([{"source": row["source"]} for row in predictions])
    assert answers["prediction"] == [row["prediction"] for row in predictions]
    report = (outcome.scores.folder / "report.html").read_text()
    assert "copy" in report


def test_several_right_targets_are_all_compared_with():
    clean = Seq2Seq(kind="seq2seq").clean({"source": "a", "target": ["b", "c"]})
    assert clean["target"] == ["b", "c"]
    with pytest.raises(ValueError, match="empty target"):
        Seq2Seq(kind="seq2seq").clean({"source": "a", "target": []})


def test_a_family_without_a_decoder_is_refused(trained):
    with pytest.raises(RecipeError, match="is of the family bert, which has no Seq2SeqLM"):
        trained(rows(), "bert", OBJECTIVE)


def test_metrics_of_written_text_cannot_be_watched(document):
    document["objective"] = OBJECTIVE
    document["regularizers"] = [{"kind": "early_stopping", "metric": "bleu"}]
    with pytest.raises(RecipeError, match=r"bleu.*is computed from generated text.*perplexity"):
        check(document)
