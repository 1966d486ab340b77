"""Which row is for training, validation and test, and what is told of the rows that are for none.

pytest tests/data/test_splits.py
"""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline_lib.data.hash_split import RowLabels, draw_splits
from pipeline_lib.data.prepared import read_labels, read_split
from pipeline_lib.data.splits import SPLITS
from pipeline_lib.errors import RecipeError
from pipeline_lib.pipeline import steps
from pipeline_lib.recipe.schema import check
from pipeline_lib.store.digests import file_digest

SHARES = {"test": 0.2, "validation": 0.1}


def random_keys(rows, seed=0, different=None):
    """Keys as a hash gives them; with `different`, only that many differ."""
    pool = np.random.default_rng(seed).integers(2**64, size=different or rows, dtype=np.uint64)
    return pool if different is None else np.random.default_rng(seed).choice(pool, rows)


def random_strata(rows, labels, seed=0):
    return np.random.default_rng(seed).choice([f"label {index}" for index in range(labels)], rows)


def drawn(keys, shares, labels, seed, **how):
    """The name of each row's split."""
    labels = RowLabels.one_each(labels) if isinstance(labels, np.ndarray) else labels
    codes = draw_splits(keys, {SPLITS.index(name): share for name, share in shares.items()}, labels, seed, **how)
    return np.array(SPLITS)[codes]


def share_of(names, name):
    return float((names == name).mean())


# Draws


def test_each_label_gives_its_exact_share():
    strata = np.repeat(["rare", "common", "most"], [30, 170, 1800])
    names = drawn(random_keys(2000), SHARES, strata, seed=7)
    for label, size in zip(*np.unique(strata, return_counts=True), strict=True):
        for split, share in SHARES.items():
            assert (names[strata == label] == split).sum() == round(share * size)


def test_without_strata_the_shares_are_those_of_the_whole():
    names = drawn(random_keys(1000), SHARES, None, seed=7)
    assert [(names == split).sum() for split in ("test", "validation", "train")] == [200, 100, 700]


def test_where_nearly_every_row_has_its_own_label_the_shares_are_those_of_the_whole():
    names = drawn(random_keys(1000), SHARES, random_strata(1000, 900), seed=7)
    assert (names == "test").sum() == 200


@pytest.mark.parametrize("rows, labels", [(250, 50), (40, 20), (60, 59), (30, 30)])
def test_small_labels_give_their_share_jointly_and_keep_a_row(rows, labels):
    strata = np.arange(rows) % labels
    names = drawn(random_keys(rows), SHARES, strata, seed=7)
    assert set(strata[names == "train"]) == set(range(labels))
    spare = rows - labels
    assert (names == "test").sum() == min(round(0.2 * rows), -(-spare * 2 // 3))
    assert (names == "validation").sum() == min(round(0.1 * rows), spare // 3)


def test_groups_that_hold_the_last_rows_of_a_label_are_trained_on_whatever_the_shares():
    keys = random_keys(400, different=60)
    strata = random_strata(400, 40)
    for how in ({}, {"stratify": False}):
        names = drawn(keys, {"test": 0.6, "validation": 0.39}, strata, 7, **how)
        assert set(strata[names == "train"]) == set(strata)
        assert len({(key, name) for key, name in zip(keys, names, strict=True)}) == len(set(keys))


@pytest.mark.parametrize("stratify", [True, False])
def test_of_several_labels_each_keeps_a_row_and_common_ones_their_share(stratify):
    random = np.random.default_rng(3)
    chances = np.array([0.5, 0.2, 0.1, 0.03, 0.01, *[0.002] * 10])
    has = random.random((3000, len(chances))) < chances
    labels = RowLabels(*has.nonzero())
    names = drawn(random_keys(3000), SHARES, labels, 7, stratify=stratify)
    assert has[names == "train"].any(0)[has.any(0)].all()
    for index in range(4):
        of_label = names[has[:, index]]
        assert share_of(of_label, "test") == pytest.approx(0.2, abs=0.06)
    assert share_of(names, "test") == pytest.approx(0.2, abs=0.005)


def test_new_rows_of_new_labels_leave_most_old_rows_where_they_were():
    keys, strata = random_keys(2200), np.append(random_strata(2000, 30), random_strata(200, 90, seed=5))
    before, after = drawn(keys[:2000], SHARES, strata[:2000], 7), drawn(keys, SHARES, strata, 7)
    assert (before == after[:2000]).mean() > 0.9


def test_no_share_leaves_every_row_for_training():
    assert set(drawn(random_keys(100), {}, None, seed=7)) == {"train"}


@pytest.mark.parametrize("strata", [None, np.array([], np.int64)])
def test_no_rows_are_shared_out_as_none(strata):
    assert len(drawn(np.array([], np.uint64), SHARES, strata, seed=7)) == 0


def test_shares_of_more_than_everything_leave_nothing():
    assert set(drawn(random_keys(100), {"test": 0.6, "validation": 0.6}, None, seed=7)) == {"test", "validation"}


def test_a_draw_is_the_same_every_time_and_in_any_order_of_rows():
    keys, strata = random_keys(500), random_strata(500, 4)
    names, order = drawn(keys, SHARES, strata, 7), np.random.default_rng(1).permutation(500)
    np.testing.assert_array_equal(drawn(keys, SHARES, strata, 7), names)
    np.testing.assert_array_equal(drawn(keys[order], SHARES, strata[order], 7), names[order])


def test_two_seeds_have_no_more_in_common_than_chance_has():
    keys = random_keys(10_000)
    tests = [drawn(keys, SHARES, None, seed) == "test" for seed in (0, 1, 2, 3, 7, 2**32 - 1)]
    for index, one in enumerate(tests):
        for other in tests[:index]:
            assert (one & other).mean() == pytest.approx(0.2 * 0.2, abs=0.01)


@pytest.mark.parametrize("seed", range(25))
def test_equal_keys_never_part(seed):
    rows = 50 + 40 * seed
    keys = random_keys(rows, seed, different=rows // 3)
    for strata in (None, random_strata(rows, 3, seed)):  # also where equal texts have different labels
        names = drawn(keys, SHARES, strata, seed)
        homes = {(key, name) for key, name in zip(keys.tolist(), names.tolist(), strict=True)}
        assert len(homes) == len(set(keys.tolist()))


def test_duplicates_cost_the_shares_little():
    names = drawn(random_keys(3000, different=1500), SHARES, random_strata(3000, 3), seed=7)
    assert share_of(names, "test") == pytest.approx(0.2, abs=0.01)
    assert share_of(names, "validation") == pytest.approx(0.1, abs=0.01)


def test_new_rows_leave_most_old_rows_where_they_were():
    keys, strata = random_keys(2200), random_strata(2200, 3)
    before, after = drawn(keys[:2000], SHARES, strata[:2000], 7), drawn(keys, SHARES, strata, 7)
    assert (before == after[:2000]).mean() > 0.97


# Whole files


@pytest.fixture
def prepared(document):
    """Prepares the document, changed by the given fields of its data, and gives the artifact's folder."""

    def prepare(**changes):
        document["data"].update(changes)
        return steps.prepare(check(document)).folder

    return prepare


@pytest.fixture
def rows_of(tmp_path):
    """The rows of a split of a prepared folder."""
    return lambda folder, split: read_split(folder, tmp_path / "store" / "steps" / "shard", split).to_pylist()


def write_csv(path, header, rows):
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def numbered(rows, labels=("glad", "sad"), word="day"):
    return [(f"{word} {index}", labels[index % len(labels)]) for index in range(rows)]


def report_of(folder):
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def test_every_row_is_in_one_split(prepared, rows_of):
    folder = prepared()
    texts = [[row["text"] for row in rows_of(folder, split)] for split in ("train", "validation", "test")]
    assert [len(part) for part in texts] == [36, 12, 12]
    assert len(set().union(*texts)) == 60
    assert report_of(folder)["rows"] == {"train": 36, "validation": 12, "test": 12}


def test_rows_of_one_group_stay_together(prepared, rows_of, tmp_path):
    rows = [(f"line {line} of {user}", "ab"[line % 2], user) for user in range(40) for line in range(10)]
    train = write_csv(tmp_path / "by.csv", ("text", "mood", "user"), rows)
    folder = prepared(source={"kind": "csv", "train": train}, split={"by": "user", "test": 0.2, "validation": 0.2})
    users = [
        {row["text"].split(" of ")[1] for row in rows_of(folder, split)} for split in ("train", "validation", "test")
    ]
    assert [len(part) for part in users] == [24, 8, 8]
    assert len(set().union(*users)) == 40


def test_equal_texts_stay_together_whatever_their_labels(prepared, rows_of, tmp_path):
    rows = [(f"day {index // 2}", ("glad", "sad")[index % 2]) for index in range(200)]
    folder = prepared(source={"kind": "csv", "train": write_csv(tmp_path / "twins.csv", ("text", "mood"), rows)})
    texts = [{row["text"] for row in rows_of(folder, split)} for split in ("train", "validation", "test")]
    assert sum(map(len, texts)) == len(set().union(*texts)) == 100


def test_a_test_file_is_used_whole_and_the_train_file_gives_it_nothing(prepared, rows_of, moods_csv, tmp_path):
    test = write_csv(tmp_path / "test.csv", ("text", "mood"), numbered(7))
    folder = prepared(source={"kind": "csv", "train": str(moods_csv), "test": test})
    assert sorted(row["text"] for row in rows_of(folder, "test")) == sorted(text for text, _ in numbered(7))
    assert report_of(folder)["rows"] == {"train": 48, "validation": 12, "test": 7}


def test_a_validation_file_is_used_whole(prepared, rows_of, moods_csv, tmp_path):
    validation = write_csv(tmp_path / "validation.csv", ("text", "mood"), numbered(5))
    folder = prepared(source={"kind": "csv", "train": str(moods_csv), "validation": validation})
    assert report_of(folder)["rows"] == {"train": 48, "validation": 5, "test": 12}


def test_several_train_files_are_drawn_from_as_one(prepared, tmp_path):
    parts = [
        write_csv(tmp_path / f"{word}.csv", ("text", "mood"), numbered(50, word=word)) for word in ("day", "night")
    ]
    assert report_of(prepared(source={"kind": "csv", "train": parts}))["rows"] == {
        "train": 60,
        "validation": 20,
        "test": 20,
    }


def test_unusable_rows_are_counted_and_listed_with_file_line_and_reason(prepared, tmp_path):
    rows = [*numbered(50), ("", "glad"), ("no mood", ""), ("too", "many", "fields")]
    train = write_csv(tmp_path / "train.csv", ("text", "mood"), rows)
    folder = prepared(source={"kind": "csv", "train": train}, max_unusable=0.1)
    assert pq.read_table(folder / "unusable.parquet").to_pylist() == [
        {"file": "train.csv", "line": 52, "reason": "empty text"},
        {"file": "train.csv", "line": 53, "reason": "no label"},
        {"file": "train.csv", "line": 54, "reason": "3 fields, but the header has 2"},
    ]
    assert report_of(folder)["files"] == [
        {"split": "train", "file": "train.csv", "sha256": file_digest(Path(train)), "rows": 50, "unusable": 3}
    ]


def test_two_files_of_one_name_are_counted_apart(prepared, tmp_path):
    bad = ("", "glad")
    train = write_csv(tmp_path / "train" / "data.csv", ("text", "mood"), [*numbered(98), bad, bad])
    test = write_csv(tmp_path / "test" / "data.csv", ("text", "mood"), numbered(10, word="night"))
    folder = prepared(source={"kind": "csv", "train": train, "test": test}, max_unusable=0.02)
    assert [(file["split"], file["rows"], file["unusable"]) for file in report_of(folder)["files"]] == [
        ("train", 98, 2),
        ("test", 10, 0),
    ]


def test_the_share_of_unusable_rows_is_that_of_a_file(prepared, tmp_path):
    good = write_csv(tmp_path / "good.csv", ("text", "mood"), numbered(500))
    bad = write_csv(tmp_path / "bad.csv", ("text", "mood"), [*numbered(9, word="night"), ("", "glad")])
    with pytest.raises(RecipeError, match=r"1 of 10 rows of bad\.csv are unusable \(line 11: empty text\)"):
        prepared(source={"kind": "csv", "train": [good, bad]}, max_unusable=0.05)


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (("sad", "glad"), ["glad", "sad"]),
        (("10", "9", "2", "0"), ["0", "2", "9", "10"]),
        (("Ärger", "Freude", "b", "B"), ["B", "Freude", "b", "Ärger"]),
    ],
)
def test_labels_are_ordered_by_number_or_by_alphabet(prepared, tmp_path, labels, order):
    train = write_csv(tmp_path / "labels.csv", ("text", "mood"), numbered(80, labels))
    assert read_labels(prepared(source={"kind": "csv", "train": train})) == order


def test_numbers_have_no_labels(prepared, document, tmp_path):
    document["objective"]["problem_type"] = "regression"
    train = write_csv(tmp_path / "numbers.csv", ("text", "mood"), [(f"day {i}", i / 7) for i in range(80)])
    folder = prepared(source={"kind": "csv", "train": train})
    assert read_labels(folder) == []
    assert report_of(folder)["rows"] == {"train": 48, "validation": 16, "test": 16}


def test_a_label_that_only_the_test_file_has_is_a_label_and_reported_with_its_own_line(document, prepared, tmp_path):
    train = write_csv(tmp_path / "train.csv", ("text", "mood"), numbered(40, ("not glad", "sad")))
    test = write_csv(tmp_path / "test.csv", ("text", "mood"), [("one", "not glad"), ("two", "glad")])
    folder = prepared(source={"kind": "csv", "train": train, "test": test}, checks={"unseen_labels": "error"})
    assert read_labels(folder) == ["glad", "not glad", "sad"]
    recipe = check(document)
    start = steps.initialise(recipe, steps.prepare(recipe))
    with pytest.raises(RecipeError, match=r"1 of 2 \(50\.0%\) test rows have .* glad; the first .* test\.csv line 3"):
        steps.checks(recipe, steps.prepare(recipe), start)


def test_a_test_file_of_other_labels_is_refused(prepared, tmp_path):
    train = write_csv(tmp_path / "train.csv", ("text", "mood"), numbered(40, ("0", "1")))
    test = write_csv(tmp_path / "test.csv", ("text", "mood"), [("one", "0.0"), ("two", "1.0")])
    with pytest.raises(RecipeError, match=r"'0\.0': appears in test\.csv \(line 2\), a file with none .* are 0, 1"):
        prepared(source={"kind": "csv", "train": train, "test": test})


def test_where_every_label_has_one_row_the_recipe_says_whether_to_go_on(prepared, tmp_path, caplog):
    rows = [(f"day {index}", f"mood {index}") for index in range(20)]
    train = write_csv(tmp_path / "train.csv", ("text", "mood"), rows)
    given = {"kind": "csv", "train": train, "test": write_csv(tmp_path / "test.csv", ("text", "mood"), rows[:3])}
    with pytest.raises(RecipeError, match="leaves no rows for validation: most labels have a single row"):
        prepared(source=given)
    folder = prepared(source=given, split={"validation": 0.1, "if_empty": "continue"})
    assert report_of(folder)["rows"] == {"train": 20, "validation": 0, "test": 3}
    assert "The last checkpoint is kept" in caplog.text


def test_left_out_rows_are_logged(prepared, tmp_path, caplog):
    train = write_csv(tmp_path / "train.csv", ("text", "mood"), [*numbered(99), ("", "glad")])
    prepared(source={"kind": "csv", "train": train})
    assert "1 of 100 (1.0%) rows of train.csv are unusable and skipped (line 101: empty text)" in caplog.text
