"""A store that machines share, on a real S3 server, in memory and in a folder. `pytest tests/store/test_remote.py`."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from hashlib import sha256
from pathlib import Path

import pytest

from pipeline_lib.errors import RecipeError
from pipeline_lib.pipeline import steps
from pipeline_lib.pipeline.plan import plan
from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import check
from pipeline_lib.store import object_storage
from pipeline_lib.store.artifacts import Step
from pipeline_lib.store.object_storage import Objects
from pipeline_lib.store.remote import RemoteStore, open_store, reference_to
from pipeline_lib.store.store import Store
from pipeline_lib.util.redaction import redact_url
from pipeline_lib.util.times import humanize_time

ROOT = Path(__file__).parents[2]
STEP = Step("prepare", 1, {"seed": 7}, {"file": "00ff"}, ("numpy",))
PREFIX = f"steps/prepare/{STEP.fingerprint[:16]}"
MANIFEST = f"{PREFIX}/manifest.json"
FILES = {"rows.txt": b"one\ntwo\n", "inner/labels.txt": b"a\nb\n", "empty": b"", "odd name? #%41 ü.txt": b"x" * 100_000}


def write(folder):
    (folder / "inner").mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)


def refuse(folder):
    raise AssertionError("made again")


@pytest.fixture(params=[pytest.param("s3", marks=pytest.mark.remote), "memory", "file"])
def url(request, tmp_path):
    """A shared store's URL, of each kind that is tested."""
    if request.param == "s3":
        return request.getfixturevalue("bucket")
    return f"memory://{uuid.uuid4().hex}" if request.param == "memory" else f"file://{tmp_path / 'shared'}"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """The store as another machine opens it: with a cache of its own."""

    def on(name, url):
        monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / name))
        return open_store(url)

    return on


@pytest.fixture
def gets(monkeypatch):
    """The names of the files that are fetched from here on."""
    seen, get = [], Objects.get
    monkeypatch.setattr(Objects, "get", lambda self, name, file: (seen.append(name), get(self, name, file))[1])
    return seen


def held(artifact):
    return {name: (artifact.folder / name).read_bytes() for name in FILES}


def rewritten(url, **changes):
    """Change the shared manifest, as someone might who can write there."""
    there = Objects(url)
    there.write(MANIFEST, json.dumps(json.loads(there.read(MANIFEST)) | changes).encode())


def test_a_folder_is_a_local_store_and_waits_for_no_driver(tmp_path):
    code = "import sys, pipeline_lib.store.remote as r; r.open_store(sys.argv[1]); print('fsspec' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "False\n"
    assert type(open_store(str(tmp_path))) is Store


def test_a_second_machine_reuses_what_the_first_made(url, machine, gets):
    artifact = machine("a", url).ensure(STEP, write, made_by="me")
    reused = machine("b", url).ensure(STEP, refuse)
    assert (artifact.reused, reused.reused, reused.digest) == (False, True, artifact.digest)
    assert held(reused) == FILES
    assert reused.folder != artifact.folder
    assert reused.message == f"reused {artifact.short}, created {humanize_time(reused.made['at'])} by me"
    assert sorted(gets) == sorted(f"{PREFIX}/{artifact.digest[:16]}/{name}" for name in FILES)
    assert machine("b", url).ensure(STEP, refuse).digest == artifact.digest
    assert len(gets) == len(FILES)  # what is in the cache and sound is not fetched again


def test_a_reference_is_enough_to_fetch_an_artifact(url, machine, gets):
    artifact = machine("a", url).ensure(STEP, write)
    reference = reference_to(artifact.folder)
    store = machine("b", url)
    folder = store.fetch(reference)
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    fetched = len(gets)
    assert store.fetch(reference) == folder
    assert len(gets) == fetched
    for other in (reference._replace(digest="00"), reference._replace(fingerprint="00"), reference._replace(step="x")):
        with pytest.raises(
            RecipeError, match=f"does not have {other.step}.* with the same content as on the first machine"
        ):
            store.fetch(other)


@pytest.mark.remote
def test_checkpoints_and_locks_stay_in_the_cache(machine, tmp_path, bucket):
    import s3fs

    store = machine("a", bucket)
    (store.work(STEP) / "checkpoint").write_text("half")
    store.ensure(STEP, write)
    there = {name.removeprefix(f"{bucket[5:]}/") for name in s3fs.S3FileSystem(use_listings_cache=False).find(bucket)}
    digest = store.find(STEP).digest[:16]
    assert there == {"probe", MANIFEST, *(f"{PREFIX}/{digest}/{name}" for name in FILES)}


def test_a_damaged_cache_is_mended_from_the_remote(url, machine, caplog):
    artifact = machine("a", url).ensure(STEP, write)
    (artifact.folder / "rows.txt").write_text("one\ntwp\n")
    again = machine("a", url).ensure(STEP, refuse)
    assert held(again) == FILES
    assert "rows.txt changed since it was made" in caplog.text


def test_what_a_remote_lost_is_brought_there_again(url, machine):
    store = machine("a", url)
    store.ensure(STEP, write)
    store.objects.remove(MANIFEST)
    assert store.ensure(STEP, refuse).reused
    assert held(machine("b", url).ensure(STEP, refuse)) == FILES


KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline_lib.store.object_storage import Objects
from pipeline_lib.store.remote import open_store
from tests.store.test_remote import STEP, write

call, left = getattr(Objects, sys.argv[2]), [int(sys.argv[3])]
def killed(*arguments):
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return call(*arguments)

setattr(Objects, sys.argv[2], killed)
open_store(sys.argv[1]).ensure(STEP, write)
"""


@pytest.mark.remote
@pytest.mark.parametrize(("call", "before"), [("put", 0), ("put", 2), ("create", 0)])
def test_a_killed_upload_is_seen_by_nobody_and_completed_by_the_next_run(bucket, machine, call, before):
    store = machine("a", bucket)
    done = subprocess.run([sys.executable, "-c", KILLED, bucket, call, str(before)], cwd=ROOT, env=_environment())
    assert done.returncode == -signal.SIGKILL
    assert store.objects.read(MANIFEST) is None
    assert store.ensure(STEP, refuse).reused
    assert held(machine("b", bucket).ensure(STEP, refuse)) == FILES


@pytest.mark.remote
def test_a_killed_upload_does_not_keep_another_machine_from_making_it(bucket, machine):
    machine("a", bucket)
    subprocess.run([sys.executable, "-c", KILLED, bucket, "put", "2"], cwd=ROOT, env=_environment())
    assert not machine("b", bucket).ensure(STEP, write).reused


def _environment():
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def test_of_two_publishers_at_once_one_wins_and_both_end_with_its_bytes(url, machine, caplog):
    stores, together, ended = [machine(name, url) for name in "ab"], threading.Barrier(2), {}

    def publish(index):
        def make(folder):
            write(folder)
            (folder / "rows.txt").write_text(f"made by {index}")  # bytes that differ, as on GPUs of two kinds
            together.wait(timeout=120)

        ended[index] = stores[index].ensure(STEP, make)

    threads = [threading.Thread(target=publish, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert ended[0].digest == ended[1].digest
    assert len({(ended[index].folder / "rows.txt").read_text() for index in range(2)}) == 1
    assert sorted(ended[index].reused for index in range(2)) == [False, True]
    assert caplog.text.count("published first by another machine") == 1
    assert [store.ensure(STEP, refuse).digest for store in stores] == [ended[0].digest] * 2
    assert machine("c", url).ensure(STEP, refuse).digest == ended[0].digest


def test_bytes_made_before_another_machine_published_give_way(url, machine, caplog):
    ours, theirs = machine("a", url), machine("b", url)

    def write_ours(folder):
        (folder / "rows.txt").write_text("ours")

    Store.ensure(Store(ours.root), STEP, write_ours)  # never brought there
    first = theirs.ensure(STEP, write)
    assert ours.ensure(STEP, refuse).digest == first.digest
    assert "published first by another machine" in caplog.text
    assert len(list((ours.root / "damaged").iterdir())) == 1


def test_the_first_who_creates_a_name_keeps_it(url):
    there = Objects(url)
    there.create(MANIFEST, b"one")
    there.create(MANIFEST, b"two")
    assert there.read(MANIFEST) == b"one"


@pytest.mark.remote
def test_eight_who_create_a_name_at_once_get_one_winner(bucket):
    there, start, seen = Objects(bucket), threading.Barrier(8), []

    def create(index):
        start.wait(timeout=120)
        there.create(MANIFEST, str(index).encode())
        seen.append(there.read(MANIFEST))

    threads = [threading.Thread(target=create, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert seen == [there.read(MANIFEST)] * 8


@pytest.mark.parametrize("damage", ["other bytes", "cut off", "gone"])
def test_a_damaged_file_is_noticed_set_aside_and_made_again(url, machine, damage, caplog):
    artifact = machine("a", url).ensure(STEP, write)
    there, name = Objects(url), f"{PREFIX}/{artifact.digest[:16]}/rows.txt"
    if damage == "gone":
        there.remove(name)
    else:
        there.write(name, b"one\ntwp\n" if damage == "other bytes" else b"one")
    again = machine("b", url).ensure(STEP, write)
    assert (again.reused, again.digest) == (False, artifact.digest)
    assert "is damaged" in caplog.text
    aside = caplog.text.split("set aside in ")[1].split()[0]
    assert there.read(aside.removeprefix(f"{url}/"))
    assert held(machine("c", url).ensure(STEP, refuse)) == FILES


@pytest.mark.parametrize(
    "name",
    ["../../../escaped", "/tmp/escaped", "inner/../../escaped", "..\\escaped", "a//b", "./a", "manifest.json", ".", ""],
)
def test_a_file_name_that_leaves_its_folder_is_refused(machine, name, caplog, tmp_path):
    url = f"memory://{uuid.uuid4().hex}"
    artifact = machine("a", url).ensure(STEP, write)
    facts = {"size": 4, "sha256": sha256(b"evil").hexdigest()}
    digest = sha256(json.dumps({name: facts["sha256"]}, separators=(",", ":")).encode()).hexdigest()
    Objects(url).write(f"{PREFIX}/{digest[:16]}/{name}", b"evil")
    rewritten(url, files={name: facts}, folder=digest[:16])
    again = machine("b", url).ensure(STEP, write)
    assert (again.reused, again.digest) == (False, artifact.digest)
    assert f"its manifest holds the file name {name!r}" in caplog.text
    assert not list(tmp_path.rglob("*escaped*"))


@pytest.mark.parametrize(
    "changes",
    [
        {"identity": {}},
        {"folder": "../../elsewhere"},
        {"files": []},
        {"files": {"a": 1}},
        {"files": {"a": {"sha256": "0"}, "a/b": {"sha256": "0"}}},
        {"made": None},
    ],
    ids=str,
)
def test_a_manifest_that_cannot_be_right_is_set_aside(machine, changes, caplog):
    url = f"memory://{uuid.uuid4().hex}"
    machine("a", url).ensure(STEP, write)
    rewritten(url, **changes)
    assert not machine("b", url).ensure(STEP, write).reused
    assert "is damaged" in caplog.text
    Objects(url).write(MANIFEST, b'{"half": ')
    assert machine("b", url).ensure(STEP, refuse).reused


def test_a_download_that_broke_off_goes_on_with_what_is_missing(url, machine, gets, monkeypatch):
    machine("a", url).ensure(STEP, write)
    counted, store = Objects.get, machine("b", url)

    def broken(self, name, file):
        if len(gets) == 2:
            file.write_bytes(b"x")  # half of a file, and the power is gone
            raise KeyboardInterrupt
        counted(self, name, file)

    monkeypatch.setattr(Objects, "get", broken)
    with pytest.raises(KeyboardInterrupt):
        store.ensure(STEP, refuse)
    assert store.find(STEP) is None
    monkeypatch.setattr(Objects, "get", counted)
    assert held(store.ensure(STEP, refuse)) == FILES
    assert (len(gets), len(set(gets))) == (len(FILES), len(FILES))
    assert not list((store.root / "partial").iterdir())


def test_a_broken_transfer_is_tried_again(url, machine, monkeypatch):
    machine("a", url).ensure(STEP, write)
    store, pauses, left = machine("b", url), [], [3]
    monkeypatch.setattr("tenacity.nap.time.sleep", pauses.append)
    get_file = store.objects.fs.get_file

    def broken(*arguments):
        left[0] -= 1
        if left[0] >= 0:
            raise ConnectionResetError("the line broke")
        get_file(*arguments)

    monkeypatch.setattr(store.objects.fs, "get_file", broken)
    assert held(store.ensure(STEP, refuse)) == FILES
    assert pauses == [0.5, 1, 2]


@pytest.fixture
def away(bucket, monkeypatch):
    """A URL at whose address nobody listens."""
    import s3fs

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*free.getsockname()))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(object_storage, "PAUSE", 0)
    s3fs.S3FileSystem.clear_instance_cache()
    return bucket


@pytest.mark.remote
def test_a_server_that_is_away_is_a_clear_error(away, machine):
    with pytest.raises(RecipeError) as excinfo:
        machine("a", away).ensure(STEP, refuse)
    assert str(excinfo.value).startswith(
        f"execution.store = '{away}': does not answer (Could not connect to the endpoint"
    )
    assert str(excinfo.value).endswith("Nothing is lost: run the same command again when it answers.")


def test_a_driver_that_waits_by_itself_is_not_asked_again(monkeypatch):
    there, requests = Objects(f"memory://{uuid.uuid4().hex}"), []
    monkeypatch.setattr(object_storage, "PATIENCE", -1)  # the driver has used it up

    def slow(path):
        requests.append(path)
        raise TimeoutError

    monkeypatch.setattr(there.fs, "cat_file", slow)
    with pytest.raises(RecipeError, match="does not answer .TimeoutError."):
        there.read("name")
    assert len(requests) == 1


def test_a_server_that_goes_away_before_the_upload_loses_nothing(url, machine, monkeypatch):
    store = machine("a", url)
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: None)

    def broken(*arguments):
        raise ConnectionRefusedError("nobody listens")

    with monkeypatch.context() as gone, pytest.raises(RecipeError, match="does not answer .nobody listens."):
        gone.setattr(store.objects.fs, "put_file", broken)
        store.ensure(STEP, write)
    assert store.ensure(STEP, refuse).reused
    assert held(machine("b", url).ensure(STEP, refuse)) == FILES


@pytest.mark.remote
def test_a_missing_bucket_is_reported_before_any_work(bucket, machine):
    with pytest.raises(RecipeError, match="cannot be written to .*Create its bucket"):
        machine("a", "s3://no-such-bucket-here/store").ensure(STEP, refuse)


def test_a_full_disk_is_a_clear_error(machine, monkeypatch):
    url = f"memory://{uuid.uuid4().hex}"
    machine("a", url).ensure(STEP, write)
    store = machine("b", url)

    def full(*arguments):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(store.objects.fs, "get_file", full)
    with pytest.raises(RecipeError, match="the disk is full"):
        store.ensure(STEP, refuse)


def test_a_missing_driver_is_reported_with_the_command_that_installs_it(monkeypatch):
    from fsspec.registry import _registry

    monkeypatch.delitem(_registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(RecipeError) as excinfo:
        RemoteStore("s3://bucket/store")
    hint = "needs a driver (Install s3fs to access S3). Install it: pip install -c constraints.txt s3fs."
    assert str(excinfo.value) == f"execution.store = 's3://bucket/store': {hint}"


@pytest.mark.parametrize(
    ("url", "shown", "secret"),
    [
        ("sftp://me:hush@host/store", "sftp://host/store", "hush"),
        ("s3://KEY:hu/sh@bucket/store", "s3://bucket/store", "hu/sh"),
        ("abfs://box/store?sig=hush", "abfs://box/store", "sig=hush"),
    ],
)
def test_no_credentials_are_shown(url, shown, secret, monkeypatch):
    assert redact_url(url) == shown
    word = "" if "?" in url else f" and {secret}"  # a driver may tell a password alone; a query comes with its URL

    def refused(*arguments, **options):
        raise RuntimeError(f"no way in with {url.partition('://')[2]} at {url}{word}")

    monkeypatch.setattr("fsspec.core.url_to_fs", refused)
    with pytest.raises(RecipeError, match="cannot be opened .no way in") as excinfo:
        RemoteStore(url)
    assert shown in str(excinfo.value)
    assert secret not in str(excinfo.value)


def test_an_at_sign_in_a_folder_is_no_password():
    assert redact_url("s3://bucket/me@home") == "s3://bucket/me@home"


def test_a_run_on_a_second_machine_makes_nothing(document, bucket, tmp_path, monkeypatch):
    document["execution"]["store"] = bucket
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "a"))
    first = run(check(document))
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "b"))
    monkeypatch.setattr(Store, "_make", lambda self, step, *_: pytest.fail(f"{step.name} is made again"))
    second = run(check(document))
    assert second.published == first.published
    for one, again in zip(list(vars(first).values())[:-1], list(vars(second).values())[:-1], strict=True):
        assert (again.digest, again.reused) == (one.digest, True)
    assert len(list((tmp_path / "b").glob("*/steps/shard/*"))) == 1


@pytest.mark.remote
def test_a_plan_on_a_second_machine_knows_what_the_first_made(document, bucket, tmp_path, monkeypatch):
    document["execution"]["store"] = bucket
    run(check(document))
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "second"))
    planned = plan(check(document))
    assert [step.step for step in planned.planned if not step.artifact] == []
    assert any(row.trained for row in planned.parameters)


@pytest.mark.remote
def test_a_new_machine_can_train_on_shards_that_it_did_not_encode(document, bucket, tmp_path, monkeypatch):
    document["execution"]["store"] = bucket
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "a"))
    recipe = check(document)
    prepared = steps.prepare(recipe)
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "b"))
    again = steps.prepare(recipe)
    assert (again.reused, again.digest) == (True, prepared.digest)
    assert not steps.finetune(recipe, again, steps.initialise(recipe, again)).reused
