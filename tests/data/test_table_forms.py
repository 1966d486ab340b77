"""CSV, JSON lines and CoNLL as programs and people write them. `pytest tests/data/test_table_forms.py`."""

import pytest
from pydantic import TypeAdapter

from pipeline_lib.data.sources import Source
from pipeline_lib.data.sources.base import Row, Unusable
from pipeline_lib.errors import RecipeError

TWO = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]


@pytest.fixture
def read(tmp_path):
    """Writes a file and reads its rows."""

    def read(content, kind="csv", **fields):
        file = tmp_path / "file"
        file.write_text(content, encoding="utf-8", newline="")
        source = TypeAdapter(Source).validate_python({"kind": kind, "train": str(file), **fields})
        return list(source.read(file))

    return read


def values(rows):
    return [row.values for row in rows]


@pytest.mark.parametrize(
    "content",
    [
        "sep=;\r\ntext;label\r\na;x\r\nb;y\r\n",
        '"sep=;"\ntext;label\na;x\nb;y\n',
        "SEP=\t\ntext\tlabel\na\tx\nb\ty\n",
        "text|label\na|x\nb|y\n",
        "text, label\na, x\nb, y\n",
        'text, label\n"a", "x"\n"b", "y"\n',
        "text,label,\na,x,\nb,y,\n",
        "text,label\na,x,\nb,y,,\n",
        "text,label,,\na,x,,\nb,y\n",
        ",text,label\n0,a,x\n1,b,y\n",
        ",,text,label\n0,,a,x\n1,,b,y\n",
        "text,label\na,x\n,\n,\nb,y\n,\n",
        "\n\ntext,label\na,x\n\nb,y\n",
    ],
)
def test_tables_that_spreadsheets_and_pandas_write(read, content):
    assert values(read(content)) == TWO


def test_a_line_that_names_the_delimiter_counts_as_a_line(read):
    assert read("sep=;\ntext;label\na;x\nb\n") == [Row(3, TWO[0]), Unusable(4, "1 field, but the header has 2")]


def test_the_delimiter_is_the_one_that_fits_the_rows(read):
    assert values(read("text, raw;label\na, b;x\nc;y\n")) == [
        {"text, raw": "a, b", "label": "x"},
        {"text, raw": "c", "label": "y"},
    ]
    quoted = 'text;label\n"one;\ntwo, three";x\n' + "a, b;y\n" * 60
    assert values(read(quoted))[0] == {"text": "one;\ntwo, three", "label": "x"}


def test_a_column_named_twice_is_refused_and_two_without_a_name_are_not_read(read):
    with pytest.raises(RecipeError, match="'label' appears more than once"):
        read("text,label,label \na,x,x\n")
    assert values(read("text,,\na,1,2\n")) == [{"text": "a"}]


def test_values_beyond_the_header_are_not_dropped(read):
    assert read("text,label\na,x,more\n") == [Unusable(2, "3 fields, but the header has 2")]
    assert read("text,label\na\n") == [Unusable(2, "1 field, but the header has 2")]


@pytest.mark.parametrize(
    "content",
    [
        '{"text": "a", "label": "x"},\n{"text": "b", "label": "y"},\n',
        '[\n{"text": "a", "label": "x"},\n{"text": "b", "label": "y"}\n]\n',
        '\ufeff{"text": "a", "label": "x"}\n\n \n{"text": "b", "label": "y"}',
    ],
)
def test_json_lines_with_what_an_array_has_around_them(read, content):
    assert values(read(content, "jsonl")) == TWO


def test_comments_before_the_sentences_of_conll_are_skipped(read):
    content = "# sent_id = 1\n# text = a b\na O\nb B-X\n\n# a comment of words\n\n# b\n# O\n#x O\n"
    assert read(content, "conll") == [
        Row(3, {"tokens": ["a", "b"], "tags": ["O", "B-X"]}),
        Row(8, {"tokens": ["#", "#", "#x"], "tags": ["b", "O", "O"]}),
    ]


@pytest.mark.parametrize("kind, between", [("csv", ","), ("tsv", "\t")])
def test_the_header_of_a_joined_file_is_no_row(read, kind, between):
    content = f"text{between}label\na{between}x\n\ufefftext{between}label\nb{between}y\n"
    rows = read(content, kind)
    assert rows.pop(1) == Unusable(3, "repeats the header") and values(rows) == TWO
