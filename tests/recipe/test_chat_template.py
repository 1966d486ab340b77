"""A chat template in a recipe: a file or the template itself, read once."""

import pytest

from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe.loading import load
from pipeline_lib.recipe.schema import check

TEMPLATE = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}\n"


@pytest.fixture
def chat(document, tmp_path):
    """A recipe for conversations, and a template beside it."""
    (tmp_path / "chat.jinja").write_text(TEMPLATE, encoding="utf-8")
    document["objective"] = {"kind": "causal_lm", "chat_template": "chat.jinja"}
    return document


def test_the_recipe_holds_the_files_text(chat, tmp_path):
    recipe = check(chat, tmp_path)
    assert recipe.objective.chat_template == TEMPLATE
    assert check(recipe.model_dump(mode="json")) == recipe  # as another process, or a rerun from MLflow, reads it


def test_the_template_itself_can_stand_in_the_recipe(chat, tmp_path):
    chat["objective"]["chat_template"] = TEMPLATE
    assert check(chat, tmp_path).objective.chat_template == TEMPLATE


def test_a_file_beside_the_recipe_is_found_from_anywhere(chat, tmp_path, monkeypatch):
    import yaml

    folder = tmp_path / "recipes"
    folder.mkdir()
    (tmp_path / "chat.jinja").rename(folder / "chat.jinja")
    (folder / "chat.yaml").write_text(yaml.safe_dump(chat), encoding="utf-8")
    monkeypatch.chdir("/")
    assert load(folder / "chat.yaml").objective.chat_template == TEMPLATE


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("none.jinja", "No such file"),
        ("{% for m in messages %}{{ m.content }}", r"is not a valid Jinja template \(line 1"),
        ("{{ m.content", r"is not a valid Jinja template \(line 1"),
    ],
)
def test_what_is_wrong_is_one_error(chat, tmp_path, template, problem):
    chat["objective"]["chat_template"] = template
    with pytest.raises(RecipeError, match=problem) as error:
        check(chat, tmp_path)
    assert error.value.field == "objective.chat_template"


def test_a_file_outside_the_folder_that_recipes_are_restricted_to_is_not_read(chat, tmp_path, monkeypatch):
    monkeypatch.setenv("TUNESMITH_ROOT", str(tmp_path / "root"))
    with pytest.raises(RecipeError, match="lies outside the folder") as error:
        check(chat, tmp_path)
    assert error.value.field == "objective.chat_template"
    assert "generation" not in str(error.value)
