"""Answers in a text: windows, targets, the best span, no answer. `pytest tests/objectives`."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoTokenizer

from pipeline_lib.checks.labels import misplaced_answers
from pipeline_lib.data.examples import SplitExamples
from pipeline_lib.evaluation.predictor import LoadedModel
from pipeline_lib.objectives import QuestionAnswering
from pipeline_lib.objectives.windows import best_span

OBJECTIVE = QuestionAnswering(kind="question_answering", max_length=12, stride=2)
TEXTS = ["what a fine day", "i lost the game", "the soup is cold", "we laughed all night", "nobody came to dinner"]
PLACES = ["at home", "in town", "by the sea", "near the mill", "on the train"]


def row(context, question, answer):
    answers = (
        {"text": [answer], "answer_start": [context.index(answer)]} if answer else {"text": [], "answer_start": []}
    )
    return {"question": question, "context": context, "answers": answers}


def rows():
    """Where was it? Some texts do not say."""
    for text in TEXTS:
        for other in TEXTS:
            for place in PLACES:
                yield row(f"{text} {place} {other}", "in what town", place)
            yield row(f"{text} {other}", "in what town", None)


def encoded(tiny, rows):
    tokenizer = AutoTokenizer.from_pretrained(tiny["bert"])
    clean = [OBJECTIVE.clean(row) for row in rows]
    columns = OBJECTIVE.encode(tokenizer, clean)
    columns |= {name: [row.get(name) for row in clean] for name in ("question", "context", "answers", "starts")}
    schema = pa.schema(OBJECTIVE.arrow_schema())
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def test_an_answer_that_stands_elsewhere_is_compared_with_but_not_learned(tiny):
    wrong = row("the soup is cold at home", "in what town", "at home")
    wrong["answers"]["answer_start"] = [3]
    table = encoded(tiny, [wrong, row("we laughed in town", "in what town", "in town")])
    assert table["answers"].to_pylist() == [["at home"], ["in town"]]
    assert table["starts"].to_pylist() == [[], [11]]
    features = OBJECTIVE.features(table, [])
    assert features.losses.tolist() == [0, 2]
    (found,) = misplaced_answers({"train": table.append_column("file", [["a", "a"]]).append_column("line", [[1, 2]])})
    problem = "1 of 2 (50.0%) train rows have no answer at its answer_start: they are not trained on"
    assert found.problem.startswith(problem)
    batch = [torch.tensor(np.stack([np.pad(t, (0, 12 - len(t)), constant_values=-1) for t in features.targets]))]
    logits = torch.randn(2, 12, 2, requires_grad=True)
    OBJECTIVE.loss_sum(logits, batch[0]).backward()
    assert not logits.grad[0].any() and logits.grad[1].any()


LONG = " ".join(["the sun is warm"] * 3 + ["at home"] + ["the soup is cold"] * 2)


def test_a_long_text_is_read_in_overlapping_windows(tiny):
    table = encoded(tiny, [row(LONG, "in what town", "at home")])
    features = OBJECTIVE.features(table, [])
    assert len(features) > 2
    assert set(features.rows) == {0}
    assert max(features.ids.lengths) == 12
    begins = table["begins"].to_pylist()[0]
    assert set(begins[0]) & set(begins[1]) - {-1}  # they overlap


def test_only_windows_that_hold_the_whole_answer_are_taught_it(tiny):
    table = encoded(tiny, [row(LONG, "in what town", "at home")])
    features = OBJECTIVE.features(table, [])
    at, home = LONG.index("at home"), LONG.index("home", LONG.index("at home"))
    for window, (begins, _) in enumerate(
        zip(*(table[name].to_pylist()[0] for name in ("begins", "ends")), strict=True)
    ):
        target = features.targets[window].tolist()
        if at in begins and home in begins:
            assert (target[begins.index(at)], target[begins.index(home)], target[0]) == (1, 2, 0)
        else:
            assert target[0] == 3


def test_the_loss_by_hand():
    logits = torch.zeros(1, 3, 2)
    logits[0, 1, 0] = 5.0  # a token that cannot be chosen
    loss = OBJECTIVE.loss_sum(logits, torch.tensor([[3, -100, 0]]))
    assert loss.item() == pytest.approx(2 * np.log(2), abs=1e-4)
    smoothed = OBJECTIVE.loss_sum(logits, torch.tensor([[3, -100, 0]]), smoothing=0.3)
    assert smoothed.item() == pytest.approx(2 * np.log(2), abs=1e-4)  # both are equally likely


def test_the_best_span_ends_after_it_begins_and_is_not_too_long():
    scores = np.array([[9.0, 9.0], [1.0, 0.0], [5.0, 0.0], [0.0, 4.0], [0.0, 8.0]])
    assert best_span(scores, most=2) == (18.0, 0, 0)
    assert best_span(scores[1:], most=2) == (9.0, 1, 2)  # 5 + 4: 5 + 8 would be three tokens long


def test_no_answer_wins_where_it_scores_higher_in_every_window(tiny):
    table = encoded(tiny, [row("the sun is warm at home", "what", "at home")])
    split = SplitExamples(table, [], OBJECTIVE.features(table, []))
    scores = np.zeros((int((split.encoded.targets[0] >= 0).sum()), 2), np.float32)
    scores[0] = 1.0
    assert OBJECTIVE.predictions([scores], split) == {"prediction": [""]}
    scores[[5, 6], [0, 1]] = 2.0
    assert OBJECTIVE.predictions([scores], split) == {"prediction": ["at home"]}


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (["home"], "lack text and answer_start"),
    ],
)
def test_rows_that_cannot_be_used_say_why(answers, reason):
    with pytest.raises(ValueError, match=reason):
        OBJECTIVE.clean({"question": "what", "context": "at home", "answers": answers})


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5"])
def test_where_it_was_is_learned(trained, family):
    objective = {"kind": "question_answering", "max_length": 24, "stride": 4}
    outcome, scores = trained(list(rows()), family, objective, training={"epochs": 12})
    assert scores["f1"] > 0.7
    predictions = pq.read_table(outcome.scores.folder / "predictions.parquet").to_pylist()
    answers = LoadedModel(outcome.model.folder / "model").answer(
        [{"question": row["question"], "context": row["context"]} for row in predictions]
    )
    assert answers["prediction"] == [row["prediction"] for row in predictions]


def test_chinese_answers_are_found_by_character(tiny):
    context = "我在北京工作"
    table = encoded(tiny, [row(context, "哪里", "北京")])
    assert table["answers"].to_pylist() == [["北京"]]
