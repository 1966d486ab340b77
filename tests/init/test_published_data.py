"""What `tunesmith init` makes of public data in their own formats. `pytest tests/init/test_published_data.py`."""

import json

import pytest

from tests.init.test_init import columns_of, labelled, text, write_csv


def write_jsonl(folder, rows):
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))


def test_labels_of_several_ids(tmp_path, init):
    rows = [f"{text(i)}\t{('27', '2', '3,27', '0', '2,3')[i % 5]}\tid{i}" for i in range(60)]
    (tmp_path / "data" / "train.tsv").write_text("\n".join(rows) + "\n")
    assert init().objective.problem_type == "multi_label_classification"


def test_numbers_and_names_as_labels(tmp_path, init):
    write_csv(tmp_path / "data", "train.csv", ["text", "label"], labelled(60, 0, 1, "other"))
    assert init().objective.problem_type == "single_label_classification"
    assert "numbers and 'other'" in init.said


def test_a_label_that_may_mean_none_is_named(tmp_path, init):
    write_csv(tmp_path / "data", "train.csv", ["text", "label"], labelled(60, "yes", "no", "-"))
    init()
    assert "The label '-' is a class like any other" in init.said


@pytest.mark.parametrize("names", [("#1 String", "#2 String"), ("premise", "hypo")])
def test_further_names_of_pairs(tmp_path, init, names):
    rows = [[text(index), text(index + 1), index % 2] for index in range(60)]
    write_csv(tmp_path / "data", "train.csv", [*names, "Quality"], rows)
    assert columns_of(init()) == {"text": names[0], "text_pair": names[1], "label": "Quality"}


def test_two_texts_with_a_label_may_be_a_pair(tmp_path, init):
    rows = [[index % 2 + 1, text(index), text(index + 1)] for index in range(60)]
    write_csv(tmp_path / "data", "train.csv", None, rows)
    assert "--column text=column2 --column text_pair=column3 --column label=column1" in init()


def test_a_column_of_fractions_without_a_header_may_be_the_label(tmp_path, init):
    rows = [[index / 8 + 0.01, text(index), text(index + 1)] for index in range(60)]
    write_csv(tmp_path / "data", "train.csv", None, rows)
    assert "--column text=column2 --column text_pair=column3 --column label=column1" in init()


def test_calls_as_answers_are_not_left_aside(tmp_path, init):
    write_jsonl(tmp_path / "data", [{"query": text(i), "answers": '[{"name": "f"}]', "tools": "[]"} for i in range(30)])
    assert "no objective fits" in init(base="llama")


TRANSCRIPT = "\n\nHuman: {}\n\nAssistant: {}"
PREFERENCES = [
    ({"chosen": TRANSCRIPT.format("{}", "good"), "rejected": TRANSCRIPT.format("{}", "bad")}, "dpo"),
    ({"prompt": "{}", "chosen": "good", "rejected": "bad"}, "dpo"),
    ({"prompt": "{}", "completion": "good", "label": True}, "kto"),
]


@pytest.mark.parametrize(("row", "loss"), PREFERENCES)
def test_preferences(tmp_path, init, row, loss):
    fill = [{name: str(value).format(text(i)) for name, value in row.items()} for i in range(30)]
    rows = [{**one, "label": bool(i % 2)} if "label" in one else one for i, one in enumerate(fill)]
    write_jsonl(tmp_path / "data", rows)
    recipe = init(base="llama")
    assert recipe.objective.kind == "preference" and recipe.objective.loss == loss
    assert set(columns_of(recipe)) == set(row)
    assert "preference needs a decoder" in init(base="t5")


def test_preferences_as_messages(tmp_path, init):
    answers = {
        side: [{"role": "user", "content": "{}"}, {"role": "assistant", "content": side}]
        for side in ("chosen", "rejected")
    }
    rows = [json.loads(json.dumps({"prompt": "{}", **answers}).replace("{}", text(i))) for i in range(30)]
    write_jsonl(tmp_path / "data", [{**row, "messages": row["chosen"]} for row in rows])
    assert init(base="llama").objective.kind == "preference"


def test_the_names_of_conll_2003(tmp_path, init):
    for name in ("eng.train", "eng.testa", "eng.testb"):
        (tmp_path / "data" / name).write_text("-DOCSTART- O\n\nthe O\ntown B-place\n\nlate O\nagain O\n\n" * 10)
    source = init().data.source
    assert source.validation.endswith("testa") and source.test.endswith("testb")


def test_the_ids_beside_parallel_files_are_no_side(tmp_path, init):
    for part in ("de", "en", "ids"):
        (tmp_path / "data" / f"books.de-en.{part}").write_text("".join(f"{part} {text(i)}\n" for i in range(20)))
    assert "ids" not in init(base="t5").replace("books.de-en.ids", "")


def test_lists_of_zeros_and_ones_of_several_lengths_are_named(tmp_path, init):
    write_jsonl(tmp_path / "data", [{"text": text(i), "labels": [1, i % 2, 0, 1][: 4 - i % 2]} for i in range(30)])
    init()
    assert "have 3 to 4 items" in init.said


def test_annotations_beside_a_text_are_named(tmp_path, init):
    for name, line in (("dialogues", text(1)), ("dialogues_act", "2 1 3")):
        (tmp_path / "data" / f"{name}_train.txt").write_text(f"{line}\n" * 30)
    init()
    assert "have 30 lines each" in init.said
