"""`tunesmith cache`: what the store holds, is it sound, and room for more. `pytest tests/cli/test_cache.py`."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock
from typer.testing import CliRunner

from pipeline_lib.cli.main import app
from pipeline_lib.errors import RecipeError
from pipeline_lib.store import inventory as cache
from pipeline_lib.store.artifacts import Step
from pipeline_lib.store.garbage_collection import collect
from pipeline_lib.store.store import Store

ROOT = Path(__file__).parents[2]
DAY = 86400


def step(name, **recipe):
    return Step(name, 1, recipe, {"file": "00ff"}, ("numpy",))


def make(store, name, size=1000, days=0, inputs=None, **recipe):
    """An artifact of `size` bytes that was last used `days` ago."""

    def write(folder):
        (folder / "rows.bin").write_bytes(bytes(size))

    artifact = store.ensure(Step(name, 1, recipe, inputs or {}), write, made_by="me")
    grow_old(artifact.folder / "manifest.json", days)
    return artifact


def grow_old(path, days):
    os.utime(path, (time.time() - days * DAY,) * 2)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def tell(store, *arguments):
    return CliRunner().invoke(app, ["cache", *arguments, "--store", str(store.root)])


def there(store):
    return sorted(entry.step for entry in cache.list_artifacts(store.root))


def held(store, fingerprint):
    return FileLock(store.root / "locks" / f"{fingerprint}.lock")


def test_ls_shows_every_artifact_its_size_and_its_age(store):
    artifact = make(store, "prepare", size=123_456, days=3)
    make(store, "finetune", size=2_000_000)
    (store.work(step("evaluate")) / "checkpoint").write_bytes(bytes(5000))
    cache.pin(store.root, "banking/3", [artifact.fingerprint])
    said = tell(store, "ls")
    assert said.exit_code == 0
    (line,) = [line for line in said.output.splitlines() if "prepare" in line]
    used = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 3 * DAY))
    for word in (artifact.short, "123.9 kB", "me", artifact.made["at"][:10], used, "banking/3"):
        assert word in line
    assert "2 artifacts, 2.1 MB" in said.output
    assert "work/ 5.0 kB, damaged/ 0 bytes, partial/ 0 bytes" in said.output
    assert "finetune" not in tell(store, "ls", "--step", "prepare").output


def test_ls_for_programs(store):
    artifact = make(store, "prepare", days=3)
    document = json.loads(tell(store, "ls", "--json").output)
    (row,) = document["artifacts"]
    assert (row["step"], row["fingerprint"], row["made_by"]) == ("prepare", artifact.fingerprint, "me")
    assert row["bytes"] == document["bytes"] == sum(file.stat().st_size for file in artifact.folder.iterdir())
    assert row["last_used"] < row["made_at"]
    assert (document["work"], document["damaged"], document["partial"]) == (0, 0, 0)


def test_brackets_in_a_name_are_no_markup(store):
    store.ensure(step("prepare"), lambda folder: (folder / "[red]a.txt").touch(), made_by="[bold]me")
    assert "[bold]me" in tell(store, "ls").output
    (entry,) = cache.list_artifacts(store.root)
    assert "[red]a.txt" in tell(store, "show", entry.short).output


def test_show_tells_what_made_it_and_from_what(store):
    artifact = make(store, "prepare", inputs={"file 0": "00ff"}, split={"validation": 0.1})
    said = tell(store, "show", artifact.fingerprint[:4].upper())
    assert said.exit_code == 0
    for word in (artifact.fingerprint, "by me", "validation: 0.1", "file 0: 00ff", "rows.bin", "1.0 kB"):
        assert word in said.output
    manifest = json.loads((artifact.folder / "manifest.json").read_text())
    assert manifest["files"]["rows.bin"]["sha256"] in said.output
    assert json.loads(tell(store, "show", artifact.short, "--json").output) == manifest


def test_a_broken_manifest_is_listed_and_not_shown(store):
    artifact = make(store, "prepare")
    (artifact.folder / "manifest.json").write_text("[]")
    assert "manifest is broken" in tell(store, "ls").output
    assert json.loads(tell(store, "ls", "--json").output)["artifacts"][0]["manifest"] == "broken"
    said = tell(store, "show", artifact.short)
    assert (said.exit_code, "tunesmith cache verify" in said.output) == (2, True)


def test_verify_names_what_changed_and_sets_it_aside(store):
    sound, flipped, gone = make(store, "prepare"), make(store, "finetune"), make(store, "evaluate")
    (flipped.folder / "rows.bin").write_bytes(b"1" + bytes(999))
    (gone.folder / "rows.bin").unlink()
    said = tell(store, "verify")
    assert said.exit_code == 1
    assert f"finetune {flipped.short} is damaged (rows.bin changed since it was made): set aside in" in said.output
    assert f"evaluate {gone.short} is damaged" in said.output
    assert said.output.endswith("3 artifacts verified, 2 damaged\n")
    assert there(store) == ["prepare"]
    assert len(list((store.root / "damaged").iterdir())) == 2
    again = tell(store, "verify")
    assert (again.exit_code, again.output) == (0, "1 artifacts verified, 0 damaged\n")
    assert store.find(Step("prepare", 1, {}, {})).digest == sound.digest


def test_verify_notices_an_artifact_in_the_place_of_another(store):
    one, other = make(store, "prepare", seed=1), make(store, "prepare", seed=2)
    one.folder.rename(store.root / "aside")
    other.folder.rename(one.folder)
    (store.root / "aside").rename(other.folder)
    said = tell(store, "verify", "--step", "prepare")
    assert said.output.count("its manifest belongs to another step") == 2
    assert said.exit_code == 1


def test_verify_notices_an_artifact_under_the_name_of_another_step(store):
    artifact = make(store, "prepare")
    (store.root / "steps" / "finetune").mkdir()
    artifact.folder.rename(store.root / "steps" / "finetune" / artifact.folder.name)
    assert "finetune" in tell(store, "verify").output and there(store) == []


def test_verify_leaves_what_another_process_is_at_work_on(store):
    artifact = make(store, "prepare")
    (artifact.folder / "rows.bin").unlink()
    with held(store, artifact.fingerprint):
        assert "another process is using it" in tell(store, "verify").output
    assert artifact.folder.exists()


def test_verify_sets_nothing_aside_that_cannot_be_read(store, monkeypatch):
    make(store, "prepare")

    def failing(*_):
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr("pipeline_lib.store.digests.file_digest", failing)
    said = tell(store, "verify")
    assert (said.exit_code, "Input/output error" in said.output) == (2, True)
    assert there(store) == ["prepare"]


def test_gc_by_age_goes_by_the_last_use(store):
    make(store, "prepare", days=40)
    make(store, "finetune", days=40)
    make(store, "evaluate", days=1)
    assert store.ensure(Step("prepare", 1, {}, {}), pytest.fail).reused  # used now
    said = tell(store, "gc", "--older-than", "30d")
    assert said.exit_code == 0, said.output
    assert "removed finetune" in said.output and "freed" in said.output
    assert there(store) == ["evaluate", "prepare"]
    assert not list((store.root / "partial").iterdir())


def test_gc_by_size_takes_the_least_recently_used(store):
    for days, name in enumerate(("evaluate", "finetune", "initialise", "prepare")):
        make(store, name, size=1_000_000, days=days)
    said = tell(store, "gc", "--keep-size", "2.5MB")
    assert there(store) == ["evaluate", "finetune"]
    assert said.output.index("removed prepare") < said.output.index("removed initialise")
    assert "2.0 MB freed, 2.0 MB left" in said.output


def test_gc_with_both_takes_what_either_asks_for(store):
    for days, name in enumerate(("evaluate", "finetune", "prepare")):
        make(store, name, size=1_000_000, days=10 * days)
    collect(store.root, older_than=15 * DAY, keep_size=10**7)
    assert there(store) == ["evaluate", "finetune"]
    collect(store.root, older_than=15 * DAY, keep_size=1_500_000)
    assert there(store) == ["evaluate"]


def test_a_dry_run_says_the_same_and_removes_nothing(store):
    make(store, "prepare", days=40)
    stale = store.root / "partial" / f"{'0' * 64}-12345678"
    stale.mkdir()
    said = tell(store, "gc", "--older-than", "4w", "--dry-run")
    assert "would remove prepare" in said.output and "would be freed" in said.output
    assert there(store) == ["prepare"] and stale.exists()
    dry, wet = collect(store.root, older_than=28 * DAY, dry_run=True), collect(store.root, older_than=28 * DAY)
    assert (dry.freed, dry.left, dry.removed) == (wet.freed, wet.left, wet.removed)
    assert there(store) == [] and not stale.exists()


def test_unfinished_work_ages_by_its_youngest_file(store):
    make(store, "prepare")
    for days, name in ((40, "old"), (1, "young")):
        folder = store.work(step(name))
        (folder / "checkpoint").mkdir()
        (folder / "checkpoint" / "state").write_bytes(bytes(100))
        for path in (folder / "checkpoint" / "state", folder / "checkpoint", folder):
            grow_old(path, days if path.is_file() else 50)
    assert "removed unfinished" in tell(store, "gc", "--older-than", "30d").output
    assert [path.name for path in (store.root / "work").iterdir()] == [step("young").fingerprint]


def test_what_is_pinned_stays(store):
    artifact = make(store, "finetune", size=1_000_000, days=400)
    make(store, "prepare", days=400)
    cache.pin(store.root, "banking-intents", [artifact.fingerprint])
    said = tell(store, "gc", "--older-than", "1d", "--keep-size", "0B")
    assert "kept finetune" in said.output and "pinned by banking-intents" in said.output
    assert "1.0 MB above the limit: the rest cannot be removed" in said.output
    assert there(store) == ["finetune"]
    cache.unpin(store.root, "banking-intents")
    cache.unpin(store.root, "banking-intents")
    tell(store, "gc", "--older-than", "1d")
    assert there(store) == []


@pytest.mark.parametrize("name", ["../../away", "a/b", "..", ".", "über [1]", "x.json"])
def test_the_name_of_a_pin_leads_nowhere(store, name):
    cache.pin(store.root, name, ["0" * 16])
    cache.pin(store.root, name, ["1" * 64])
    assert cache.pins(store.root) == {"1" * 16: (name,)}
    assert [path.parent for path in store.root.parent.rglob("*.json")] == [store.root / "pins"]


@pytest.mark.parametrize("wrong", ["", "xyz", "0" * 15, "0" * 65])
def test_a_pin_of_no_fingerprint_is_refused(store, wrong):
    with pytest.raises(ValueError, match="fingerprints of at least 16 digits"):
        cache.pin(store.root, "model", [wrong])
    with pytest.raises(ValueError, match="name"):
        cache.pin(store.root, "", ["0" * 16])


@pytest.mark.parametrize("text", ["", "{}", "[1]", '["00"]'])
def test_gc_removes_nothing_while_a_pin_cannot_be_understood(store, text):
    make(store, "prepare", days=40)
    (store.root / "pins").mkdir()
    (store.root / "pins" / "model.json").write_text(text)
    said = tell(store, "gc", "--older-than", "1d")
    assert (said.exit_code, "model.json" in said.output) == (2, True)
    (store.root / "pins" / "model.json").unlink()
    assert there(store) == ["prepare"]


def test_what_another_process_holds_stays(store):
    artifact, work = make(store, "prepare", days=40), store.work(step("finetune"))
    grow_old(work, 40)
    with held(store, artifact.fingerprint), held(store, work.name):
        said = tell(store, "gc", "--older-than", "1d", "--keep-size", "0B")
    assert said.output.count("in use") == 2
    assert there(store) == ["prepare"] and work.exists()


def test_what_was_used_while_gc_looked_stays(store, monkeypatch):
    make(store, "prepare", days=40)
    looked = cache.find_unfinished

    def meanwhile(root):
        assert store.ensure(Step("prepare", 1, {}, {}), pytest.fail).reused
        return looked(root)

    monkeypatch.setattr("pipeline_lib.store.garbage_collection.find_unfinished", meanwhile)
    assert [why for _, why in collect(store.root, older_than=DAY).retained] == ["used just now"]


MAKING = """
import json, sys, time
from pathlib import Path
from pipeline_lib.store.artifacts import Step
from pipeline_lib.store.store import Store

def make(folder):
    (folder / "half").write_text("half")
    print("making", flush=True)
    time.sleep(600)

Store(sys.argv[1]).ensure(Step("finetune", 1, {}, json.loads(sys.argv[2])), make)
"""


@pytest.fixture
def training(store):
    """Start another process that makes a finetune from the given inputs, and return in the middle of it."""
    begun = []

    def begin(**inputs):
        process = subprocess.Popen(
            [sys.executable, "-c", MAKING, str(store.root), json.dumps(inputs)], cwd=ROOT, stdout=subprocess.PIPE
        )
        begun.append(process)
        assert process.stdout.readline() == b"making\n"
        return process

    yield begin
    for process in begun:
        process.kill()
        process.wait()
        process.stdout.close()


def test_what_is_being_made_and_what_it_reads_stay(store, training):
    shard = make(store, "shard", days=40, size=9)
    prepared = make(store, "prepare", days=40, inputs={"00000 train": shard.digest})
    make(store, "evaluate", days=40, size=7)
    make(store, "prepare", days=40, seed=8, inputs={"00000 train": shard.digest}, size=8)
    work = store.work(Step("finetune", 1, {}, {"prepare": prepared.digest}))
    grow_old(work, 40)
    process = training(prepare=prepared.digest)
    report = collect(store.root, older_than=DAY, keep_size=0)
    assert sorted((entry.step, why) for entry, why in report.retained) == [
        ("prepare", "an unfinished step reads it"),
        ("shard", "an unfinished step reads it"),
        ("unfinished", "in use"),
    ]
    assert sorted(entry.step for entry in report.removed) == ["evaluate", "prepare"]
    assert len(list((store.root / "partial").iterdir())) == 2  # the folder and its note
    process.kill()
    process.wait()
    report = collect(store.root, older_than=DAY, keep_size=0)
    assert (report.left, there(store), list((store.root / "partial").iterdir())) == (0, [], [])


def test_left_overs_go_always_and_what_is_not_ours_stays(store):
    make(store, "prepare")
    partial = store.root / "partial"
    for name in (f"{'0' * 64}-12345678", "removed-00ff", "prepare-00ff", "fetched"):
        (partial / name).mkdir()
    grow_old(partial / "prepare-00ff", 2)
    (store.root / "work" / "my thesis").mkdir(parents=True)
    (store.root / "steps" / "prepare" / "notes").mkdir()
    with held(store, "1" * 64):  # who holds it may be making prepare-00ff, by an older version's name
        collect(store.root, older_than=DAY)
    assert sorted(path.name for path in partial.iterdir()) == ["fetched", "prepare-00ff"]
    collect(store.root, older_than=0, keep_size=0)
    assert [path.name for path in partial.iterdir()] == ["fetched"]
    assert (store.root / "work" / "my thesis").exists() and (store.root / "steps" / "prepare" / "notes").exists()


def test_what_was_set_aside_goes_by_option(store):
    artifact = make(store, "prepare")
    (artifact.folder / "rows.bin").unlink()
    assert tell(store, "verify").exit_code == 1
    tell(store, "gc", "--older-than", "30d")
    assert len(list((store.root / "damaged").iterdir())) == 1
    tell(store, "gc", "--older-than", "30d", "--damaged")
    assert not list((store.root / "damaged").iterdir())


def test_gc_beside_runs_never_shows_half_an_artifact(store):
    """Readers and makers go on while all is removed again and again: each gets what was published, whole."""
    ending, wrong = time.monotonic() + 3, []

    def use(number):
        def write(folder):
            for name in range(20):
                (folder / f"{name}").write_text(f"{number} {name}")

        while time.monotonic() < ending:
            digests.setdefault(number, found := store.ensure(step("prepare", number=number), write).digest)
            if digests[number] != found:
                wrong.append(number)

    digests: dict[int, str] = {}
    users = [threading.Thread(target=use, args=(number,)) for number in range(3)]
    for user in users:
        user.start()
    removed = 0
    while time.monotonic() < ending:
        removed += len(collect(store.root, keep_size=0).removed)
    for user in users:
        user.join()
    assert removed and not wrong
    assert not (store.root / "damaged").exists()


MISTAKES = {
    "neither": (["gc"], "--older-than, --keep-size: one of them is required. Give --older-than 30d"),
    "damaged alone": (["gc", "--damaged"], "one of them is required"),
    "an age without a unit": (
        ["gc", "--older-than", "30"],
        "--older-than = '30': must be a duration. Write a number of hours",
    ),
    "an age below nothing": (["gc", "--older-than=-1d"], "--older-than = '-1d': must be a duration"),
    "a size without a unit": (
        ["gc", "--keep-size", "20"],
        "--keep-size = '20': must be a size with a unit. Write a number and B, kB",
    ),
    "a size in words": (["gc", "--keep-size", "much"], "must be a size with a unit"),
    "no such step": (
        ["ls", "--step", "fine"],
        "--step = 'fine': has no artifacts in this store. The store has artifacts of",
    ),
    "no such step to verify": (["verify", "--step", "fine"], "The store has artifacts of prepare"),
    "no such artifact": (["show", "xyz"], "FINGERPRINT = 'xyz': matches no artifact. `tunesmith cache ls` lists them"),
    "any artifact": (["show", ""], "matches no artifact"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_removes_nothing(store, name):
    arguments, words = MISTAKES[name]
    make(store, "prepare", days=400)
    said = tell(store, *arguments)
    assert said.exit_code == 2
    assert words in said.output and said.output.count("\n") == 1
    assert there(store) == ["prepare"]


def test_an_ambiguous_fingerprint_names_the_candidates(store):
    artifacts = [make(store, "prepare", seed=seed) for seed in range(17)]  # two of 17 begin with the same digit
    digits = [artifact.fingerprint[0] for artifact in artifacts]
    twice = next(digit for digit in digits if digits.count(digit) > 1)
    said = tell(store, "show", twice)
    assert (said.exit_code, "Give more of its digits" in said.output) == (2, True)
    assert re.search(rf"artifacts match: {twice}[0-9a-f]{{15}} \(prepare\), ", said.output)


@pytest.mark.parametrize("command", [["ls"], ["show", "00"], ["verify"], ["gc", "--keep-size", "0B"]])
def test_a_folder_that_is_no_store_is_refused_and_left_as_it_is(tmp_path, command):
    (tmp_path / "work" / ("0" * 64)).mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "missing"):
        said = CliRunner().invoke(app, ["cache", *command, "--store", str(folder)])
        assert said.exit_code == 2
        assert "is not an artifact store. Use the folder in `execution.store`" in said.output
    assert [path.name for path in tmp_path.iterdir()] == ["work"]
    assert (tmp_path / "work" / ("0" * 64)).exists()


def test_ages_and_sizes(store):
    from pipeline_lib.cli.cache import _bytes, _seconds

    assert [_seconds(age) for age in ("12h", "30d", "1.5 w")] == [12 * 3600, 30 * DAY, 10.5 * DAY]
    assert [_bytes(size) for size in ("0B", "500 mb", "1.5GB", "2kB")] == [0, 5 * 10**8, 15 * 10**8, 2000]
    with pytest.raises(RecipeError):
        _bytes("20 GiB")


@pytest.mark.parametrize("command", ["ls", "verify", "gc --keep-size 1GB --dry-run"])
def test_the_cache_commands_wait_for_no_heavy_library(store, command):
    make(store, "prepare")
    heavy = ("torch", "mlflow", "transformers", "pyarrow", "numpy", "pandas", "prefect")
    code = f"""
import sys
from pipeline_lib.cli.main import app
sys.argv = ["tunesmith", "cache", *{command.split()!r}, "--store", {str(store.root)!r}]
try:
    app()
finally:
    print(sorted(name for name in {heavy!r} if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
