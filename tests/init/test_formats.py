"""How files are recognised, whatever their names say. `pytest tests/init/test_formats.py`."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline_lib.errors import RecipeError
from pipeline_lib.init.dataset import read_dataset
from pipeline_lib.init.formats import fields_of
from pipeline_lib.init.no_data import NoData
from pipeline_lib.init.proposal import proposals
from pipeline_lib.init.question import Request

ROWS = [[f"a sentence of words {index}", ("good", "bad")[index % 2]] for index in range(40)]


def table(delimiter=",", header="text{}label", quote=""):
    lines = [header.format(delimiter), *(delimiter.join(f"{quote}{cell}{quote}" for cell in row) for row in ROWS)]
    return "\n".join(lines) + "\n"


def objects():
    return [{"text": text, "label": label} for text, label in ROWS]


def fields(tmp_path, name, content, encoding="utf-8"):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return fields_of(file)


def propose(*files):
    dataset = read_dataset(Request(files))
    found = proposals(dataset.train, Request(files))
    return dataset, found[0] if len(found) == 1 else found


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("a.tsv", table("\t"), {"kind": "tsv"}),
        ("a.tsv", table(","), {"kind": "csv"}),
        ("a.tsv", table("\t", quote='"'), {"kind": "csv", "delimiter": "\t"}),
        ("a.tsv", table("\t") + '"one\ntwo"\tgood\n', {"kind": "csv", "delimiter": "\t"}),
        ("a.tsv", table("\t") + '"one" two\tgood\n', {"kind": "tsv"}),
        ("a.tsv", table("\t").replace("a sentence of", '"a" sentence\nof') + "x\ty\n", {"kind": "tsv"}),
        ("a.txt", table("\t"), {"kind": "tsv"}),
        ("a.txt", table("|"), {"kind": "csv"}),
        ("a.txt", table(";").split("\n", 1)[1], {"kind": "csv", "names": ["column1", "column2"]}),
        ("a.txt", table(","), {"kind": "csv"}),
        ("a.txt", "Yes, he said.\nNo, she said.\n" * 20, {"kind": "text", "unit": "line"}),
        ("a.CSV", table(","), {"kind": "csv"}),
        ("a.csv", table(",", header=" {0}text{0}label{0}"), {"kind": "csv"}),
        ("a.csv", "sep=;\n" + table(";"), {"kind": "csv"}),
    ],
)
def test_tables(tmp_path, name, content, expected):
    assert fields(tmp_path, name, content) == expected


def test_the_lines_that_are_looked_at_may_end_within_a_value(tmp_path):
    row = '"one\ntwo\nthree"\t"good"\n'
    assert fields(tmp_path, "a.tsv", "text\tlabel\n" + row * 800) == {"kind": "csv", "delimiter": "\t"}


@pytest.mark.parametrize(
    "name, document, expected",
    [
        ("a.json", objects(), {"kind": "json"}),
        ("a.json", ROWS, {"kind": "json", "names": ["column1", "column2"]}),
        ("a.json", {"data": {"rows": objects()}}, {"kind": "json", "records": "data.rows"}),
        (
            "a.json",
            {"columns": ["text", "label"], "data": ROWS},
            {"kind": "json", "records": "data", "names": ["text", "label"]},
        ),
        ("a.jsonl", objects(), {"kind": "json"}),
        ("a.txt", objects(), {"kind": "json"}),
    ],
)
def test_json_documents(tmp_path, name, document, expected):
    assert fields(tmp_path, name, json.dumps(document)) == expected


@pytest.mark.parametrize(
    "lines, expected",
    [
        (objects(), {"kind": "jsonl"}),
        (ROWS, {"kind": "jsonl", "names": ["column1", "column2"]}),
        (["damaged", *objects()], {"kind": "jsonl"}),
    ],
)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize("around", ["{}", "[\n{}\n]"])
def test_json_lines(tmp_path, name, lines, expected, around):
    content = ",\n".join(map(json.dumps, lines))
    assert fields(tmp_path, name, around.format(content)) in (expected, {**expected, "kind": "json"})


@pytest.mark.parametrize(
    "document, problem",
    [
        ({"train": objects(), "test": objects()}, "rows under train, test"),
        ({"text": ["a", "b"], "label": ["x", "y"]}, "holds columns, not rows"),
        ([["text", "label"], *ROWS], "the first one names the columns"),
        ({"a": 1}, "without an array of objects"),
    ],
)
def test_json_that_no_source_reads(tmp_path, document, problem):
    with pytest.raises(NoData, match=problem):
        fields(tmp_path, "a.json", json.dumps(document))


def test_parquet_and_conllu_by_their_content(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "b")
    assert fields(tmp_path, "a.bin", (tmp_path / "b").read_bytes()) == {"kind": "parquet"}
    word = "\tX\t_\t_\t_\t_\t0\troot\t_\t_"
    sentence = "# text = a b c\n1-2\tab" + word[2:] + "".join(f"\n{n}\tw{word}"[:60] for n in (1, 2)) + "\n\n"
    content = sentence.replace("\tX\t_\t_\t_\t_", "\tw\tX\t_\t_")
    for name in ("a.txt", "a.conll"):
        assert fields(tmp_path, name, content * 30) == {"kind": "conllu"}


def test_a_few_broken_lines_do_not_hide_that_lines_are_words_with_tags(tmp_path):
    content = "a O\nb B-X\nc O\n\n" * 40
    assert fields(tmp_path, "a.conll", content.replace("c O", "c", 1)) == {"kind": "conll"}
    assert fields(tmp_path, "b.conll", content.replace(" ", "\t").replace("b", "New York"))["delimiter"] == "\t"
    assert fields(tmp_path, "c.conll", content.replace("a O", "# O")) == {"kind": "conll"}
    wide = content.replace("a O", "# id domain=en\na _ O").replace("b ", "b _ ").replace("c ", "c _ ")
    with pytest.raises(NoData, match="comments with as many columns"):
        fields(tmp_path, "d.conll", wide)


@pytest.mark.parametrize(
    "text, encoding",
    [
        ("un café très cher à Nîmes – “oui”", "cp1252"),
        ("größer als alle Äpfel", "cp1252"),
        ("这是一个测试句子，今天天气很好", "gb18030"),
        ("これはテストの文です。今日は良い天気", "cp932"),
        ("Это тестовое предложение и хорошая погода", "cp1251"),
    ],
)
def test_the_encoding_is_guessed_and_shown(tmp_path, text, encoding):
    file = tmp_path / "train.csv"
    file.write_bytes(table().replace("sentence of words", text).encode(encoding))
    dataset, proposal = propose(file)
    assert dataset.fields == {"kind": "csv", "encoding": encoding}
    assert proposal.columns == {"text": "text", "label": "label"}
    assert f"It is read as {encoding}" in dataset.unsure[0]
    (tmp_path / "test.csv").write_text(table().replace("sentence of words", text))
    with pytest.raises(RecipeError, match="is UTF-8, but train.csv is"):
        read_dataset(Request((tmp_path,)))


def test_some_lines_in_another_encoding_are_damage(tmp_path):
    lines = [f"café {index},good\n" for index in range(20)]
    content = b"".join(line.encode("latin-1" if index < 5 else "utf-8") for index, line in enumerate(lines))
    assert fields(tmp_path, "a.csv", b"text,label\n" + content) == {"kind": "csv"}


def test_files_that_belong_line_by_line_must_be_equally_long(tmp_path):
    (tmp_path / "seq.in").write_text("a b\n" * 40)
    (tmp_path / "seq.out").write_text("O B-X\n" * 38)
    with pytest.raises(RecipeError, match="have 40 and 38 lines"):
        read_dataset(Request((tmp_path,)))
    (tmp_path / "seq.out").unlink()
    (tmp_path / "label").write_text("flight\nfare\n" * 20)
    with pytest.raises(RecipeError, match="not named as parallel files"):
        read_dataset(Request((tmp_path,)))


def test_tags_that_one_row_lacks_are_tags(tmp_path):
    (tmp_path / "seq.in").write_text("to the town\n" * 100)
    (tmp_path / "seq.out").write_text("O O\n" + "O O B-X\n" * 99)
    _, proposal = propose(tmp_path)
    assert proposal.objective == "token_classification"


@pytest.mark.parametrize("values", [["0.0", "1.0"], [0.0, 1.0], [0.0, "1"]])
def test_whole_numbers_with_a_point_are_classes(tmp_path, values):
    rows = [{"text": text, "label": values[index % 2]} for index, (text, _) in enumerate(ROWS)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    _, proposal = propose(tmp_path)
    assert (proposal.columns["label"], proposal.options) == ("label", {})


def test_a_column_that_is_named_as_a_label_but_is_none_is_not_passed_over(tmp_path):
    lines = [f"a sentence of words;{index / 7:.2f}".replace(".", ",") for index in range(40)]
    (tmp_path / "a.csv").write_text("\n".join(["text;score", *lines]))
    assert propose(tmp_path)[1] == []


def test_parts_of_a_content_are_texts(tmp_path):
    rows = [{"text": [{"type": "text", "text": text}], "label": label} for text, label in ROWS]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert propose(tmp_path)[1].columns == {"text": "text", "label": "label"}


def test_a_name_that_is_not_text_is_one_error(tmp_path):
    (tmp_path / "train-\udcff.csv").write_text(table())
    with pytest.raises(RecipeError, match="a name that is not UTF-8"):
        read_dataset(Request((tmp_path,)))


def test_folders_that_may_be_labels_are_mentioned(tmp_path):
    for index in range(8):
        folder = tmp_path / ("pos", "neg")[index % 2]
        folder.mkdir(exist_ok=True)
        (folder / f"{index}.txt").write_text(f"a review {index}")
    assert "folders neg, pos are not read as labels" in read_dataset(Request((tmp_path,))).unsure[0]


def test_a_sentence_and_its_tags_on_one_line(tmp_path):
    lines = [f"a train to town {index}\tO O O B-city I-city" for index in range(20)]
    (tmp_path / "train.iob").write_text("\n".join(lines) + "\n")
    dataset, proposal = propose(tmp_path / "train.iob")
    assert dataset.train.rows == 20
    assert proposal.objective == "token_classification"


def test_labels_of_fasttext_are_named(tmp_path):
    with pytest.raises(NoData, match="fastText"):
        fields(tmp_path, "cooking.train", "__label__bread __label__hot how long to bake\n__label__soup too salty\n")


def test_a_joined_table_has_a_header(tmp_path):
    assert fields(tmp_path, "a.csv", table() + table()) == {"kind": "csv"}
    headless = "\n".join(f"word{index},{('good', 'bad')[index % 2]}" for index in range(40))
    assert fields(tmp_path, "b.csv", headless) == {"kind": "csv", "names": ["column1", "column2"]}
