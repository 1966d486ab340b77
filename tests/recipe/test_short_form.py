"""The short form: its lists, and what its values change in a recipe. `pytest tests/recipe/test_short_form.py`."""

import pytest
import yaml

from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe.loading import names
from pipeline_lib.recipe.short_form import AS_IN_RECIPE, PATHS, STRATEGIES, UNSET, load_short_form


@pytest.fixture
def recipes(tmp_path, document, monkeypatch):
    """A folder of recipes with one of them, called `ours`."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "ours.yaml").write_text(yaml.safe_dump(document))
    monkeypatch.setenv("TUNESMITH_RECIPES", str(folder))
    return folder


def test_an_empty_form_leaves_the_recipe_as_it_is(recipes, recipe):
    empty = {**dict.fromkeys(PATHS, UNSET), "strategy": AS_IN_RECIPE, "train": "", "base": None}
    assert load_short_form("ours", empty).model_dump() == recipe.model_dump()


def test_each_value_of_the_form_changes_its_field_and_is_recorded_as_an_override(recipes, moods_csv):
    values = {
        "train": str(moods_csv),
        "test": "other: 1.csv",
        "strategy": "last 2 layers",
        "epochs": 2,
        "learning_rate": 1e-5,
        "batch_size": 8,
        "seed": 0,
        "name": "by-hand",
    }
    found = load_short_form("ours", values, ["training.warmup=0.2", "training.epochs=3"])
    assert found.data.source.test == str(recipes / "other: 1.csv")
    assert [strategy.model_dump(include={"kind", "last_layers"}) for strategy in found.strategies] == [
        {"kind": "partial", "last_layers": 2}
    ]
    training = found.training
    assert (training.epochs, training.learning_rate, training.batch_size, training.warmup) == (3, 1e-5, 8, 0.2)
    assert (found.seed, found.name) == (0, "by-hand")
    assert "training.batch_size=8" in found.given.overrides


@pytest.mark.parametrize("preset", STRATEGIES)
def test_every_preset_is_a_sound_list_of_strategies(preset, recipes):
    assert load_short_form("ours", {"strategy": preset}).strategies[0].kind == STRATEGIES[preset][0]["kind"]


@pytest.mark.parametrize(
    ("values", "overrides", "message"),
    [
        ({"epochs": 0}, [], "training.epochs = 0: must be greater than 0"),
        ({"epochs": "many"}, [], "training.epochs = 'many': must be an integer"),
        (
            {"strategy": "all"},
            [],
            "strategy = 'all': is not an allowed value. Choose one of as in the recipe, all",
        ),
        ({}, "training.epochs=3", "overrides = 'training.epochs=3': must be a list of strings"),
        ({}, ["training.epochs"], "override = 'training.epochs': must have the form path=value"),
    ],
)
def test_a_mistake_names_the_field_of_the_recipe(values, overrides, message, recipes):
    with pytest.raises(RecipeError) as excinfo:
        load_short_form("ours", values, overrides)
    assert str(excinfo.value).startswith(message)


def test_without_a_folder_the_list_has_the_packaged_recipes(monkeypatch):
    monkeypatch.delenv("TUNESMITH_RECIPES", raising=False)
    assert "demo" in names()
    assert load_short_form("demo", {}).name == "support-topics"
