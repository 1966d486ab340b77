"""The JSON Schema of a recipe, and the documentation of its fields. `pytest tests/recipe/test_fields.py`."""

import json
import re

import pytest
import yaml
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from pipeline_lib.cli.main import app
from pipeline_lib.recipe.fields import recipe_fields
from pipeline_lib.recipe.json_schema import FIRST_LINE, SCHEMA_FILE, recipe_schema, schema_text
from pipeline_lib.recipe.loading import PACKAGED

RECIPES = sorted(PACKAGED.glob("*.yaml"))


def read(text):
    """YAML as an editor reads it: by YAML 1.2, 5e-5 is a number."""
    return yaml.safe_load(re.sub(r"(?<=: )(\d+)e(-\d+)", r"\1.0e\2", text))


def test_the_schema_beside_the_recipes_is_current():
    """Write it again with `tunesmith schema deployments/recipes/recipe.schema.json`."""
    assert (PACKAGED / SCHEMA_FILE).read_text(encoding="utf-8") == schema_text()


def test_the_schema_depends_on_no_environment(monkeypatch):
    monkeypatch.setenv("TUNESMITH_STORE", "s3://bucket/elsewhere")
    assert "elsewhere" not in schema_text()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_names_the_schema_and_fits_it(path):
    text = path.read_text(encoding="utf-8")
    assert text.splitlines()[0] == FIRST_LINE
    Draft202012Validator(recipe_schema()).validate(read(text))


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("epochs: 8", "epochs: 0", ["training", "epochs"]),
        ("epochs: 8", "epoch: 8", ["training"]),
        ("kind: full", "rate: 2.0", ["strategies", 0]),
    ],
)
def test_an_editor_marks_the_place_of_a_mistake(old, new, place):
    text = (PACKAGED / "demo.yaml").read_text(encoding="utf-8").replace(old, new)
    errors = list(Draft202012Validator(recipe_schema()).iter_errors(read(text)))
    assert place in [list(error.absolute_path) for error in errors]


def test_schema_prints_or_writes_the_same(tmp_path):
    said = CliRunner().invoke(app, ["schema"])
    assert json.loads(said.stdout) == recipe_schema()
    assert CliRunner().invoke(app, ["schema", str(tmp_path / "s.json")]).exit_code == 0
    assert (tmp_path / "s.json").read_text() == said.stdout
    assert CliRunner().invoke(app, ["schema", str(tmp_path)]).exit_code == 2


def mistakes(errors):
    """Errors of a part of a recipe: what it lacks is none, and of a choice the kind that it names counts."""
    for error in errors:
        branches = {}
        for inner in error.context:
            branches.setdefault(inner.schema_path[0], []).append(inner)
        chosen = [errors for errors in branches.values() if not any(inner.validator == "const" for inner in errors)]
        if error.validator != "required" and all([*mistakes(branch)] for branch in chosen):
            yield error


def test_every_field_has_a_meaning_and_an_example_that_is_its_value():
    validator = Draft202012Validator(recipe_schema())
    assert len(recipe_fields()) > 200
    for path, field in recipe_fields().items():
        assert field.meaning, path
        if field.type in ("kind", "section") or field.children:
            continue
        assert path.rpartition(".")[2] in field.example, path
        found = list(mistakes(validator.iter_errors(read(f"{{{field.example}}}"))))
        assert not found, (path, field.example, found)


def test_an_example_that_does_not_fit_is_found():
    validator = Draft202012Validator(recipe_schema())
    for example in ("{strategies: [{kind: lora, rank: 0}]}", "{training: {epochs: many}}", "{data: {split: {by: 1}}}"):
        assert list(mistakes(validator.iter_errors(read(example))))


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("training.batch_size", ["Rows per optimizer step", "integer, greater than 0", "training: {batch_size: 16}"]),
        ("strategies.0.rank", ["strategies.lora.rank", "default   8"]),
        ("strategies.lora", ["dora", "rank"]),
        ("data.source.train", ["none: the field is required", "data.source.csv.train"]),
        ("objective", ["text_classification", "seq2seq"]),
    ],
)
def test_explain_prints_one_fields_documentation(field, words):
    said = CliRunner().invoke(app, ["explain", field])
    assert said.exit_code == 0
    for word in words:
        assert word in said.stdout


@pytest.mark.parametrize(
    ("field", "suggestion"),
    [
        ("training.batchsize", "training.batch_size"),
        ("batch_size", "training.batch_size"),
        ("strategies.lora.ranks", "strategies.lora.rank"),
        ("xyzzy", "The sections are name, data, model"),
    ],
)
def test_explain_suggests_a_field_for_an_unknown_one(field, suggestion):
    said = CliRunner().invoke(app, ["explain", field])
    assert said.exit_code == 2 and suggestion in said.stderr


def test_explain_without_a_field_lists_the_sections():
    assert "training      How the model is trained" in CliRunner().invoke(app, ["explain"]).stdout
