"""Every kind of text classification as a whole run: pairs, several labels, numbers. `pytest tests/objectives`."""

import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from pipeline_lib.data.target_scale import TargetScale
from pipeline_lib.errors import RecipeError
from pipeline_lib.evaluation.predictor import LoadedModel
from pipeline_lib.export.export import export
from pipeline_lib.models.building import CARD, load_trained, read_card
from pipeline_lib.objectives import TextClassification
from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import check

PLACES = ["at home", "in town", "by the sea", "near the mill", "on the train", "with my sister"]
WORDS = ["day", "tea", "sun", "song", "rain", "game", "soup", "wait"]


pytestmark = pytest.mark.usefixtures("unpublished")  # tests/tracking has what MLflow is sent of a classification


def with_rows(document, path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    document["data"]["source"] = {"kind": "jsonl", "train": str(path)}
    return document


def scores(outcome):
    return {
        name: score["value"]
        for name, score in json.loads((outcome.scores.folder / "metrics.json").read_text())["metrics"].items()
    }


def grid(label):
    """384 rows: every two words at six places; `label(one, two)` is what is to be learned."""
    return [
        {"text": f"{one} {place}", "more": f"{two} {place}", "mood": label(one, two)}
        for one in WORDS
        for two in WORDS
        for place in PLACES
    ]


def trained(document, path, label, **objective):
    """The outcome of a run over the grid, with both texts."""
    with_rows(document, path, grid(label))["objective"] |= objective
    document["data"]["columns"] |= {"text_pair": "more"}
    document["training"] |= {"epochs": 14, "batch_size": 8, "learning_rate": 2e-3}
    return run(check(document))


def test_pairs(document, tmp_path):
    outcome = trained(document, tmp_path / "pairs.jsonl", lambda one, two: WORDS.index(two) // 4)
    names = pq.read_schema(outcome.scores.folder / "predictions.parquet").names
    assert {"text", "text_pair", "label", "prediction"} <= set(names)
    assert scores(outcome)["accuracy"] > 0.75  # chance is 0.5, and only the second text can tell


def test_several_labels(document, tmp_path):
    outcome = trained(
        document,
        tmp_path / "several.jsonl",
        lambda one, two: sorted({one, two} & {"tea", "sun"}),
        problem_type="multi_label_classification",
    )
    assert scores(outcome)["micro_f1"] > 0.9
    row = pq.read_table(outcome.scores.folder / "predictions.parquet").to_pylist()[0]
    assert set(row["prediction"]) <= {"sun", "tea"}
    assert len(row["probabilities"]) == 2


def test_numbers(document, tmp_path):
    document["execution"]["precision"] = "bf16"
    outcome = trained(
        document, tmp_path / "numbers.jsonl", lambda one, two: WORDS.index(two) / 7 - 0.5, problem_type="regression"
    )
    metrics = scores(outcome)
    assert {"rmse", "pearson", "spearman"} <= metrics.keys()
    assert metrics["pearson"] > 0.5
    rows = pq.read_table(outcome.scores.folder / "predictions.parquet").to_pylist()
    assert metrics["rmse"] == pytest.approx(
        math.sqrt(np.mean([(row["prediction"] - row["label"]) ** 2 for row in rows]))
    )
    assert len({row["prediction"] for row in rows}) > 0.95 * len(rows)  # bf16 alone would round them to few values


@pytest.mark.parametrize(
    ("problem_type", "logits", "targets", "expected"),
    [
        ("single_label_classification", [[0.0, 0.0], [0.0, math.log(3)]], [0, 1], math.log(2) + math.log(4 / 3)),
        ("multi_label_classification", [[0.0, math.log(3)]], [[1.0, 0.0]], (math.log(2) + math.log(4)) / 2),
        ("regression", [[1.0], [3.0]], [0.0, 1.0], 5.0),
    ],
)
def test_the_loss_by_hand(problem_type, logits, targets, expected):
    objective = TextClassification(kind="text_classification", problem_type=problem_type)
    assert objective.loss_sum(torch.tensor(logits), torch.tensor(targets)).item() == pytest.approx(expected)


def test_whole_and_partial_models_load_and_answer_as_evaluated(document):
    for strategies in ([{"kind": "full"}], [{"kind": "partial", "last_layers": 1}]):
        document["strategies"] = strategies
        outcome = run(check(document))
        model = outcome.model.folder / "model"
        assert (model / "model.safetensors").exists() == (strategies[0]["kind"] == "full")
        rows = pq.read_table(outcome.scores.folder / "predictions.parquet").to_pylist()
        (base,) = (outcome.model.folder.parents[1] / "base").iterdir()
        answers = LoadedModel(model, base).answer(rows)
        assert answers["prediction"] == [row["prediction"] for row in rows]


@pytest.mark.parametrize("device", ["auto", "cpu"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes in fp16")
def test_what_a_gpu_trained_in_fp16_answers_on_a_cpu(document, device):
    outcome = run(check(document))
    folder = outcome.model.folder / "model"
    (folder / CARD).write_text((folder / CARD).read_text().replace('"fp32"', '"fp16"'))
    assert read_card(folder)["precision"] == "fp16"
    rows = pq.read_table(outcome.scores.folder / "predictions.parquet").to_pylist()
    assert LoadedModel(folder, device=device).answer(rows)["prediction"] == [row["prediction"] for row in rows]


def test_a_part_refuses_another_base(document, tmp_path):
    document["strategies"] = [{"kind": "partial"}]
    outcome = run(check(document))
    (base,) = (outcome.model.folder.parents[1] / "base").iterdir()
    (tmp_path / "other").mkdir()
    for file in base.iterdir():
        (tmp_path / "other" / file.name).write_bytes(file.read_bytes())
    weights = bytearray((base / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "other" / "model.safetensors").write_bytes(weights)
    with pytest.raises(RecipeError, match="is not the base that this model was trained from"):
        load_trained(outcome.model.folder / "model", tmp_path / "other")


def test_a_part_is_small_and_a_whole_model_is_plain_transformers(document):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    document["strategies"] = [{"kind": "partial"}]
    part = run(check(document)).model.folder / "model" / "trained.safetensors"
    assert part.stat().st_size < 2000
    document["strategies"] = [{"kind": "full"}]
    outcome = run(check(document))
    folder = outcome.model.folder / "model"
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    row = pq.read_table(outcome.scores.folder / "predictions.parquet").to_pylist()[0]
    with torch.inference_mode():
        logits = model(**tokenizer(row["text"], return_tensors="pt")).logits
    assert model.config.id2label[int(logits.argmax())] == row["prediction"]


@pytest.mark.parametrize(("value", "name"), [(1, "1"), (1.0, "1"), ("1", "1"), (" spam ", "spam"), (True, "True")])
def test_a_label_has_one_spelling_whatever_the_format(value, name):
    assert TextClassification(kind="text_classification").clean({"text": "x", "label": value})["label"] == name


@pytest.mark.parametrize(("middle", "spread"), [(1000.0, 10.0), (3e12, 5e5)])
def test_numbers_far_from_zero_are_learned_and_answered_in_their_unit(document, tmp_path, middle, spread):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    def number(one, two):
        return middle + spread * (2 * (WORDS.index(two) > 3) - 1)

    outcome = trained(document, tmp_path / "numbers.jsonl", number, problem_type="regression")
    metrics = scores(outcome)
    assert metrics["r2"] > 0.5 and metrics["rmse"] < 0.7 * spread
    rows = pq.read_table(outcome.scores.folder / "predictions.parquet").to_pylist()
    served = LoadedModel(outcome.model.folder / "model").answer(rows)["prediction"]
    assert served == [row["prediction"] for row in rows]
    history = pq.read_table(outcome.model.folder / "history.parquet").to_pylist()
    watched = [record["value"] for record in history if (record["split"], record["metric"]) == ("validation", "rmse")]
    assert min(watched) < spread  # what picks the checkpoint is in the data's unit, too

    export(outcome.model.folder / "model", tmp_path / "plain")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "plain")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "plain")
    with torch.inference_mode():
        logit = model(**tokenizer(rows[0]["text"], rows[0]["text_pair"], return_tensors="pt")).logits.item()
    assert logit == pytest.approx(rows[0]["prediction"], abs=0.01 * spread + 1e-6 * abs(middle))


@pytest.mark.parametrize("targets", [[], [3.0], [0.1] * 7, [1e300, -1e300], [5e-324, 0.0]])
def test_a_scale_is_finite_and_goes_back_and_forth(targets):
    scale = TargetScale.from_targets(targets)
    assert math.isfinite(scale.mean) and 0 < scale.deviation < math.inf
    assert scale.restore(scale.standardise(np.array(targets))) == pytest.approx(targets, rel=1e-6)
