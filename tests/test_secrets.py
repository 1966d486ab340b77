"""What is secret reaches no file, no line and no error. `pytest tests/test_secrets.py`."""

import json
import logging
import os
import subprocess
import sys

import pytest

from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe.schema import check
from pipeline_lib.util.redaction import redact, redact_errors, redact_record, remember

PLANTED = {
    "HF_TOKEN": "hf_plantedHubToken",
    "AWS_SECRET_ACCESS_KEY": "planted/Aws+Secret",
    "AWS_SESSION_TOKEN": "plantedAwsSession",
    "MLFLOW_TRACKING_PASSWORD": "plantedMlflowPassword",
    "MLFLOW_TRACKING_TOKEN": "plantedMlflowToken",
}
FAR = """
import fsspec
from fsspec.implementations.local import LocalFileSystem

class Far(LocalFileSystem):
    protocol = "far"
    def __init__(self, **options):
        super().__init__(auto_mkdir=True, **options)
    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(str(path).rpartition("@")[2])

fsspec.register_implementation("far", Far)
from pipeline_lib.cli.main import app
from pipeline_lib.tracking import availability
availability.WAIT = 1.0
app()
"""
"""The command line, with a store behind a URL that takes an account; it waits for MLflow as long as other tests do."""
IN_URLS = ("plantedStore", "plantedTracking", "plantedData", "plantedModel")


def test_a_text_is_shown_without_its_secrets(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_plantedHubToken")
    monkeypatch.setenv("HF_TOKEN_PATH", "in a file")
    assert redact("401 for Bearer hf_plantedHubToken") == "401 for Bearer …"
    assert redact("in a file") == "in a file"
    assert redact("http://me:a@b/c:d@host/x") == "http://host/x"
    assert redact("at https://host/x?sig=abc, again") == "at https://host/x again"
    assert redact({"a": ["s3://k:pw@b/p", 3], "b": None}) == {"a": ["s3://b/p", 3], "b": None}
    for plain in ("what is it? nothing", "s3://bucket/me@home", "a@b.c", "sqlite:///mlflow.db", "models:/m-1"):
        assert redact(plain) == plain


def test_a_password_is_known_without_its_url():
    remember("postgresql://me:plantedP%40ss@host/mlflow")
    assert redact("FATAL: no way in with plantedP@ss") == "FATAL: no way in with …"
    remember("http://me:test@host")  # as short as this it could stand anywhere
    assert redact("test/accuracy") == "test/accuracy"


def test_errors_and_log_lines_leave_without_secrets(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_plantedHubToken")

    class Stubborn(Exception):
        def __str__(self):
            return "hf_plantedHubToken"

    def chain(error):
        while error:
            yield repr(error) + str(error)
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)

    for inner, outer in (
        (OSError(2, "no", "hf_plantedHubToken"), ValueError("outside")),
        (Stubborn(), ValueError("with hf_plantedHubToken")),
        (ValueError("inside"), Stubborn()),
    ):
        with pytest.raises(Exception) as excinfo, redact_errors():
            raise outer from inner
        assert "planted" not in "".join(chain(excinfo.value))
    try:
        raise RuntimeError("hf_plantedHubToken")
    except RuntimeError:
        record = logging.LogRecord("x", 40, "", 0, "at %s", ("http://a:b@host",), sys.exc_info())
    assert redact_record(record)
    assert logging.Formatter().format(record).startswith("at http://host\n")
    assert "planted" not in logging.Formatter().format(record)


def test_a_mistake_is_reported_without_its_secrets(document):
    document["model"]["base"] = "https://me:plantedModel@huggingface.co/org/name"
    document["execution"]["store"] = {"url": "s3://k:plantedStore@bucket"}
    with pytest.raises(RecipeError) as excinfo:
        check(document)
    assert "planted" not in str(excinfo.value) + str(excinfo.value.value) + "".join(
        getattr(excinfo.value, "__notes__", ())
    )


@pytest.fixture
def planted(document, tmp_path, monkeypatch):
    """A recipe's file with a secret in each place that takes one, in a folder whose git remote has one too."""
    (tmp_path / "far").mkdir()
    document["execution"] |= {"store": f"far://me:plantedStore@{tmp_path}/far", "tracking_uri": None}
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    document["training"]["epochs"] = 1
    remote = ["git", "remote", "add", "origin", "https://me:plantedData@host/x.git"]
    for command in (["git", "init", "-q"], remote):
        subprocess.run(command, cwd=tmp_path, check=True)
    path = tmp_path / "moods.yaml"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def tunesmith(path, *arguments, **environment):
    """What a command says, on both ways out."""
    command = [sys.executable, "-c", FAR, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=path.parent, timeout=400, env={**os.environ, **environment}
    )
    return done.returncode, done.stdout + done.stderr


def leaks(folder, said, *but):
    """Where any of the secrets is found: every byte of every file counts, names too."""
    secrets = [*PLANTED.values(), *IN_URLS]
    files = [file for file in folder.rglob("*") if file.is_file() and file.name not in but and ".git" not in file.parts]
    assert len(files) > 30
    found = [str(file) for file in files for s in secrets if s.encode() in file.read_bytes() or s in str(file)]
    return found + [secret for secret in secrets if secret in said]


def test_a_run_leaves_no_secret_anywhere(planted, tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db?password=plantedTracking"
    code, said = tunesmith(planted, "run", str(planted), "--plain", MLFLOW_TRACKING_URI=uri)
    assert code == 0, said
    assert leaks(tmp_path, said, "moods.yaml") == []
    (recipe_file,) = tmp_path.rglob("recipe.yaml")  # a file that MLflow keeps, with all but the secrets
    assert f"store: far://{tmp_path}/far" in recipe_file.read_text(encoding="utf-8")


def test_a_run_that_fails_leaves_no_secret_anywhere(planted, tmp_path):
    for uri in ("http://me:plantedTracking@127.0.0.1:9/x?token=plantedData", "postgresql://me:plantedTracking@[bad/db"):
        code, said = tunesmith(planted, "run", str(planted), "--plain", f"execution.tracking_uri={uri}")
        assert code != 0
        assert leaks(tmp_path, said, "moods.yaml") == []
    for override in (
        "model.base=https://me:plantedModel@huggingface.co/org/name",
        "execution.store=nothing://me:plantedStore@host/x",
        "data.source.train=https://me:plantedData@host/x.csv",
    ):
        code, said = tunesmith(planted, "run", str(planted), "--plain", override)
        assert code == 2, said
        assert "planted" not in said
