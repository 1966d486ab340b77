"""The examples of the reference pages are valid, and every page has a place in the site. `pytest tests/docs`."""

import importlib.util
import tomllib

import pytest
from page_blocks import ROOT

from pipeline_lib.recipe import Recipe, check
from pipeline_lib.retrain.gate import Gate
from pipeline_lib.schema import Section


def load_script():
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "scripts" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REFERENCE = load_script()


def classes(parent=Section):
    for child in parent.__subclasses__():
        yield child.__name__, child
        yield from classes(child)


def sections():
    """The name of each section in `examples.yaml`, its kind and its class."""
    by_name = dict(classes())
    for model in (Recipe, Gate):
        schema = model.model_json_schema()
        names = {id(section): name for name, section in schema["$defs"].items()}
        for path, kind, section in REFERENCE.sections("", schema, schema["$defs"]):
            yield f"{path}.{kind}" if kind else path, kind, by_name[names[id(section)]]


@pytest.mark.parametrize("name", REFERENCE.EXAMPLES)
def test_the_examples_of_a_section_are_valid(name):
    values = REFERENCE.EXAMPLES[name]
    if name == "recipe":
        check(values)
        return
    if name == "gate":
        Gate.model_validate(values)
        return
    kind, model = next((kind, model) for path, kind, model in sections() if path == name)
    model.model_validate({"kind": kind, **values} if kind else values)


def test_every_page_is_in_the_navigation():
    def listed(entry):
        if isinstance(entry, str):
            return [entry]
        return [
            page
            for value in entry.values()
            for part in ([value] if isinstance(value, str) else value)
            for page in listed(part)
        ]

    nav = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
    pages = [str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")]
    assert sorted(page for entry in nav for page in listed(entry)) == sorted(pages)
