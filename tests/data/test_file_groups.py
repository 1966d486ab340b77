"""Small files are encoded together, in groups that depend on their contents, and their rows keep file and line.

pytest tests/data/test_file_groups.py
"""

import json
import pickle
import random
from hashlib import sha256
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline_lib.audit.training_data import _other_data
from pipeline_lib.data import encoding, file_groups
from pipeline_lib.data.file_groups import GROUP_BYTES, GROUPS, SourceFile, group_files
from pipeline_lib.data.prepared import read_split
from pipeline_lib.data.slice_columns import read_columns
from pipeline_lib.data.source_rows import add_source_files
from pipeline_lib.errors import RecipeError
from pipeline_lib.pipeline import steps
from pipeline_lib.pipeline.nested_steps import slice_columns
from pipeline_lib.pipeline.plan import format_plan, plan
from pipeline_lib.recipe.schema import check
from pipeline_lib.store.digests import file_digest
from pipeline_lib.store.lineage import manifest_of
from pipeline_lib.tracking.data_files import data_files

SIZE = 9_000
FILES = 24


def source_files(names, size=SIZE):
    return [SourceFile(Path(str(name)), sha256(str(name).encode()).hexdigest(), size) for name in names]


def contents(files):
    """What is encoded together."""
    return {tuple(file.digest for file in group) for group in group_files(files)}


# Grouping


def test_few_files_and_large_ones_are_groups_of_their_own():
    few = source_files(range(GROUPS))
    assert group_files(few) == [[file] for file in few]
    large = source_files(("a", "b"), GROUP_BYTES)
    groups = group_files([large[0], *source_files(range(1000)), large[1]])
    assert (groups[0], groups[-1]) == ([large[0]], [large[1]])


@pytest.mark.parametrize(
    ("count", "size", "mean"), [(2 * GROUPS, SIZE, 2), (1000, SIZE, 31), (20_000, SIZE, 31), (20_000, 50, 64)]
)
def test_groups_grow_with_the_number_of_files_up_to_a_size(count, size, mean):
    files = source_files(range(count), size)
    groups = group_files(files)
    assert sorted(file for group in groups for file in group) == sorted(files)
    assert count / len(groups) == pytest.approx(mean, rel=0.2)


def test_groups_depend_on_the_contents_and_not_on_names_and_order():
    files = source_files(range(1000))
    moved = [file._replace(path=Path("elsewhere", file.path)) for file in files]
    random.Random(0).shuffle(moved)
    assert contents(moved) == contents(files)


@pytest.mark.parametrize("count", [GROUPS, 50, 300, 1000, 5000])
def test_one_new_changed_or_missing_file_changes_few_groups(count):
    names = list(range(count))
    before, changed = contents(source_files(names)), []
    for turn in range(20):
        for now in ([*names, f"new {turn}"], names[:turn] + names[turn + 1 :], [*names[1:], f"changed {turn}"]):
            changed.append(len(contents(source_files(now)) - before))
    assert max(changed) <= 5
    assert sum(changed) / len(changed) <= (3 if count < 300 else 2)  # a border moves now and then while groups are tiny


# Encoding


@pytest.fixture
def folder(document, tmp_path, monkeypatch):
    """A folder of small files that are encoded in a few groups: the recipe's source."""
    monkeypatch.setattr(file_groups, "GROUPS", 4)
    (tmp_path / "rows").mkdir()
    for number in range(FILES):
        write(tmp_path / "rows", number)
    document["data"] |= {"source": {"kind": "csv", "train": str(tmp_path / "rows")}, "max_unusable": 0.3}
    return tmp_path / "rows"


def write(folder, number, first="a fine day"):
    """A file whose third row has no label, and whose texts say where they are from."""
    texts = [
        f"{first} {number:02} 2,glad",
        f"no sun {number:02} 3,sad",
        f"nobody {number:02} 4,",
        f"so {number:02} 5,sad",
    ]
    (folder / f"{number:02}.csv").write_text("\n".join(["text,mood", *texts]) + "\n")


def shards(tmp_path):
    return {place.parent.name for place in (tmp_path / "store/steps/shard").glob("*/manifest.json")}


def test_a_changed_file_is_encoded_with_its_group_alone(document, folder, tmp_path):
    recipe = check(document)
    assert steps.encode(recipe).message == f"0 of {FILES} files reused"
    before = shards(tmp_path)
    assert len(before) < FILES / 2
    write(folder, 7, "another day")
    planned = list(format_plan(plan(recipe).planned))
    encoded = steps.encode(recipe)
    assert f"shard       {encoded.message}" in planned
    new = shards(tmp_path) - before
    assert 1 <= len(new) <= 3
    assert encoded.newly_encoded == sum(
        len(group.files) for group in encoded.groups if group.step.fingerprint[:16] in new
    )


def test_renamed_files_are_all_reused(document, folder):
    first = steps.prepare(check(document))
    for file in list(folder.iterdir()):
        file.rename(folder / f"renamed {99 - int(file.stem)}.csv")
    encoded = steps.encode(check(document))
    again = steps.prepare(check(document), encoded)
    assert encoded.message == f"{FILES} of {FILES} files reused"
    assert (again.reused, again.digest) == (True, first.digest)


@pytest.mark.processes
def test_processes_encode_groups_to_the_same_bytes(document, folder, tmp_path):
    alone = steps.prepare(check(document))
    document["execution"] |= {"store": str(tmp_path / "other"), "workers": 2}
    together = steps.prepare(check(document))
    assert (together.reused, together.fingerprint, together.digest) == (False, alone.fingerprint, alone.digest)


def test_each_row_keeps_its_file_and_its_line(document, folder, tmp_path):
    prepared = steps.prepare(check(document)).folder
    seen = []
    for split in ("train", "validation", "test"):
        rows = read_split(prepared, tmp_path / "store" / "steps" / "shard", split)
        for row in add_source_files(prepared, rows, split).to_pylist():
            number, line = row["text"].split()[-2:]
            assert (row["file"], row["line"]) == (f"{number}.csv", int(line))
            seen.append((row["file"], row["line"]))
    assert sorted(seen) == [(f"{number:02}.csv", line) for number in range(FILES) for line in (2, 3, 5)]
    unusable = pq.read_table(prepared / "unusable.parquet").to_pylist()
    assert sorted((row["file"], row["line"], row["reason"]) for row in unusable) == [
        (f"{number:02}.csv", 4, "no label") for number in range(FILES)
    ]
    report = json.loads((prepared / "report.json").read_text())
    assert sorted((file["file"], file["sha256"], file["rows"], file["unusable"]) for file in report["files"]) == [
        (file.name, file_digest(file), 3, 1) for file in sorted(folder.iterdir())
    ]


def test_slices_find_the_columns_of_each_row(document, folder, tmp_path):
    document["evaluation"] = {"slices": [{"kind": "column", "column": "text"}]}
    recipe = check(document)
    prepared = steps.prepare(recipe)
    columns = read_columns(slice_columns(recipe, prepared, steps.fetch_base(recipe), "a test").folder)
    rows = read_split(prepared.folder, tmp_path / "store" / "steps" / "shard", "test")
    assert columns["text"] == rows["text"].to_pylist()


def test_too_many_unusable_rows_in_one_file_of_a_group_name_that_file(document, folder):
    (folder / "07.csv").write_text("text,mood\nso,glad\n,sad\n,sad\n")
    with pytest.raises(RecipeError, match=r"2 of 3 rows of 07\.csv are unusable \(line 3: empty text; line 4: empty"):
        steps.prepare(check(document))


def test_labels_of_another_kind_are_reported_with_the_file_of_the_group(document, folder, tmp_path):
    test = tmp_path / "tests"
    test.mkdir()
    for number in range(FILES):
        write(test, number, "a test")
    (test / "07.csv").write_text("text,mood\nso it is,1\n")
    document["data"]["source"]["test"] = str(test)
    with pytest.raises(RecipeError, match=r"appears in 07\.csv \(line 2\), a file with none of the training labels"):
        steps.prepare(check(document))


@pytest.fixture
def unreadable(monkeypatch):
    """Makes reading some files fail after their first row."""

    def fail(document, *names):
        kind = type(check(document).data.source)
        sound = kind.read

        def read(self, file):
            for number, row in enumerate(sound(self, file)):
                if number and file.name in names:
                    raise RecipeError("data.source", str(file), "is damaged", "Download it again")
                yield row

        monkeypatch.setattr(kind, "read", read)

    return fail


def test_all_files_that_fail_are_named_and_other_groups_are_kept(document, folder, tmp_path, unreadable, monkeypatch):
    recipe = check(document)
    group = max(steps.encode(recipe).groups, key=lambda group: len(group.files))
    stored = shards(tmp_path)
    document["execution"]["store"] = str(tmp_path / "other")
    names = sorted(file.name for file in group.files)[:2]
    unreadable(document, *names)
    with pytest.raises(RecipeError) as failed:
        steps.encode(check(document))
    message = "\n".join((str(failed.value), *failed.value.__notes__))
    assert all(f"while encoding {folder / name}" in message for name in names)
    assert "the shards of the other files are kept" in message
    stored_now = {place.name for place in (tmp_path / "other/steps/shard").iterdir()}
    assert stored_now == stored - {group.step.fingerprint[:16]}
    monkeypatch.undo()
    monkeypatch.setattr(file_groups, "GROUPS", 4)
    assert steps.encode(check(document)).newly_encoded == len(group.files)


def test_notes_of_an_error_reach_another_process():
    error = RecipeError("data.source", "a.csv", "is damaged", "Download it again")
    error.add_note("while encoding a.csv")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.__notes__) == (str(error), ["while encoding a.csv"])


def test_a_file_that_changes_after_the_first_look_is_named(document, folder):
    def change_first(*given):
        write(folder, 7, "another day")
        yield from encoding.here(*given)

    with pytest.raises(RecipeError, match=r"07\.csv': differs from the start of the run \(some of the files are new"):
        steps.encode(check(document), spread=change_first)


def test_an_audit_compares_each_file_of_a_group(document, folder, tmp_path):
    recipe = check(document)
    prepared = steps.prepare(recipe)
    made_from = [manifest_of(tmp_path / "store/steps/shard" / name) for name in shards(tmp_path)]
    manifests = {"prepare": manifest_of(prepared.folder), "shards": made_from}
    files = list(data_files(recipe))
    assert list(_other_data(files, manifests)) == []
    files[7] = files[7]._replace(digest="0" * 32)
    other, missing = _other_data(files, manifests)
    assert "07.csv (SHA-256 0000" in other.what
    assert file_digest(folder / "07.csv")[:32] in missing.what
