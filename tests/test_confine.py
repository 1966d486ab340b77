"""Where the paths of recipes and data may lead. `pytest tests/test_confine.py`."""

import json
import shutil

import datasets
import pytest

from pipeline_lib import steps
from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe import check


@pytest.fixture
def held(document, tiny_bert, tmp_path, monkeypatch):
    """A recipe whose data, model and store lie in a folder, and that folder, in which recipes are held."""
    root = tmp_path / "held"
    root.mkdir()
    document["data"]["source"]["train"] = shutil.copy(document["data"]["source"]["train"], root)
    document["model"]["base"] = str(shutil.copytree(tiny_bert, root / "base"))
    document["execution"]["store"] = str(root / "store")
    monkeypatch.setenv("TUNESMITH_ROOT", str(root))
    return document, root


def test_what_lies_inside_is_taken(held):
    steps.check(check(held[0]))


@pytest.mark.parametrize("field", ["data.source", "model.base", "execution.store"])
def test_what_leads_out_is_refused(field, held, tmp_path):
    document, root = held
    outside = {
        "data.source": ("data", "source", {"train": _linked(root, document["data"]["source"]["train"], tmp_path)}),
        "model.base": ("model", None, {"base": str(shutil.copytree(root / "base", tmp_path / "base"))}),
        "execution.store": ("execution", None, {"store": f"{root}/../store"}),
    }
    part, inner, change = outside[field]
    (document[part][inner] if inner else document[part]).update(change)
    with pytest.raises(RecipeError, match=f"^{field} .*outside of the folder"):
        steps.check(check(document))


def _linked(root, file, elsewhere):
    """A link inside the folder to a file outside of it."""
    (root / "link.csv").symlink_to(shutil.copy(file, elsewhere / "outside.csv"))
    return str(root / "link.csv")


def test_without_the_variable_a_recipe_reads_what_its_account_may(held, monkeypatch, tmp_path):
    document, root = held
    document["data"]["source"]["train"] = _linked(root, document["data"]["source"]["train"], tmp_path)
    monkeypatch.delenv("TUNESMITH_ROOT")
    steps.check(check(document))


def test_a_package_is_not_left(document):
    document["model"]["base"] = "package:numpy/../torch"
    with pytest.raises(RecipeError, match="leads out of the package"):
        steps.check(check(document))


def test_a_saved_data_set_names_no_file_outside_of_its_folder(document, tmp_path):
    datasets.Dataset.from_dict({"text": ["a"], "label": ["b"]}).save_to_disk(tmp_path / "saved")
    state = tmp_path / "saved" / "state.json"
    told = json.loads(state.read_text())
    told["_data_files"][0]["filename"] = "../elsewhere.arrow"
    state.write_text(json.dumps(told))
    document["data"]["source"] = {"kind": "huggingface", "path": str(tmp_path / "saved")}
    with pytest.raises(RecipeError, match="names a file outside of its folder"):
        steps.check(check(document))
