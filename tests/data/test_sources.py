"""Each source on tiny files: right rows, right line numbers, and a reason for what cannot be used.

python -m pytest tests/data/test_sources.py
"""

import gzip
import json
import subprocess
import sys

import pytest
from pydantic import TypeAdapter, ValidationError

from pipeline_lib.data.sources import Row, Source, Unusable
from pipeline_lib.errors import RecipeError

BYTE = "the byte 0xff cannot be decoded (set data.source.encoding, such as cp1252)"


def source(kind, **fields):
    return TypeAdapter(Source).validate_python({"kind": kind, **fields})


def written(tmp_path, name, content):
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def read(file, kind, **fields):
    return list(source(kind, train=str(file), **fields).read(file))


# Encodings and compression

ACCENTS = "text,label\ncafé,x\nnaïve,y\n"
CAFE = [Row(2, {"text": "café", "label": "x"}), Row(3, {"text": "naïve", "label": "y"})]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf_is_detected(tmp_path, encoding):
    assert read(written(tmp_path, "a.csv", ACCENTS.encode(encoding)), "csv") == CAFE


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16"])
def test_an_encoding_that_is_set_is_used(tmp_path, encoding):
    assert read(written(tmp_path, "a.csv", ACCENTS.encode(encoding)), "csv", encoding=encoding) == CAFE


def test_bytes_that_an_encoding_does_not_have_spoil_their_line_alone(tmp_path):
    file = written(tmp_path, "a.txt", "好\n".encode("gb18030") + b"\x81\x20\n" + "日\n".encode("gb18030"))
    first, second, third = read(file, "text", encoding="gb18030")
    assert (first, third) == (Row(1, {"text": "好"}), Row(3, {"text": "日"}))
    assert second.reason == "the byte 0x81 cannot be decoded (set data.source.encoding, such as cp1252)"


@pytest.mark.parametrize("encoding", ["klingon", "base64", "rot13", "hex"])
def test_an_unknown_encoding_is_refused(encoding):
    with pytest.raises(ValidationError, match="unknown encoding"):
        source("csv", train="x", encoding=encoding)


def test_zstd_is_read_and_a_damaged_file_named(tmp_path):
    import pyarrow as pa

    packed = pa.compress((ACCENTS * 50).encode(), codec="zstd", asbytes=True)
    file = written(tmp_path, "a.csv.zst", packed)
    assert source("csv", train=str(tmp_path)).files("train") == [file]
    assert read(file, "csv")[:2] == CAFE
    with pytest.raises(RecipeError, match="b.csv.zst.*damaged zstd"):
        read(written(tmp_path, "b.csv.zst", packed[:20]), "csv")


# Which files


def test_a_split_takes_a_file_a_glob_a_folder_or_a_list(tmp_path):
    for name in ("b.csv", "a.csv.gz", "deep/c.csv", "notes.txt", ".hidden.csv"):
        written(tmp_path, name, "")

    def names(train):
        return [file.name for file in source("csv", train=train).files("train")]

    assert names(str(tmp_path / "b.csv")) == ["b.csv"]
    assert names(str(tmp_path / "*.csv")) == ["b.csv"]
    assert names(str(tmp_path)) == ["a.csv.gz", "b.csv", "c.csv"]
    assert names([str(tmp_path / "deep"), str(tmp_path / "b.csv")]) == ["c.csv", "b.csv"]


def test_hidden_folders_are_no_data_and_linked_ones_are_read_once(tmp_path):
    for name in ("data/.ipynb_checkpoints/a.csv", "data/deep/.git/b.csv", "data/c.csv", "else/d.csv"):
        written(tmp_path, name, "")
    (tmp_path / "data" / "more").symlink_to("../else")
    (tmp_path / "data" / "round").symlink_to("..")
    (tmp_path / "else" / "back").symlink_to("../data")
    for train in (tmp_path / "data", tmp_path / "data" / "**" / "*.csv"):
        assert sorted(file.name for file in source("csv", train=str(train)).files("train")) == ["c.csv", "d.csv"]


@pytest.mark.parametrize("path", ["data", "data/*.csv", "data [1]/*.csv", "data [1]/b.csv", "data [[]1]/*.csv"])
def test_brackets_in_the_recipes_folder_are_no_pattern(tmp_path, path):
    folder = tmp_path / "runs [v2]"
    written(folder, "data/a.csv", "")
    written(folder, "data [1]/b.csv", "")
    found = TypeAdapter(Source).validate_python({"kind": "csv", "train": path}, context={"folder": folder})
    if path == "data [1]/*.csv":  # a pattern of the user's own, which stands for `data 1`
        with pytest.raises(RecipeError, match="no such file"):
            found.files("train")
    else:
        assert [file.stem for file in found.files("train")] == ["b" if "1" in path else "a"]


def test_a_split_that_is_left_out_has_no_files(tmp_path):
    assert source("text", train="x").files("test") == []


@pytest.mark.parametrize("path", ["none.csv", "*.csv", "empty"])
def test_a_missing_file_names_the_field_and_the_path(tmp_path, path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match="data.source.test = .*no such file"):
        source("csv", train="x", test=str(tmp_path / path)).files("test")


def test_the_rows_of_a_file_depend_on_that_file_alone(tmp_path):
    assert source("csv", train="x").parts(tmp_path / "a.csv") == [tmp_path / "a.csv"]


def test_an_unknown_kind_or_field_is_refused():
    with pytest.raises(ValidationError, match="expected tags: .*'csv'"):
        source("cvs", train="x")
    with pytest.raises(ValidationError, match="seperator"):
        source("csv", train="x", seperator=";")


def test_every_field_has_a_description():
    for name, model in TypeAdapter(Source).json_schema()["$defs"].items():
        assert all(field.get("description") for field in model["properties"].values()), name


def test_the_sources_load_without_heavy_libraries():
    heavy = {"pandas", "datasets", "pyarrow", "torch", "transformers"}
    code = f"import sys, pipeline_lib.data.sources; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


# Csv and Tsv


def test_csv_reads_quotes_crlf_and_byte_order_mark(tmp_path):
    file = written(tmp_path, "a.csv", '\ufefftext,label\r\n"a, ""b""",x\r\n\r\nc,y\r\n')
    assert read(file, "csv") == [
        Row(2, {"text": 'a, "b"', "label": "x"}),
        Row(4, {"text": "c", "label": "y"}),
    ]


def test_csv_counts_the_lines_of_quoted_values(tmp_path):
    file = written(tmp_path, "a.csv", 'text,label\n"one\ntwo\n",x\nthree,y\n')
    assert read(file, "csv") == [
        Row(2, {"text": "one\ntwo\n", "label": "x"}),
        Row(5, {"text": "three", "label": "y"}),
    ]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("kind, mark", [("csv", ","), ("tsv", "\t")])
def test_names_stand_for_the_header_that_a_file_lacks(tmp_path, kind, mark, ending):
    file = written(tmp_path, "a", f"a{mark}x{ending}b{mark}y")
    rows = [Row(1, {"text": "a", "label": "x"}), Row(2, {"text": "b", "label": "y"})]
    assert read(file, kind, names=["text", "label"]) == rows


def test_csv_takes_another_delimiter_and_gzip(tmp_path):
    file = written(tmp_path, "a.csv.gz", gzip.compress("text;label\nä, b;x\n".encode()))
    assert read(file, "csv", delimiter=";") == [Row(2, {"text": "ä, b", "label": "x"})]


@pytest.mark.parametrize("delimiter", ["", ";;", '"', "\n"])
def test_csv_refuses_a_delimiter_that_cannot_be_one(delimiter):
    with pytest.raises(ValidationError, match="delimiter"):
        source("csv", train="x", delimiter=delimiter)


def test_tsv_takes_quotes_as_they_are(tmp_path):
    file = written(tmp_path, "a.tsv", 'text\tlabel\n"open\tx\na "b" \'c\ty\n\r\n \t\n')
    assert read(file, "tsv") == [
        Row(2, {"text": '"open', "label": "x"}),
        Row(3, {"text": 'a "b" \'c', "label": "y"}),
        Row(5, {"text": " ", "label": ""}),
    ]


@pytest.mark.parametrize("kind, mark", [("csv", ","), ("tsv", "\t")])
def test_broken_rows_are_named_and_the_others_read(tmp_path, kind, mark):
    lines = [b"text,label", b"a,x", b"b", b"c,x,y", b"d\0,x", b"\xff,x", b"e,y"]
    file = written(tmp_path, "a", b"\n".join(lines).replace(b",", mark.encode()))
    assert read(file, kind) == [
        Row(2, {"text": "a", "label": "x"}),
        Unusable(3, "1 field, but the header has 2"),
        Unusable(4, "3 fields, but the header has 2"),
        Unusable(5, "a NUL character"),
        Unusable(6, BYTE),
        Row(7, {"text": "e", "label": "y"}),
    ]


def test_an_unclosed_quote_counts_every_line_that_it_swallowed(tmp_path):
    file = written(tmp_path, "a.csv", 'text,label\na,x\n"b,x\nc,y\nd,y\n')
    reason = "a quote that is never closed in the record of lines 3 to 5"
    assert read(file, "csv") == [Row(2, {"text": "a", "label": "x"}), *(Unusable(n, reason) for n in (3, 4, 5))]


def test_a_quote_that_closes_in_the_wrong_place_costs_its_own_record_only(tmp_path):
    file = written(tmp_path, "a.csv", 'text,label\n"b" c,x\n"d\n"e",y\nf,y\n')
    rows = read(file, "csv")
    assert [row.line for row in rows if isinstance(row, Unusable)] == [2, 3, 4]
    assert rows[0] == Unusable(2, "',' expected after '\"'")
    assert rows[-1] == Row(5, {"text": "f", "label": "y"})


def test_csv_takes_long_texts(tmp_path):
    file = written(tmp_path, "a.csv", f"text\n{'a' * 1_000_000}\n")
    assert len(read(file, "csv")[0].values["text"]) == 1_000_000


@pytest.mark.parametrize(
    "content, problem",
    [
        ("", "empty file"),
        ("a,a\n", "'a' appears more than once"),
        (b"\xff\n", "0xff.*encoding"),
        ('"a\n', "never closed"),
    ],
)
def test_a_header_that_cannot_be_used_is_refused(tmp_path, content, problem):
    with pytest.raises(RecipeError, match=problem):
        read(written(tmp_path, "a.csv", content), "csv")


def test_names_must_differ():
    with pytest.raises(ValidationError, match="'a' appears more than once"):
        source("tsv", train="x", names=["a", "b", "a"])


def test_a_damaged_gzip_file_is_named(tmp_path):
    file = written(tmp_path, "a.csv.gz", gzip.compress(b"text\n" + b"abc\n" * 1000)[:-12])
    with pytest.raises(RecipeError, match="a.csv.gz.*damaged gzip"):
        read(file, "csv")


# Json and Jsonl


def test_json_reads_an_array_of_objects_and_keeps_lists(tmp_path):
    file = written(tmp_path, "a.json", '[{"a": ["x", "y"]}, 3, {"a": "\\ud800"}]')
    assert read(file, "json") == [
        Row(1, {"a": ["x", "y"]}),
        Unusable(2, "3 is not an object"),
        Unusable(3, "a lone surrogate, which is not a character"),
    ]


def test_json_reads_an_array_under_a_dotted_key(tmp_path):
    file = written(tmp_path, "a.json", '{"data": {"rows": [{"a": 1}]}}')
    assert read(file, "json", records="data.rows") == [Row(1, {"a": 1})]
    for wrong in (None, "rows", "data.rows.a"):
        with pytest.raises(RecipeError, match="data.source.records"):
            read(file, "json", records=wrong)


def test_broken_json_names_the_file_and_the_line(tmp_path):
    with pytest.raises(RecipeError, match="a.json.*line 2 column 1"):
        read(written(tmp_path, "a.json", "[{},\n"), "json")


def test_jsonl_names_broken_lines_and_reads_the_others(tmp_path):
    lines = [b'\xef\xbb\xbf{"a": "\\u00e4"}\r', b"", b'{"a": ', b"[1]", b'{"a": "\xff"}', b"[" * 100_000, b'{"a": "z"}']
    rows = read(written(tmp_path, "a.jsonl", b"\n".join(lines)), "jsonl")
    assert rows[:1] + rows[-1:] == [Row(1, {"a": "ä"}), Row(7, {"a": "z"})]
    assert [row.line for row in rows[1:-1]] == [3, 4, 5, 6]
    assert [row.reason[:12] for row in rows[1:-1]] == ["invalid JSON", "[1] is not a", "the byte 0xf", "invalid JSON"]


# Parquet


def test_parquet_reads_rows_over_batches(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": range(3000), "b": [["x"]] * 3000}), tmp_path / "a.parquet", row_group_size=700)
    rows = read(tmp_path / "a.parquet", "parquet")
    assert rows == [Row(n + 1, {"a": n, "b": ["x"]}) for n in range(3000)]


def test_a_file_that_is_no_parquet_is_named(tmp_path):
    with pytest.raises(RecipeError, match="a.parquet.*cannot be read as Parquet"):
        read(written(tmp_path, "a.parquet", "text,label\n"), "parquet")


# HuggingFace


@pytest.fixture
def dataset():
    import datasets

    labels = datasets.ClassLabel(names=["no", "yes"])
    features = datasets.Features({"text": datasets.Value("string"), "label": labels, "tags": datasets.List(labels)})
    rows = {"text": ["a", "b", "c"], "label": [0, 1, -1], "tags": [[0, 1], [], None]}
    return datasets.Dataset.from_dict(rows, features=features)


A = {"text": "a", "label": "no", "tags": ["no", "yes"]}
B = {"text": "b", "label": "yes", "tags": []}
C = {"text": "c", "label": None, "tags": None}


def saved_rows(split="train", **fields):
    given = source("huggingface", **fields)
    return [row for file in given.files(split) for row in given.read(file)]


def test_a_saved_dataset_is_read_with_the_names_of_its_labels(tmp_path, dataset):
    dataset.save_to_disk(tmp_path / "set")
    assert saved_rows(path=str(tmp_path / "set")) == [Row(1, A), Row(2, B), Row(3, C)]


def test_the_splits_of_a_saved_dictionary_are_read(tmp_path, dataset):
    import datasets

    datasets.DatasetDict({"train": dataset, "dev": dataset.select([1])}).save_to_disk(tmp_path / "set")
    fields = {"path": str(tmp_path / "set"), "validation": "dev", "test": "exam"}
    assert saved_rows("validation", **fields) == [Row(1, B)]
    with pytest.raises(RecipeError, match="data.source.test = 'exam': no such split. Choose one of train, dev"):
        saved_rows("test", **fields)


def test_a_selection_is_read_as_selected(tmp_path, dataset):
    dataset.select([2, 0]).save_to_disk(tmp_path / "set")
    assert saved_rows(path=str(tmp_path / "set")) == [Row(1, C), Row(2, A)]


def test_a_selection_kept_beside_the_data_is_refused(tmp_path, dataset):
    dataset.save_to_disk(tmp_path / "set")
    state = json.loads((tmp_path / "set/state.json").read_text())
    state["_indices_data_files"] = [{"filename": "indices.arrow"}]  # as datasets 1.x wrote it
    (tmp_path / "set/state.json").write_text(json.dumps(state))
    with pytest.raises(RecipeError, match="flatten_indices"):
        saved_rows(path=str(tmp_path / "set"))


def test_a_dataset_in_several_files_is_read_in_order(tmp_path, dataset):
    dataset.save_to_disk(tmp_path / "set", num_shards=3)
    assert [row.values["text"] for row in saved_rows(path=str(tmp_path / "set"))] == ["a", "b", "c"]


def test_a_folder_beside_the_recipe_is_found(tmp_path, dataset):
    dataset.save_to_disk(tmp_path / "set")
    fields = {"kind": "huggingface", "path": "set"}
    given = TypeAdapter(Source).validate_python(fields, context={"folder": str(tmp_path)})
    assert given.path == str(tmp_path / "set")
    assert source("huggingface", path="org/set").path == "org/set"


def test_a_folder_that_holds_no_saved_dataset_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="not a data set written by `save_to_disk`"):
        saved_rows(path=str(tmp_path))


def test_a_hub_dataset_is_read_from_the_cache(tmp_path, dataset, monkeypatch):
    import datasets

    dataset.save_to_disk(tmp_path / "set")
    found = datasets.DatasetDict({"train": datasets.load_from_disk(tmp_path / "set")})
    requests = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *given, **named: requests.append((given, named)) or found)
    fields = {"path": "org/set", "name": "en", "revision": "abc", "test": "test"}
    assert saved_rows(**fields) == [Row(1, A), Row(2, B), Row(3, C)]
    assert requests == [(("org/set", "en"), {"revision": "abc"})]
    with pytest.raises(RecipeError, match="Choose one of train"):
        saved_rows("test", **fields)


@pytest.mark.parametrize("error", ["DatasetNotFoundError", "ConnectionError"])
def test_a_hub_dataset_out_of_reach_names_the_mend(monkeypatch, error):
    import datasets

    def fail(*_, **__):
        raise getattr(datasets.exceptions, error, ConnectionError)("away")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(RecipeError, match=r"data.source.path = 'org/set'.*away.*Check the id"):
        saved_rows(path="org/set")


# Conll


def test_conll_reads_sentences(tmp_path):
    content = '-DOCSTART- O\n\n"\tO\n#x\tB-a\n\t\n\na\u00a0b\tO\r\n\r\nc O'
    assert read(written(tmp_path, "a.conll", content), "conll") == [
        Row(3, {"tokens": ['"', "#x"], "tags": ["O", "B-a"]}),
        Row(7, {"tokens": ["a\u00a0b"], "tags": ["O"]}),
        Row(9, {"tokens": ["c"], "tags": ["O"]}),
    ]


def test_conll_names_each_column_of_the_file(tmp_path):
    file = written(tmp_path, "a.conll", "-DOCSTART- -X- O\nEU NNP B-ORG\nrejects VBZ O\n")
    rows = [Row(2, {"tokens": ["EU", "rejects"], "pos": ["NNP", "VBZ"], "tags": ["B-ORG", "O"]})]
    assert read(file, "conll", names=["tokens", "pos", "tags"]) == rows


def test_conll_keeps_spaces_inside_tokens_where_a_delimiter_is_given(tmp_path):
    file = written(tmp_path, "a.conll", "New York\tB-loc\n")
    assert read(file, "conll", delimiter="\t") == [Row(1, {"tokens": ["New York"], "tags": ["B-loc"]})]


def test_a_sentence_with_a_broken_line_names_it(tmp_path):
    content = b"a\tO\nb\n\nc\tO\n\nd\tO\n\xff\tO\n"
    assert read(written(tmp_path, "a.conll", content), "conll") == [
        Unusable(1, "line 2: 1 column, but `names` has 2"),
        Row(4, {"tokens": ["c"], "tags": ["O"]}),
        Unusable(6, "line 7: " + BYTE),
    ]


# Squad


def squad(*questions):
    return json.dumps({"data": [{"title": "T", "paragraphs": [{"context": "Käse 😀 ist gut", "qas": questions}]}]})


def test_squad_reads_answers_and_impossible_questions(tmp_path):
    one = {"id": "1", "question": "?", "answers": [{"text": "ist", "answer_start": 7}]}
    two = {"id": "2", "question": "??", "answers": [], "is_impossible": True}
    rows = read(written(tmp_path, "a.json", squad(one, two)), "squad")
    same = {"title": "T", "context": "Käse 😀 ist gut"}
    found = {"text": ["ist"], "answer_start": [7]}
    none = {"text": [], "answer_start": []}
    assert rows == [
        Row(1, {"id": "1", **same, "question": "?", "answers": found, "is_impossible": False}),
        Row(2, {"id": "2", **same, "question": "??", "answers": none, "is_impossible": True}),
    ]


def test_squad_names_questions_that_cannot_be_used(tmp_path):
    moved = {"id": "1", "question": "?", "answers": [{"text": "ist", "answer_start": 8}]}
    before = {"id": "1", "question": "?", "answers": [{"text": "gut", "answer_start": -3}]}
    rows = read(written(tmp_path, "a.json", squad(moved, before, {"id": "3"}, 4)), "squad")
    assert [row.line for row in rows] == [1, 2, 3, 4]
    assert rows[0] == Unusable(1, "the answer 'ist' is not at character 8 of the context")
    assert rows[2] == Unusable(3, "not a SQuAD question: KeyError('question')")
    assert all(isinstance(row, Unusable) for row in rows)


def test_a_file_that_is_no_squad_is_named(tmp_path):
    with pytest.raises(RecipeError, match="a.json.*not SQuAD JSON"):
        read(written(tmp_path, "a.json", '[{"a": 1}]'), "squad")


# CoNLL-U

CONLLU = """# newdoc
# sent_id = s1
# text = Im Haus
1-2\tIm\t_\t_\t_\t_\t_\t_\t_\t_
1\tIn\tin\tADP\t_\t_\t0\troot\t_\t_
2\tdem\tder\tDET\t_\t_\t3\tdet\t_\t_
3\tHaus 1\tHaus\tNOUN\t_\t_\t1\tnmod\t_\t_
3.1\tghost\t_\tX\t_\t_\t_\t_\t_\t_

# alone

1\tJa\t_
\n"""


def test_conllu_reads_words_and_names_broken_lines(tmp_path):
    first, second = read(written(tmp_path, "a.conllu", CONLLU), "conllu")
    assert first.line == 1 and second == Unusable(12, "line 12: 3 columns, but CoNLL-U has 10")
    assert first.values["form"] == ["In", "dem", "Haus 1"] and first.values["upos"] == ["ADP", "DET", "NOUN"]
    assert (first.values["sent_id"], first.values["text"]) == ("s1", "Im Haus")


# YAML

YAML = """\
# moods
---
- text: |
    Fine.

    - a dash
  label: glad
- {text: no rain, "tags": [a, b], score: 0.5}

-
  text: 2024-01-31
"""


@pytest.mark.parametrize("indent", ["", "  "])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_yaml_reads_a_list_of_mappings(tmp_path, indent, ending):
    text = "".join(
        f"{indent * (line[:1] not in ('', '#') and line != '---')}{line}{ending}" for line in YAML.split("\n")
    )
    assert read(written(tmp_path, "a.yaml", text), "yaml") == [
        Row(3, {"text": "Fine.\n\n- a dash\n", "label": "glad"}),
        Row(8, {"text": "no rain", "tags": ["a", "b"], "score": 0.5}),
        Row(10, {"text": "2024-01-31"}),
    ]


def test_yaml_names_broken_items_and_reads_the_others(tmp_path):
    items = [
        b"a: 1",
        b"a: [",
        b"b",
        b"{1: x}",
        b"a: 1\n  a: 2",
        b"a: *x",
        b'a: "\xff"',
        b"[" * 1000,
        b"a: !!python/object:x {}",
    ]
    rows = read(written(tmp_path, "a.yml", b"".join(b"- " + item + b"\n" for item in [*items, b"a: z"])), "yaml")
    assert rows[:1] + rows[-1:] == [Row(1, {"a": 1}), Row(11, {"a": "z"})]
    assert [row.line for row in rows[1:-1]] == [2, 3, 4, 5, 7, 8, 9, 10]
    assert rows[2:4] == [Unusable(3, "'b' is not a mapping"), Unusable(4, "the key 1 is not a text; put it in quotes")]
    assert rows[4] == Unusable(5, "invalid YAML, counted from this line: line 2: 'a' appears twice")
    assert rows[6].reason == BYTE


@pytest.mark.parametrize("text", ["rows:\n- a: 1\n", "[{a: 1}]\n", "text\n"])
def test_what_is_no_yaml_list_is_refused(tmp_path, text):
    with pytest.raises(RecipeError, match=r"a\.yaml.*line 1 does not start an item of a YAML list"):
        read(written(tmp_path, "a.yaml", text), "yaml")


# Arrays, separators, names that stand twice


def test_rows_may_be_arrays_where_their_columns_are_named(tmp_path):
    lines = written(tmp_path, "a.jsonl", '["a", 1]\n["b"]\n')
    assert read(lines, "jsonl", names=["text", "label"]) == [
        Row(1, {"text": "a", "label": 1}),
        Unusable(2, "1 value, but `names` has 2"),
    ]
    assert read(lines, "jsonl")[0].reason.endswith("is not an object (set data.source.names for rows that are arrays)")
    assert read(written(tmp_path, "a.json", '[["a"]]'), "json", names=["text"]) == [Row(1, {"text": "a"})]


def test_a_duplicate_key_is_reported(tmp_path):
    file = written(tmp_path, "a.jsonl", '{"a": 1, "b": 2, "a": 3}\n')
    assert read(file, "jsonl") == [Unusable(1, "the key 'a' appears more than once")]


@pytest.mark.parametrize("first, delimiter", [("text;label", ";"), ('"text";"label"', ";"), ("text\tlabel", "\t")])
def test_a_csv_without_commas_is_cut_at_what_it_has(tmp_path, first, delimiter):
    file = written(tmp_path, "a.csv", f"{first}\na, b{delimiter}x\n")
    assert read(file, "csv") == [Row(2, {"text": "a, b", "label": "x"})]


def test_parquet_names_class_labels_and_refuses_a_column_that_stands_twice(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    feature = {"names": ["no", "yes"], "_type": "ClassLabel"}
    features = {"label": feature, "labels": {"feature": feature, "_type": "Sequence"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table({"label": [1, 0, -1, None], "labels": [[1, 0], [], [1], None]})
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "a.parquet")
    assert [row.values for row in read(tmp_path / "a.parquet", "parquet")] == [
        {"label": "yes", "labels": ["yes", "no"]},
        {"label": "no", "labels": []},
        {"label": None, "labels": ["yes"]},
        {"label": None, "labels": None},
    ]
    pq.write_table(pa.table([[1], [2]], names=["a", "a"]), tmp_path / "b.parquet")
    with pytest.raises(RecipeError, match="b.parquet.*the column 'a' appears more than once"):
        read(tmp_path / "b.parquet", "parquet")


def test_arrow_types_of_all_sizes_are_read(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "dictionary": pa.array(["a"]).dictionary_encode(),
        "large": pa.array(["a"], pa.large_string()),
        "lists": pa.array([["a"]], pa.large_list(pa.large_string())),
        "binary": pa.array([b"a"], pa.large_binary()),
        "nested": pa.array([{"x": [{"y": "a"}]}]),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    values = {"dictionary": "a", "large": "a", "lists": ["a"], "binary": b"a", "nested": {"x": [{"y": "a"}]}}
    assert read(tmp_path / "a.parquet", "parquet") == [Row(1, values)]


# Parallel

PAIR = {"source_language": "en", "target_language": "de"}


def test_parallel_reads_pairs_and_names_empty_lines(tmp_path):
    file = written(tmp_path, "a.en-de.en.gz", gzip.compress(b"one\r\ntwo\n\nfour\r!\n\n"))
    written(tmp_path, "a.en-de.de.gz", gzip.compress(b"eins\n \ndrei\nvier\n\xff\n"))
    assert read(file, "parallel", **PAIR) == [
        Row(1, {"source": "one", "target": "eins"}),
        Unusable(2, "the target line is empty"),
        Unusable(3, "the source line is empty"),
        Row(4, {"source": "four\r!", "target": "vier"}),
        Unusable(5, "the source line is empty"),
    ]


def test_both_files_decide_the_rows(tmp_path):
    files = [written(tmp_path, name, "x\n") for name in ("a.en", "a.de")]
    written(tmp_path, "README", "")
    given = source("parallel", train=str(tmp_path), **PAIR)
    assert given.files("train") == files[:1]
    assert given.parts(files[0]) == files


def test_bytes_that_are_no_utf8_name_their_side(tmp_path):
    file = written(tmp_path, "a.en", "x\n")
    written(tmp_path, "a.de", b"\xff\n")
    assert read(file, "parallel", **PAIR) == [
        Unusable(1, "the byte 0xff cannot be decoded (set data.source.encoding, such as cp1252) in the target line")
    ]


@pytest.mark.parametrize("source_lines, target_lines", [(2, 3), (3, 1)])
def test_different_line_counts_name_both_files(tmp_path, source_lines, target_lines):
    file = written(tmp_path, "a.en", "x\n" * source_lines)
    written(tmp_path, "a.de", "x\n" * target_lines)
    expected = f"a.en has {source_lines} lines and .*a.de has {target_lines} lines"
    with pytest.raises(RecipeError, match=expected):
        read(file, "parallel", **PAIR)


def test_a_missing_target_or_an_odd_name_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="target_language = 'de': no file .*a.de"):
        read(written(tmp_path, "a.en", "x\n"), "parallel", **PAIR)
    with pytest.raises(RecipeError, match="source_language = 'en': not a part of the file name"):
        read(written(tmp_path, "a.txt", "x\n"), "parallel", **PAIR)
    with pytest.raises(ValidationError, match="must be different"):
        source("parallel", train="x", source_language="en", target_language="en")


# Text


@pytest.mark.parametrize(
    "unit, rows",
    [
        ("line", [(2, "a"), (3, " b"), (5, "c")]),
        ("paragraph", [(2, "a\r\n b"), (5, "c")]),
        ("file", [(1, "\r\na\r\n b\r\n \t\nc\n")]),
    ],
)
def test_text_is_cut_into_units(tmp_path, unit, rows):
    file = written(tmp_path, "a.txt", "\r\na\r\n b\r\n \t\nc\n")
    assert read(file, "text", unit=unit) == [Row(line, {"text": text}) for line, text in rows]


def test_text_names_lines_that_cannot_be_used(tmp_path):
    file = written(tmp_path, "a.txt", b"a\n\xff\n\0\n")
    assert read(file, "text") == [
        Row(1, {"text": "a"}),
        Unusable(2, BYTE),
        Unusable(3, "a NUL character"),
    ]
