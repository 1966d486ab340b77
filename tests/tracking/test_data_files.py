"""Which source files are no longer what they were. `pytest tests/tracking/test_data_files.py`."""

from pipeline_lib.tracking.data_files import DataFile, changes


def test_bytes_count_and_places_do_not():
    then = [DataFile("train", "a.csv", "1"), DataFile("train", "b.csv", "2"), DataFile("test", "c.csv", "3")]
    assert list(changes(then, then)) == []
    moved = [DataFile("train", "elsewhere/b.csv", "2"), then[0], then[2]]
    assert list(changes(then, moved)) == []
    now = [DataFile("train", "a.csv", "9"), DataFile("train", "d.csv", "4"), then[2]]
    assert [(file.path, what) for file, what in changes(then, now)] == [
        ("a.csv", "holds other bytes"),
        ("b.csv", "is gone"),
        ("d.csv", "is new"),
    ]


def test_a_file_given_for_another_split_is_another_file():
    then, now = [DataFile("train", "a.csv", "1")], [DataFile("test", "a.csv", "1")]
    assert [(file.split, what) for file, what in changes(then, now)] == [("train", "is gone"), ("test", "is new")]
