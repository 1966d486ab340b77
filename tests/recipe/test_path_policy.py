"""What recipes may read, write and contact where $TUNESMITH_ROOT is set. `pytest tests/recipe/test_path_policy.py`."""

import json
import shutil
from typing import get_args, get_origin

import datasets
import pytest
from pydantic import BaseModel

from pipeline_lib.errors import RecipeError
from pipeline_lib.pipeline import input_checks
from pipeline_lib.recipe.path_policy import RULES, find_addresses, reach_of
from pipeline_lib.recipe.schema import Recipe, check
from pipeline_lib.retrain.gate import Gate
from pipeline_lib.scoring.request import Scoring
from pipeline_lib.sweep.trials import Sweep
from pipeline_lib.util.section import Reach

PLAIN_TEXTS = {
    "ByColumn": {"column"},
    "CausalLM": {"chat_template"},  # where it is a path, `recipe/chat_template.py` reads the file and asks the policy
    "Cloze": {"template"},
    "Columns": {"text", "text_pair", "label", "tokens", "tags", "question", "context", "answers", "source", "target"}
    | {"prompt", "input", "answer", "messages", "tools", "system", "chosen", "rejected", "completion"},
    "Conll": {"delimiter", "encoding", "names"},
    "Conllu": {"encoding"},
    "Csv": {"delimiter", "encoding", "names"},
    "EarlyStopping": {"metric"},
    "Evaluation": {"metrics"},
    "Execution": {"experiment"},
    "Floor": {"metric", "column", "value"},
    "Gate": {"model", "metric"},
    "HuggingFace": {"name", "revision", "train", "validation", "test"},
    "Json": {"encoding", "names", "records"},
    "Jsonl": {"encoding", "names"},
    "LoRA": {"targets"},
    "Model": {"revision"},
    "Parallel": {"encoding", "source_language", "target_language"},
    "Partial": {"patterns"},
    "Preference": {"chat_template"},
    "SoftPrompt": {"init_text"},
    "Rate": {"pattern"},
    "Recipe": {"name"},
    "Seq2Seq": {"prefix", "source_language", "target_language"},
    "Squad": {"encoding"},
    "Text": {"encoding"},
    "SplitSettings": {"by"},
    "Sweep": {"vary", "metric"},
    "TextClassification": {"label_separator"},
    "Tsv": {"encoding", "names"},
    "Verbalized": {"label", "words"},
    "Yaml": {"encoding"},
}
"""Texts that are never a path or an address: names of columns, metrics, layers, labels, and words. Think before adding
one: a text that is opened or contacted needs a `Reach` in its annotation, and a rule in `recipe/path_policy.py`."""


@pytest.fixture
def held(document, tiny_bert, tmp_path, monkeypatch):
    """A recipe whose data, model, store and MLflow lie in a folder, and that folder, in which recipes are held."""
    root = tmp_path / "held"
    root.mkdir()
    document["data"]["source"]["train"] = shutil.copy(document["data"]["source"]["train"], root)
    document["model"]["base"] = str(shutil.copytree(tiny_bert, root / "base"))
    document["execution"] |= {"store": str(root / "store"), "tracking_uri": f"sqlite:///{root}/mlflow.db"}
    monkeypatch.setenv("TUNESMITH_ROOT", str(root))
    monkeypatch.delenv("TUNESMITH_ALLOWED_URLS", raising=False)
    return document, root


def test_what_lies_inside_is_taken(held):
    input_checks.check_inputs(check(held[0]))


# Every field


def sections(annotation, found):
    """All sections of a schema: unions, lists and optional ones are gone through."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation not in found:
            found.append(annotation)
            for info in annotation.model_fields.values():
                sections(info.rebuild_annotation(), found)
        return found
    for part in get_args(annotation):
        sections(part, found)
    return found


def has_text(annotation):
    """Whether a field can hold any text; the choices of a Literal cannot."""
    return annotation is str or (
        str(get_origin(annotation)) != "typing.Literal" and any(has_text(part) for part in get_args(annotation))
    )


@pytest.mark.parametrize("model", [Recipe, Scoring, Gate, Sweep])
def test_every_text_of_the_schema_is_a_path_with_a_rule_or_known_to_be_none(model):
    forgotten = []
    for section in sections(model, []):
        for name, info in section.model_fields.items():
            annotation = info.rebuild_annotation()
            plain = name in PLAIN_TEXTS.get(section.__name__, set())
            if has_text(annotation) and (reach_of(annotation) is None) != plain:
                forgotten.append(f"{section.__name__}.{name}")
    assert forgotten == []


def test_every_reach_has_a_rule():
    assert set(RULES) == set(Reach)


def test_all_values_are_found_in_lists_too(document):
    document["data"]["source"] |= {"validation": ["a.csv", "b.csv"], "test": "c.csv"}
    found = {field: value for field, _, value in find_addresses(check(document))}
    names = {"train", "validation.0", "validation.1", "test"}
    assert found.keys() == {*(f"data.source.{name}" for name in names), "model.base"} | {
        "execution.store",
        "execution.tracking_uri",
    }


# Ways out

OUTSIDE = {
    "a file": ("data.source.train", "~/outside/moods.csv"),
    "a file by steps up": ("data.source.train", "~/held/../outside/moods.csv"),
    "a file in a list": ("data.source.validation", ["~/held/moods.csv", "~/outside/moods.csv"]),
    "a file behind a link": ("data.source.train", "~/held/link/moods.csv"),
    "a linked file in a glob": ("data.source.train", "~/held/links/*.csv"),
    "a linked file in a folder": ("data.source.train", "~/held/links"),
    "a glob that steps up": ("data.source.train", "~/held/*/../../outside/*.csv"),
    "a glob that finds nothing there": ("data.source.test", "~/outside/no-such-*.csv"),
    "a path like a URL": ("data.source.train", "x:/../../../outside/moods.csv"),
    "a file's URL as a path": ("data.source.train", "file://../../../../../../../../~/outside/moods.csv"),
    "a base": ("model.base", "~/outside/base"),
    "a base by steps up": ("model.base", "~/held/../outside/base"),
    "a base with a linked file": ("model.base", "~/held/linked-base"),
    "a base that is not there": ("model.base", "~/outside/no-such-base"),
    "a store": ("execution.store", "~/outside/store"),
    "a store by steps up": ("execution.store", "~/held/../store"),
    "a store behind a link": ("execution.store", "~/held/link/store"),
    "a store like a URL": ("execution.store", "x:/../../../outside/store"),
    "a store by a file's URL": ("execution.store", "file://~/outside/store"),
    "a store by another name of that": ("execution.store", "local://~/outside/store"),
    "a store by a URL with steps up": ("execution.store", "file://~/held/../outside"),
    "a store by a URL with encoded steps up": ("execution.store", "file://~/held/%2e%2e/outside"),
    "a store by a URL with a host": ("execution.store", "file://host/store"),
    "a store in memory": ("execution.store", "memory://x"),
    "a store behind a chain of drivers": ("execution.store", "simplecache::file://~/outside"),
    "a store in an archive": ("execution.store", "zip://x::file://~/outside/a.zip"),
    "a store of an unknown scheme": ("execution.store", "ssh://host/store"),
    "a store in a bucket": ("execution.store", "s3://bucket/prefix"),
    "MLflow's database": ("execution.tracking_uri", "sqlite:///~/outside/t.db"),
    "MLflow's database by steps up": ("execution.tracking_uri", "sqlite:///~/held/../outside/t.db"),
    "MLflow's database by SQLite's URL": ("execution.tracking_uri", "sqlite:///file:~/outside/t.db?uri=true"),
    "MLflow's database with another driver": ("execution.tracking_uri", "sqlite+pysqlite:///~/outside/t.db"),
    "MLflow's folder": ("execution.tracking_uri", "~/outside/mlruns"),
    "MLflow's folder by a URL": ("execution.tracking_uri", "file://~/outside/mlruns"),
    "MLflow's folder by an encoded URL": ("execution.tracking_uri", "file://~/held/%2e%2e/outside"),
    "MLflow's folder by a URL with a host": ("execution.tracking_uri", "file://host~/outside"),
    "MLflow's folder by a URL with a fragment": ("execution.tracking_uri", "file://~/outside#/../../held/x"),
    "MLflow's server": ("execution.tracking_uri", "http://169.254.169.254/"),
    "MLflow's database server": ("execution.tracking_uri", "postgresql://host/mlflow"),
    "MLflow at Databricks": ("execution.tracking_uri", "databricks"),
    "MLflow at Databricks, by profile": ("execution.tracking_uri", "databricks://profile"),
    "a cluster": ("execution.cluster", "tcp://10.0.0.7:8786"),
    "an address to listen on": ("execution.rendezvous", "10.0.0.7:29400"),
}


@pytest.mark.parametrize(("field", "value"), OUTSIDE.values(), ids=OUTSIDE.keys())
def test_what_leads_out_is_refused(field, value, held, tmp_path, monkeypatch):
    document, root = held
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.copy(root / "moods.csv", outside)
    shutil.copytree(root / "base", outside / "base")
    (root / "link").symlink_to(outside)
    (root / "links").mkdir()
    (root / "links" / "a.csv").symlink_to(outside / "moods.csv")
    shutil.copytree(root / "base", root / "linked-base")
    (root / "linked-base" / "vocab.txt").symlink_to(outside / "moods.csv")
    monkeypatch.chdir(root)
    value = json.loads(json.dumps(value).replace("~", str(tmp_path)))
    *sections, name = field.split(".")
    section = document
    for part in sections:
        section = section[part]
    section[name] = value
    if name == "cluster":
        document["execution"]["task_runner"] = "dask"
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RecipeError, match=f"^{field}[ .].*(TUNESMITH_|not allowed on this worker)"):
        input_checks.check_inputs(check(document))
    assert sorted(tmp_path.rglob("*")) == before  # and nothing was written


def test_a_target_file_that_is_a_link_is_refused(held, tmp_path):
    document, root = held
    (root / "a.en").write_text("one\ntwo\n")
    (tmp_path / "a.de").write_text("eins\nzwei\n")
    (root / "a.de").symlink_to(tmp_path / "a.de")
    document["data"] = {"source": {"kind": "parallel", "train": str(root / "a.en")}}
    document["data"]["source"] |= {"source_language": "en", "target_language": "de"}
    document["objective"] = {"kind": "seq2seq"}
    document["evaluation"] = {}
    with pytest.raises(RecipeError, match="^data.source.train = .*a.de.*outside the folder"):
        input_checks.check_inputs(check(document))


def test_a_target_language_is_no_path(document):
    document["data"]["source"] = {"kind": "parallel", "train": "a.en", "source_language": "en"}
    document["data"]["source"]["target_language"] = "/../../x"
    with pytest.raises(RecipeError, match="target_language.*has an invalid format"):
        check(document)


def test_a_data_set_of_the_hub_is_no_reader_of_the_working_directory(held):
    document, _ = held
    document["data"] = {"source": {"kind": "huggingface", "path": "csv"}}
    with pytest.raises(RecipeError, match="^data.source.path"):
        check(document)
    document["data"]["source"]["path"] = "org/name"
    check(document)


def test_weights_are_named_in_their_folder_only(held, tmp_path):
    document, root = held
    shutil.copy(root / "base" / "model.safetensors", tmp_path / "outside.safetensors")
    index = {"weight_map": {"x": "../../outside.safetensors"}}
    (root / "base" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(RecipeError, match="names a file outside its folder"):
        input_checks.check_inputs(check(document))


# What the worker's environment allows

ALLOWED = (
    "s3://team/models https://mlflow.example.org postgresql://db.example.org:5432/mlflow tcp://10.0.0.7:8786 "
    "10.0.0.7:29400"
)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("store", "s3://team/models"),
        ("store", "s3://team/models/mine"),
        ("tracking_uri", "https://mlflow.example.org"),
        ("tracking_uri", "https://me:secret@mlflow.example.org/path"),
        ("tracking_uri", "postgresql://me:secret@db.example.org:5432/mlflow"),
        ("tracking_uri", None),
        ("cluster", "tcp://10.0.0.7:8786"),
        ("rendezvous", "10.0.0.7:29400"),
    ],
)
def test_what_the_environment_lists_may_be_reached(field, value, held, monkeypatch):
    monkeypatch.setenv("TUNESMITH_ALLOWED_URLS", ALLOWED)
    held[0]["execution"] |= {field: value, "task_runner": "dask"}
    check(held[0])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("store", "s3://team"),
        ("store", "s3://team/models-of-others"),
        ("store", "s3://team/models/../others"),
        ("store", "s3://team/models/%2e%2e/others"),
        ("store", "s3://team//models"),
        ("store", "s3://me@team/models"),
        ("store", "s3://team/models::file:///etc"),
        ("tracking_uri", "http://mlflow.example.org"),
        ("tracking_uri", "https://mlflow.example.org:8443"),
        ("tracking_uri", "https://mlflow.example.org@evil.example"),
        ("tracking_uri", "https://evil.example\\@mlflow.example.org"),
        ("tracking_uri", "postgresql://db.example.org:5432/mlflow?host=evil.example"),
        ("tracking_uri", "https://[::1"),
        ("cluster", "tcp://10.0.0.7:87860"),
        ("cluster", "10.0.0.7:8786"),
        ("rendezvous", "10.0.0.7:2940"),
        ("rendezvous", "0.0.0.0:29400"),
    ],
)
def test_what_only_looks_like_it_may_not(field, value, held, monkeypatch):
    monkeypatch.setenv("TUNESMITH_ALLOWED_URLS", ALLOWED)
    held[0]["execution"] |= {field: value, "task_runner": "dask"}
    with pytest.raises(RecipeError, match=f"^execution.{field} "):
        check(held[0])


def test_the_environments_own_mlflow_may_be_named(held, monkeypatch):
    held[0]["execution"]["tracking_uri"] = "http://mlflow:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    check(held[0])


def test_the_environments_own_store_may_be_named(held, monkeypatch):
    held[0]["execution"]["store"] = "s3://of-the-worker/store"
    with pytest.raises(RecipeError, match="execution.store"):
        check(held[0])
    monkeypatch.setenv("TUNESMITH_STORE", "s3://of-the-worker/store")
    check(held[0])


def test_without_the_variable_a_recipe_reads_what_its_account_may(held, monkeypatch, tmp_path):
    document, root = held
    (root / "link.csv").symlink_to(shutil.copy(root / "moods.csv", tmp_path / "outside.csv"))
    document["data"]["source"]["train"] = str(root / "link.csv")
    monkeypatch.delenv("TUNESMITH_ROOT")
    input_checks.check_inputs(check(document))


@pytest.mark.parametrize(
    ("base", "problem"),
    [
        ("package:numpy/../torch", "is outside the package"),
        ("package:__main__", "no Python package"),
        ("package:builtins/x", "no Python package"),
        ("package:os/..", "no Python package"),
        ("package:", "no Python package"),
        ("package:numpy/" + "a" * 5_000, "has no config.json"),
    ],
)
def test_a_package_is_not_left(base, problem, document):
    document["model"]["base"] = base
    with pytest.raises(RecipeError, match=problem):
        input_checks.check_inputs(check(document))


def test_a_saved_data_set_names_no_file_outside_of_its_folder(document, tmp_path):
    datasets.Dataset.from_dict({"text": ["a"], "label": ["b"]}).save_to_disk(tmp_path / "saved")
    state = tmp_path / "saved" / "state.json"
    saved = json.loads(state.read_text())
    saved["_data_files"][0]["filename"] = "../elsewhere.arrow"
    state.write_text(json.dumps(saved))
    document["data"]["source"] = {"kind": "huggingface", "path": str(tmp_path / "saved")}
    with pytest.raises(RecipeError, match="names a file outside its folder"):
        input_checks.check_inputs(check(document))
