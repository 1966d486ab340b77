"""Damaged or odd files of data end in a RecipeError. `pytest tests/data/test_damaged_files.py`"""

import json
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline_lib.data.sources.huggingface import HuggingFace
from pipeline_lib.data.sources.json import Jsonl
from pipeline_lib.data.sources.parquet import Parquet
from pipeline_lib.errors import RecipeError


def write_stream(table, file):
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def saved(folder, state):
    """A data set as `save_to_disk` leaves it, with another state."""
    write_stream(pa.table({"text": ["a", "b"]}), folder / "data.arrow")
    (folder / "state.json").write_text(state)
    return HuggingFace(kind="huggingface", path=str(folder))


def test_offsets_beyond_the_data_do_not_end_the_process(tmp_path):
    file = tmp_path / "data.arrow"
    write_stream(pa.table({"text": ["first text", "second text"]}), file)
    content = file.read_bytes()
    offsets = b"".join(number.to_bytes(4, "little") for number in (0, 10, 21))
    assert content.count(offsets) == 1
    file.write_bytes(content.replace(offsets, offsets[:4] + b"\xff\xff\xff\x7f" + offsets[8:]))
    with pytest.raises(RecipeError, match="cannot be read as Arrow after row 0"):
        list(HuggingFace(kind="huggingface", path=str(tmp_path)).read(file))


@pytest.mark.parametrize(
    "state",
    ["", "[]", "{}", "null", "{" * 10_000, '{"_data_files": 1}', '{"_data_files": [1]}', '{"_data_files": [{}]}']
    + [json.dumps({"_data_files": [{"filename": name}]}) for name in (None, 1, "a\0b", "../data.arrow")],
)
def test_a_damaged_state_is_an_error(tmp_path, state):
    with pytest.raises(RecipeError):
        saved(tmp_path, state).files("train")


@pytest.mark.parametrize("splits", ["[]", "{}", '{"splits": 1}', '{"splits": [null]}', "{"])
def test_a_damaged_list_of_splits_is_an_error(tmp_path, splits):
    (tmp_path / "dataset_dict.json").write_text(splits)
    with pytest.raises(RecipeError):
        saved(tmp_path, "{}").files("train")


def test_times_beyond_those_of_python_are_an_error(tmp_path):
    pq.write_table(pa.table({"time": pa.array([2**62], pa.timestamp("us"))}), tmp_path / "x.parquet")
    source = Parquet(kind="parquet", train=str(tmp_path / "x.parquet"))
    with pytest.raises(RecipeError, match="cannot be read as Parquet after row 0"):
        list(source.read(tmp_path / "x.parquet"))


def test_two_columns_of_one_name_are_an_error_in_arrow_files_too(tmp_path):
    write_stream(pa.table([["a"], ["b"]], names=["text", "text"]), tmp_path / "data.arrow")
    with pytest.raises(RecipeError, match="more than once"):
        list(HuggingFace(kind="huggingface", path=str(tmp_path)).read(tmp_path / "data.arrow"))


def test_labels_of_a_column_that_is_not_there_are_passed_over(tmp_path):
    features = {"other": {"names": ["a"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    write_stream(pa.table({"text": ["a"]}).replace_schema_metadata(metadata), tmp_path / "data.arrow")
    (row,) = HuggingFace(kind="huggingface", path=str(tmp_path)).read(tmp_path / "data.arrow")
    assert row.values == {"text": "a"}


def test_a_key_that_comes_twice_is_found_in_linear_time(tmp_path):
    pairs = [f'"{number}": 1' for number in range(100_000)]
    (tmp_path / "x.jsonl").write_text("{" + ", ".join([*pairs, pairs[-1]]) + "}\n")
    began = time.process_time()
    (row,) = Jsonl(kind="jsonl", train=str(tmp_path / "x.jsonl")).read(tmp_path / "x.jsonl")
    assert "'99999' appears more than once" in row.reason
    assert time.process_time() - began < 5  # it took minutes
