"""Runs `tunesmith init` on files of a test."""

import pytest
from typer.testing import CliRunner

from pipeline_lib.cli.main import app
from pipeline_lib.recipe.loading import load


@pytest.fixture
def init(tmp_path, monkeypatch, tiny):
    """Runs `tunesmith init` on the folder `data`, or on what is named; gives the recipe, or the error's text."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()

    def run(*arguments, base="bert", answers=None):
        named = [str(argument) for argument in arguments if not str(argument).startswith("-")]
        data = arguments if named and (tmp_path / named[0]).exists() else ["data", *arguments]
        out = tmp_path / "made.yaml"
        out.unlink(missing_ok=True)
        said = CliRunner().invoke(
            app, ["init", *map(str, data), "--base", str(tiny[base]), "--out", str(out)], input=answers
        )
        if said.exit_code:
            assert said.exit_code == 2, said.output
            return said.output
        init.said = said.output
        return load(out)

    init = run
    return run
