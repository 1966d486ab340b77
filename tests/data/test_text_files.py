"""Text files in any encoding and compression, and files that are no text. `pytest tests/data/test_text_files.py`."""

import bz2
import gzip
import io
import lzma
import os
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline_lib.data.sources.base import Row, Unusable
from pipeline_lib.data.sources.csv import Csv
from pipeline_lib.data.sources.text import Text
from pipeline_lib.errors import RecipeError

TABLE = "text,label\ncafé,x\nnaïve,y\n"
ROWS = [Row(2, {"text": "café", "label": "x"}), Row(3, {"text": "naïve", "label": "y"})]


def read(tmp_path, content, name="a.csv"):
    file = tmp_path / name
    file.write_bytes(content)
    return list(Csv(kind="csv", train=str(file)).read(file))


def arrow_compressed(codec):
    def compress(data):
        buffer = pa.BufferOutputStream()
        with pa.CompressedOutputStream(buffer, codec) as stream:
            stream.write(data)
        return buffer.getvalue().to_pybytes()

    return compress


COMPRESSIONS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": arrow_compressed("zstd"),
    ".lz4": arrow_compressed("lz4"),
}


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_compressed_files_are_read_by_their_content_and_found_by_their_name(tmp_path, suffix):
    packed = COMPRESSIONS[suffix](TABLE.encode())
    assert read(tmp_path, packed, "plain") == ROWS
    assert read(tmp_path, packed, f"A.CSV{suffix.upper()}") == ROWS
    assert Csv(kind="csv", train=str(tmp_path)).files("train") == [tmp_path / f"A.CSV{suffix.upper()}"]


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_a_compressed_file_that_is_cut_off_is_one_error(tmp_path, suffix):
    packed = COMPRESSIONS[suffix](TABLE.encode() * 100)
    with pytest.raises(RecipeError, match="damaged"):
        read(tmp_path, packed[: len(packed) // 2])


def test_a_file_whose_name_is_not_utf8_is_one_error(tmp_path):
    (tmp_path / "a\udcff.csv").write_text(TABLE)
    with pytest.raises(RecipeError, match="a name that is not UTF-8"):
        Csv(kind="csv", train=str(tmp_path)).files("train")


def test_a_file_that_may_not_be_read_is_one_error(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(RecipeError, match=r"a\.csv.*cannot be read \(Permission denied\)"):
        list(Csv(kind="csv", train="a.csv").read(tmp_path / "a.csv"))


def test_a_folder_that_may_not_be_listed_is_one_error(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text(TABLE)
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(RecipeError, match="closed.*cannot be listed"):
        Csv(kind="csv", train=str(tmp_path)).files("train")


def test_text_that_begins_like_bzip2_is_text(tmp_path):
    assert read(tmp_path, b"BZhour,label\na,x\n") == [Row(2, {"BZhour": "a", "label": "x"})]


def zip_of(content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.csv", content)
    return buffer.getvalue()


def test_a_file_of_another_kind_is_named(tmp_path):
    with pytest.raises(RecipeError, match="is a ZIP archive or an Excel workbook, not text"):
        read(tmp_path, zip_of(TABLE))
    pq.write_table(pa.table({"a": [1]}), tmp_path / "b")
    with pytest.raises(RecipeError, match="is a Parquet file, not text. Set `kind: parquet`"):
        read(tmp_path, (tmp_path / "b").read_bytes())


CHINESE = "文本,标签\n" + "今天天气很好,好\n这部电影不好看,坏\n" * 40


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", [TABLE, CHINESE], ids=["western", "chinese"])
def test_wide_encodings_without_a_mark_are_detected(tmp_path, encoding, text):
    assert read(tmp_path, text.encode(encoding)) == read(tmp_path, text.encode(), "b.csv")


@pytest.mark.parametrize("damage", [b"a\0b,x\n", b"\0\0,x\n", b"caf\xe9\0,x\n", b"\0\n"])
def test_zero_bytes_in_utf8_spoil_their_rows_alone(tmp_path, damage):
    rows = read(tmp_path, TABLE.encode() + damage + b"last,z\n")
    assert [row.line for row in rows if isinstance(row, Unusable)] == [4]
    assert rows[-1] == Row(5, {"text": "last", "label": "z"})


def test_carriage_returns_end_lines_where_there_is_no_line_feed(tmp_path):
    assert read(tmp_path, TABLE.replace("\n", "\r").encode()) == ROWS
    file = tmp_path / "a.txt"
    file.write_bytes(b"one\rstill one\ntwo\n")
    texts = [row.values["text"] for row in Text(kind="text", train=str(file)).read(file)]
    assert texts == ["one\rstill one", "two"]
