"""The pages keep their promises: links lead somewhere, recipes load, and every command is one that its program takes.

Which commands are executed, and which are only parsed, is in `test_commands.py`. `pytest tests/docs`.
"""

import re
import subprocess
import tomllib

import pytest
import typer
import yaml
from page_blocks import PAGES, ROOT, blocks, commands

from pipeline_lib.cli.main import app
from pipeline_lib.recipe.schema import check
from pipeline_lib.retrain.gate import Gate

LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
RECIPE = {
    "name": "page",
    "data": {"source": {"kind": "csv", "train": "train.csv"}},
    "model": {"base": "base"},
    "objective": {"kind": "text_classification"},
}


def test_the_readme_has_at_most_a_thousand_words():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 1000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_pictures_exist(page):
    text = page.read_text(encoding="utf-8")
    local = [link for link in LINK.findall(text) if not link.startswith(("http:", "https:"))]
    assert [link for link in local if not (page.parent / link).exists()] == []
    names, defined = re.findall(r"\]\[([\w-]+)\]", text), re.findall(r"^\[([\w-]+)\]: ", text, re.MULTILINE)
    assert set(names) == set(defined)


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: block.id)
def test_a_recipe_or_a_part_of_one_is_valid(block):
    document = yaml.safe_load(block.text)
    if block.text.startswith("# gate"):
        Gate.model_validate(document)
    elif "name" in document:
        check(document)
    else:
        check(RECIPE | document)


@pytest.mark.parametrize("block", blocks("sh"), ids=lambda block: block.id)
def test_a_shell_block_is_valid(block):
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert done.stderr == ""


@pytest.mark.parametrize("command", commands("tunesmith"))
def test_tunesmith_takes_the_command(command):
    parse(typer.main.get_command(app), commands("tunesmith")[command])


@pytest.mark.parametrize("command", commands("mlflow"))
def test_mlflow_takes_the_command(command):
    from mlflow.cli import cli

    parse(cli, commands("mlflow")[command])


@pytest.mark.parametrize("command", commands("prefect"))
def test_prefect_takes_the_command(command, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    from prefect.cli._app import _app as prefect

    prefect.parse_args(commands("prefect")[command], exit_on_error=False, print_error=False)


def parse(command, words):
    """Follow a click command's groups and parse its arguments, without running anything; raises UsageError."""
    context = command.make_context(command.name, list(words[:1]) or ["--help"], resilient_parsing=True)
    while hasattr(command, "get_command"):
        name, *words = words
        command = command.get_command(context, name)
        assert command is not None, f"there is no command {name}"
    command.make_context(command.name, list(words))


def test_pages_name_commands_and_targets_that_exist():
    known = typer.main.get_command(app).commands
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert set(re.findall(r"(?:`|^)tunesmith ([a-z]+)", text, re.MULTILINE)) <= set(known), page
        assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)) <= set(targets), page


def test_the_readme_names_the_commands_that_ci_runs():
    for target in ("lint", "test", "test-slow"):
        assert re.search(rf"^make .* {target}$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
        assert f"`make {target}`" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_slow_tests_are_those_with_any_of_the_declared_markers():
    (slow,) = re.findall(r"^SLOW := (.*)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    declared = [marker.partition(":")[0] for marker in pyproject["tool"]["pytest"]["ini_options"]["markers"]]
    assert slow.split(" or ") == declared
