"""Which source files are no longer what they were. `pytest tests/tracking/test_data_files.py`."""

from pipeline_lib.store.digests import file_digest
from pipeline_lib.tracking.data_files import DataFile, changes, joint_digest


def test_bytes_count_and_places_do_not():
    then = [DataFile("train", "a.csv", "1"), DataFile("train", "b.csv", "2"), DataFile("test", "c.csv", "3")]
    assert list(changes(then, then)) == []
    moved = [DataFile("train", "elsewhere/b.csv", "2"), then[0], then[2]]
    assert list(changes(then, moved)) == []
    now = [DataFile("train", "a.csv", "9"), DataFile("train", "d.csv", "4"), then[2]]
    assert [(file.path, what) for file, what in changes(then, now)] == [
        ("a.csv", "has changed"),
        ("b.csv", "is gone"),
        ("d.csv", "is new"),
    ]


def test_a_file_given_for_another_split_is_another_file():
    then, now = [DataFile("train", "a.csv", "1")], [DataFile("test", "a.csv", "1")]
    assert [(file.split, what) for file, what in changes(then, now)] == [("train", "is gone"), ("test", "is new")]


def test_a_file_has_grown_where_its_old_bytes_are_still_in_front(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("one\n")
    then = [DataFile("train", str(file), joint_digest([file_digest(file)]), 4)]
    for text, what in (
        ("one\ntwo\n", "has grown by 4 bytes"),
        ("two\none\n", "has changed"),
        ("on", "has changed"),
    ):
        file.write_text(text)
        now = [DataFile("train", str(file), joint_digest([file_digest(file)]), len(text))]
        assert [text for _, text in changes(then, now)] == [what]


def test_either_of_two_aligned_files_counts(tmp_path):
    assert joint_digest(["1" * 64]) == "1" * 32
    assert len({joint_digest(["1" * 64, "2" * 64]), joint_digest(["1" * 64, "3" * 64]), joint_digest(["1" * 64])}) == 3
