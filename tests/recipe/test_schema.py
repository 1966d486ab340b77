"""The recipe: overrides, paths, the schema that forms are drawn from, and how little loading one takes.

pytest tests/recipe/test_schema.py
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import ValidationError

from pipeline_lib.data.sources import Source
from pipeline_lib.recipe.execution import tracking_uri
from pipeline_lib.recipe.loading import load
from pipeline_lib.recipe.schema import Recipe, check
from pipeline_lib.strategies import Strategy

RECIPES = sorted((Path(__file__).parents[2] / "deployments" / "recipes").glob("*.yaml"))
HEAVY = ("torch", "transformers", "mlflow", "prefect", "pandas", "sklearn", "datasets")


@pytest.fixture
def path(document, tmp_path):
    """A recipe file."""
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(document))
    return tmp_path / "recipe.yaml"


# Overrides


@pytest.mark.parametrize(
    ("overrides", "read", "value"),
    [
        (["seed=3"], lambda r: r.seed, 3),
        (["training.epochs=5"], lambda r: r.training.epochs, 5),
        (["data.columns.label=mood=x"], lambda r: r.data.columns.label, "mood=x"),
        (["regularizers=[{kind: weight_decay}]"], lambda r: r.regularizers[0].value, 0.01),
        (
            ["regularizers=[{kind: weight_decay}]", "regularizers.0.value=0.5"],
            lambda r: r.regularizers[0].value,
            0.5,
        ),
        (["strategies=[{kind: full}]", "strategies.0={kind: partial}"], lambda r: r.strategies[0].kind, "partial"),
        (["evaluation.metrics=[accuracy]"], lambda r: r.evaluation.metrics, ("accuracy",)),
        (["training.learning_rate=5e-5"], lambda r: r.training.learning_rate, 5e-5),  # which YAML reads as a text
        (["training.epochs=2", "training.epochs=4"], lambda r: r.training.epochs, 4),
        (["execution.tracking_uri=null"], lambda r: r.execution.tracking_uri, None),
        (["execution.tracking_uri="], lambda r: r.execution.tracking_uri, None),
        (["name='7'"], lambda r: r.name, "7"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_override_sets_one_value(path, overrides, read, value):
    assert read(load(path, overrides)) == value


def test_an_override_leaves_its_neighbours(path):
    before, after = load(path), load(path, ["training.epochs=9"])
    assert after.training.model_copy(update={"epochs": before.training.epochs}) == before.training


def test_a_rate_like_5e_5_is_a_number_in_the_file_too(path, document):
    del document["training"]
    path.write_text(yaml.safe_dump(document) + "training: {learning_rate: 5e-5}\n")
    assert load(path).training.learning_rate == 5e-5


# Paths


def test_data_lies_beside_the_recipe_wherever_it_is_run_from(path, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    recipe = load("../recipe.yaml", ["data.source.train=moods.csv", "data.source.test=[moods.csv, deep/*.csv]"])
    assert recipe.data.source.files("train")[0].samefile(tmp_path / "moods.csv")
    assert recipe.data.source.test[1].endswith("deep/*.csv")
    assert Path(recipe.data.source.test[1]).is_absolute()


def test_an_absolute_path_stays(path, tmp_path):
    assert load(path, [f"data.source.train={tmp_path}/moods.csv"]).data.source.train == f"{tmp_path}/moods.csv"


def test_a_base_is_a_folder_beside_the_recipe_where_there_is_one(path, tmp_path):
    (tmp_path / "org" / "mine").mkdir(parents=True)
    assert load(path, ["model.base=org/mine"]).model.base == str(tmp_path / "org" / "mine")
    assert load(path, ["model.base=org/theirs"]).model.base == "org/theirs"
    assert load(path, ["model.base=./theirs"]).model.base == str(tmp_path / "theirs")
    assert load(path, ["model.base=package:moods/model"]).model.base == "package:moods/model"


def test_the_store_and_mlflow_are_relative_to_the_working_directory(path, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    recipe = load(path, ["execution.store=artifacts", "execution.tracking_uri=null"])
    assert recipe.execution.store == "artifacts"
    assert tracking_uri(recipe.execution) == f"sqlite:///{tmp_path}/mlflow.db"


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_a_recipe_that_comes_with_the_project_is_sound(file):
    assert load(file).name


# The schema


def test_every_field_of_the_schema_is_described():
    schema = Recipe.model_json_schema()
    sections = {"Recipe": schema, **schema["$defs"]}
    bare = [
        f"{name}.{field}"
        for name, section in sections.items()
        for field, facts in section.get("properties", {}).items()
        if "const" not in facts and not described(facts, schema["$defs"])
    ]
    assert bare == []


def test_every_section_of_the_schema_is_described():
    sections = Recipe.model_json_schema()["$defs"]
    assert [name for name, section in sections.items() if not section.get("description")] == []


def test_a_union_is_resolved_by_a_kind_that_must_be_given():
    for name, section in Recipe.model_json_schema()["$defs"].items():
        if "kind" in section.get("properties", {}):
            assert "kind" in section["required"], name
            kind = section["properties"]["kind"]
            assert kind["default"] == kind["const"], name  # Prefect's form fills it in


def test_a_section_has_no_kind_of_its_own_accord():
    for section in (*get_args(get_args(Strategy)[0]), *get_args(get_args(Source)[0])):
        with pytest.raises(ValidationError, match="kind\n  Field required"):
            section.model_validate({})


def test_no_field_takes_just_anything():
    assert '"additionalProperties": true' not in json.dumps(Recipe.model_json_schema())


def described(facts, sections):
    """Whether a property has a description: its own, or that of the section it refers to."""
    target = sections.get(facts.get("$ref", "").removeprefix("#/$defs/"), {})
    return bool(facts.get("description") or target.get("description"))


# What a recipe is


def test_a_recipe_is_frozen(recipe):
    for section, field in ((recipe, "seed"), (recipe.training, "epochs"), (recipe.strategies[0], "kind")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, field, 1)


def test_a_recipe_survives_being_written_and_read(recipe):
    assert check(recipe.model_dump(mode="json")) == recipe
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_a_recipe_is_loaded_without_anything_heavy(path):
    code = f"""if True:
        import sys
        from pipeline_lib.recipe.loading import load
        load({str(path)!r}, ["evaluation.metrics=[accuracy]", "evaluation.baselines=[majority]"])
        print([name for name in {HEAVY} if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
