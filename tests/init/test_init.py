"""What `tunesmith init` makes of data as people have them. `pytest tests/init/test_init.py`."""

import gzip
import json

import pytest
from typer.testing import CliRunner

from pipeline_lib.cli import init as command
from pipeline_lib.cli.main import app

WORDS = ("the", "train", "to", "town", "was", "late", "again", "and", "all", "had", "to", "walk", "home", "in", "rain")


def text(index):
    """A sentence of its own for each number."""
    return " ".join(WORDS[(index * step) % len(WORDS)] for step in range(1, 8)) + f" {index}"


def write_csv(folder, name, header, rows):
    lines = [",".join(header)] if header else []
    (folder / name).write_text("\n".join([*lines, *(",".join(map(str, row)) for row in rows)]) + "\n")


def labelled(count, *labels):
    return [[text(index), labels[index % len(labels)]] for index in range(count)]


def columns_of(recipe):
    return recipe.objective.columns(recipe.data.columns)


def test_a_text_and_its_label(tmp_path, init):
    write_csv(tmp_path / "data", "train.csv", ["text", "category"], labelled(60, "fare", "delay", "seat"))
    write_csv(tmp_path / "data", "test.csv", ["text", "category"], labelled(12, "fare", "delay", "seat"))
    (tmp_path / "data" / "README.md").write_text("about the data")
    (tmp_path / "data" / "categories.json").write_text('["fare", "delay", "seat"]')
    recipe = init()
    assert recipe.objective.kind == "text_classification"
    assert columns_of(recipe) == {"text": "text", "label": "category"}
    assert recipe.data.source.test and not recipe.data.source.validation


def test_a_table_without_a_header(tmp_path, init):
    rows = [f"{label}\t{sentence}" for sentence, label in labelled(60, "ham", "spam")]
    (tmp_path / "data" / "sms.tsv").write_text("\n".join(rows) + "\n")
    recipe = init()
    assert recipe.data.source.names == ("label", "text")
    assert columns_of(recipe) == {"text": "text", "label": "label"}


def test_a_pair_of_texts(tmp_path, init):
    rows = [[index, text(index), text(index + 1), index % 2] for index in range(60)]
    write_csv(tmp_path / "data", "train.csv", ["index", "sentence1", "sentence2", "label"], rows)
    recipe = init()
    assert columns_of(recipe) == {"text": "sentence1", "text_pair": "sentence2", "label": "label"}


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ([0.5 * index for index in range(40)], "regression"),
        (["a", "b", "a;b", "b;c", "c"] * 8, "multi_label_classification"),
        ([0, 1] * 20, "single_label_classification"),
    ],
)
def test_what_kind_of_label_it_is(tmp_path, init, labels, problem):
    write_csv(tmp_path / "data", "train.csv", ["text", "label"], [[text(i), label] for i, label in enumerate(labels)])
    assert init().objective.problem_type == problem


def test_a_list_of_labels(tmp_path, init):
    rows = [{"text": text(i), "labels": [["red"], ["red", "blue"], []][i % 3]} for i in range(30)]
    (tmp_path / "data" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert init().objective.problem_type == "multi_label_classification"


def test_a_yaml_file_that_is_named(tmp_path, init):
    (tmp_path / "data" / "train.yaml").write_text(
        "".join(f"- {{text: {text(i)}, label: l{i % 2}}}\n" for i in range(30))
    )
    assert init("data/train.yaml").data.source.kind == "yaml"


def test_words_and_their_tags(tmp_path, init):
    lines = "the\tO\ntown\tB-place\nhall\tI-place\n\t\nlate\tO\n\n" * 10
    (tmp_path / "data" / "names17train.conll").write_text(lines)
    (tmp_path / "data" / "names.test.annotated").write_text(lines)
    recipe = init()
    assert recipe.objective.kind == "token_classification"
    assert recipe.data.source.test


def test_the_last_of_several_columns_of_tags(tmp_path, init):
    (tmp_path / "data" / "train.txt").write_text("the DT O\ntown NN B-place\n\nlate JJ O\n\n" * 10)
    recipe = init()
    assert recipe.data.source.names == ("tokens", "column2", "tags")


def test_parallel_files_of_words_and_slots(tmp_path, init):
    for split in ("train", "valid", "test"):
        folder = tmp_path / "data" / split
        folder.mkdir()
        (folder / "seq.in").write_text("a train to town\nlate again\n" * 10)
        (folder / "seq.out").write_text("O O O B-place\nO O\n" * 10)
        (folder / "label").write_text("travel\ncomplaint\n" * 10)
    recipe = init()
    assert recipe.objective.kind == "token_classification"
    assert columns_of(recipe) == {"tokens": "source", "tags": "target"}
    assert recipe.data.source.validation and recipe.data.source.test


def test_the_direction_of_parallel_files_is_asked(tmp_path, init):
    for split in ("train", "val"):
        for language in ("en", "de"):
            with gzip.open(tmp_path / "data" / f"{split}.{language}.gz", "wt") as file:
                file.write("\n".join(f"{language} {text(index)}" for index in range(20)))
    said = init(base="t5")
    assert "read en, write de: tunesmith init data --column source=en --column target=de" in said
    recipe = init("--column", "source=en", "--column", "target=de", base="t5")
    assert recipe.objective.kind == "seq2seq" and recipe.data.source.source_language == "en"
    assert recipe.data.source.validation


def test_the_order_of_named_files_is_their_direction(tmp_path, init):
    for language in ("en", "de"):
        (tmp_path / "data" / f"train.{language}").write_text("\n".join(map(text, range(20))))
    recipe = init("data/train.en", "data/train.de", base="t5")
    assert recipe.data.source.source_language == "en"


def test_dialogues(tmp_path, init):
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "good day"}]
    (tmp_path / "data" / "chat.jsonl").write_text("\n".join(json.dumps({"messages": turns}) for _ in range(20)))
    recipe = init(base="gpt2")
    assert recipe.objective.kind == "causal_lm" and columns_of(recipe) == {"messages": "messages"}


def test_instructions(tmp_path, init):
    rows = [{"instruction": text(i), "input": "" if i % 2 else text(i + 1), "output": text(i + 2)} for i in range(20)]
    (tmp_path / "data" / "instructions.json").write_text(json.dumps(rows))
    recipe = init(base="llama")
    assert columns_of(recipe) == {"prompt": "instruction", "input": "input", "answer": "output"}


@pytest.mark.parametrize("system", ["be brief", ""])
def test_system_prompts_in_a_column_of_their_own(tmp_path, init, system):
    turns = [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "good day"}]
    chats = [{"conversations": turns, "system": "be kind" if i % 2 else system} for i in range(20)]
    (tmp_path / "data" / "chat.jsonl").write_text("\n".join(map(json.dumps, chats)))
    assert columns_of(init(base="gpt2")) == {"messages": "conversations", "system": "system"}
    (tmp_path / "data" / "chat.jsonl").unlink()
    rows = [{"instruction": text(i), "output": text(i + 2), "system": chats[i]["system"]} for i in range(20)]
    (tmp_path / "data" / "instructions.json").write_text(json.dumps(rows))
    assert columns_of(init(base="gpt2")) == {"prompt": "instruction", "answer": "output", "system": "system"}


def test_two_versions_of_the_same_rows_are_asked(tmp_path, init):
    rows = [{"instruction": text(i), "output": text(i + 2)} for i in range(20)]
    (tmp_path / "data" / "a.json").write_text(json.dumps(rows))
    (tmp_path / "data" / "b.json").write_text(json.dumps([{**row, "rejected": "no"} for row in rows]))
    said = init(base="llama")
    assert "versions of one dataset" in said and "a.json alone: tunesmith init data/a.json" in said


def test_questions(tmp_path, init):
    questions = [
        {"id": str(i), "question": text(i), "answers": [{"text": "town", "answer_start": 4}]} for i in range(9)
    ]
    document = {"data": [{"title": "t", "paragraphs": [{"context": "the town " + text(1), "qas": questions}]}]}
    (tmp_path / "data" / "dev-v1.1.json").write_text(json.dumps(document))
    recipe = init()
    assert recipe.data.source.kind == "squad" and recipe.objective.unanswerable is False
    assert recipe.data.source.train.endswith("dev-v1.1.json")


@pytest.mark.parametrize(("base", "modeling"), [("bert", "masked"), ("gpt2", "causal"), ("t5", "span_corruption")])
def test_plain_text_is_learned_as_the_base_learned(tmp_path, init, base, modeling):
    (tmp_path / "data" / "book.txt").write_text("\n\n".join(map(text, range(30))))
    recipe = init(base=base)
    assert recipe.objective.modeling == modeling and recipe.data.source.unit == "paragraph"


def test_two_texts_without_telling_names_are_asked(tmp_path, init):
    rows = [[text(index), text(index + 500)] for index in range(30)]
    write_csv(tmp_path / "data", "train.csv", ["left", "right"], rows)
    said = init(base="t5")
    assert "--objective seq2seq --column source=left --column target=right" in said
    recipe = init("--objective", "seq2seq", "--column", "source=right", "--column", "target=left", base="t5")
    assert columns_of(recipe) == {"source": "right", "target": "left"}


def test_a_question_is_asked_where_somebody_answers(tmp_path, init, monkeypatch):
    monkeypatch.setattr(command, "is_interactive", lambda: True)
    rows = [[text(index), index % 2, index % 3] for index in range(30)]
    write_csv(tmp_path / "data", "train.csv", ["text", "kind", "size"], rows)
    assert columns_of(init(answers="7\n2\n")) == {"text": "text", "label": "size"}


def test_an_encoder_writes_no_text(tmp_path, init):
    rows = [[text(index), text(index + 500)] for index in range(30)]
    write_csv(tmp_path / "data", "train.csv", ["source", "target"], rows)
    assert "is an encoder, which cannot generate text" in init()
    assert init(base="gpt2").objective.kind == "causal_lm"


def test_a_test_file_without_labels_is_left_out(tmp_path, init):
    write_csv(tmp_path / "data", "train.csv", ["text", "label"], labelled(60, "0", "1"))
    write_csv(tmp_path / "data", "test.csv", ["text", "label"], labelled(20, "-1"))
    assert init().data.source.test is None


def test_a_recipe_is_not_overwritten(tmp_path, init, tiny):
    write_csv(tmp_path / "data", "train.csv", ["text", "label"], labelled(60, "0", "1"))
    assert init().name == "data"
    said = CliRunner().invoke(app, ["init", "data", "--base", str(tiny["bert"]), "--out", "made.yaml"])
    assert said.exit_code == 2 and "already exists" in said.output


@pytest.mark.parametrize("name", ["x.csv", "x.json", "x.jsonl", "x.parquet"])
def test_a_file_without_rows_is_one_error(tmp_path, init, name):
    for content in (b"", b"\x00\x01\x02" * 50, b"{", b'{"a": 1}', b"[1, 2]", b'"never closed', b"\xff\xfe\xff" * 9):
        (tmp_path / "data" / name).write_bytes(content)
        assert "DATA" in init(), content


def test_the_recipe_runs_as_it_is(tmp_path, init):
    write_csv(tmp_path / "data", "train.csv", ["text", "topic"], labelled(80, "fare", "delay"))
    init()
    said = CliRunner().invoke(app, ["run", "made.yaml", "--plain", "training.epochs=1"])
    assert said.exit_code == 0, said.output


def test_label_ids_of_which_most_rows_have_one(tmp_path, init):
    labels = ["27", "3", "2,14", "2", "14", "3,27", "27"]
    rows = [f"{text(index)}\t{labels[index % 7]}\tid{index}" for index in range(70)]
    (tmp_path / "data" / "train.tsv").write_text("\n".join(rows) + "\n")
    recipe = init()
    assert recipe.objective.problem_type == "multi_label_classification"
    assert recipe.objective.label_separator == ","


def test_whole_numbers_with_a_name_among_them_are_classes(tmp_path, init):
    write_csv(tmp_path / "data", "train.csv", ["text", "label"], labelled(60, "1", "2", "none"))
    assert init().objective.problem_type == "single_label_classification"


@pytest.mark.parametrize("first, second", [("#1 String", "#2 String"), ("premise", "hypo"), ("question1", "question2")])
def test_names_of_pairs(tmp_path, init, first, second):
    rows = [[*row[:1], text(index + 3), index % 2] for index, row in enumerate(labelled(60, ""))]
    write_csv(tmp_path / "data", "train.csv", [first, second, "is_duplicate"], rows)
    assert columns_of(init()) == {"text": first, "text_pair": second, "label": "is_duplicate"}


def test_the_splits_of_conll_2003(tmp_path, init):
    for place, name in enumerate(("eng.train", "eng.testa", "eng.testb")):
        blocks = ["\n".join(f"{word} NN B-NP O" for word in text(index + 40 * place).split()) for index in range(30)]
        (tmp_path / "data" / name).write_text("\n\n".join([block.replace(" O", " B-X", 1) for block in blocks]) + "\n")
    source = init().data.source
    assert [file.name for split in ("validation", "test") for file in source.files(split)] == ["eng.testa", "eng.testb"]


def test_objects_beside_a_text_are_not_passed_over(tmp_path, init):
    rows = [{"text": text(index), "meta": [{"query_text": "Where?", "answers": ["town"]}]} for index in range(30)]
    data = tmp_path / "data" / "train.json"
    data.write_text(json.dumps(rows))
    assert init().objective.kind == "language_modeling"
    assert "The objects in meta are not read." in init.said
    data.write_text(json.dumps([{"plot": row["text"], "qa": row["meta"]} for row in rows]))
    assert "no objective fits the columns plot, qa" in init()


def test_dialogues_of_texts_alone(tmp_path, init):
    rows = [json.dumps({"dialog": [text(index), text(index + 1)], "act": [1, 2]}) for index in range(30)]
    (tmp_path / "data" / "train.jsonl").write_text("\n".join(rows))
    recipe = init(base="llama")
    assert (recipe.objective.kind, recipe.data.columns.messages) == ("causal_lm", "dialog")
