"""YAML that other people wrote: each kind of damage is one error with its line, and none of it hangs.

pytest tests/recipe/test_yaml_text.py
"""

import time

import pytest

from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe.loading import load, parse_override
from pipeline_lib.recipe.yaml_text import MAX_BYTES, MAX_DEPTH, MAX_VALUES, InvalidYaml, parse_yaml
from pipeline_lib.training.settings import Training


def bomb(of, join):
    """Nine levels of ten aliases each: a billion values in ten lines."""
    lines = [f"a: &a {of}"]
    for above, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} " + join([f"*{above}"] * 10))
    return "\n".join(lines)


INVALID = {
    "a number that is none": ("a: 1\nseed: !!int abc", "line 2: 'abc' is not of type 'int'"),
    "an empty number": ("seed: !!int ''", "line 1: '' is not of type 'int'"),
    "a truth that is none": ("a: !!bool perhaps", "'perhaps' is not of type 'bool'"),
    "a list that is called a number": ("a: !!float [1]", "expected a scalar node"),
    "a list that is called a section": ("a: !!map [x]", "expected a mapping node"),
    "a date by its tag": ("a: !!timestamp 2024-01-31", "timestamp"),
    "a set": ("a: !!set {x}", "set"),
    "binary data": ("a: !!binary aGVsbG8=", "binary"),
    "a Python object": ("a: !!python/object/apply:os.system [echo]", "python/object"),
    "a list as a key": ("? [a, b]\n: c", "line 1: a key must be a string"),
    "a section as a key": ("{{a: b}: c}", "a key must be a string"),
    "a key that stands twice": ("a: 1\nb: 2\na: 3", "line 3: 'a' appears twice"),
    "an alias of nothing": ("a: *b", "undefined alias"),
    "an alias of the list that it is in": ("a: &a [*a]", "refers to the section that it is in"),
    "aliases of aliases of lists": (bomb("[x]", lambda aliases: f"[{', '.join(aliases)}]"), "aliases expanded"),
    "aliases of aliases of sections": (
        bomb("{k: x}", lambda aliases: "{" + ", ".join(f"k{n}: {alias}" for n, alias in enumerate(aliases)) + "}"),
        "aliases expanded",
    ),
    "merges of merges": (bomb("{k: x}", lambda aliases: f"{{<<: [{', '.join(aliases)}]}}"), "aliases expanded"),
    "a merge of a number": ("<<: 3", "merging"),
    "brackets in brackets": ("[" * 10_000 + "]" * 10_000, "nested more than"),
    "braces in braces": ("{a: " * 10_000, "nested more than"),
    "dashes behind dashes": ("- " * 10_000, "nested more than"),
    "deeper lines": ("\n".join(" " * n + "a:" for n in range(MAX_DEPTH + 2)), "nested more than"),
    "a very long list": ("- a\n" * (MAX_VALUES + 1), "more than 50,000 values"),
    "a very long text": ("a" * (MAX_BYTES + 1), "more than 1,000,000"),
    "a very long number": ("a: " + "9" * 5_000, "more than 100 characters"),
    "a long sexagesimal number": ("a: 1" + ":10" * 100_000, "more than 100 characters"),
    "a number beyond 64 bits": (f"a: {2**63}", "64 bits"),
    "a NUL": ('a: "\\0"', "NUL"),
    "half of a surrogate pair": ('a: "\\ud800"', "surrogate"),
    "a wrong version": ("%YAML 9.9\n---\na", "incompatible"),
    "two documents": ("a: 1\n---\nb: 2", "another document"),
}


@pytest.mark.parametrize(("text", "reason"), INVALID.values(), ids=INVALID.keys())
def test_what_is_wrong_is_said_with_its_line(text, reason):
    began = time.process_time()
    with pytest.raises(InvalidYaml, match="(?s).*" + reason):
        parse_yaml(text)
    assert time.process_time() - began < 20  # and not hours: fractions of a second each


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024-01-31", "2024-01-31"),
        ("2001-99-99", "2001-99-99"),
        ("=", "="),
        ("[&a {x: 1}, *a, {<<: *a, y: 2}]", [{"x": 1}, {"x": 1}, {"x": 1, "y": 2}]),
        (f"[{2**63 - 1}, {-(2**63 - 1)}]", [2**63 - 1, 1 - 2**63]),
        ("!!str 5", "5"),
        ("[~, true, 0x1F, 1.5, .inf]", [None, True, 31, 1.5, float("inf")]),
        ("", None),
    ],
)
def test_what_recipes_need_is_read(text, value):
    assert parse_yaml(text) == value


def test_a_file_and_an_override_are_read_alike(tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: case\nseed: !!int abc\n")
    with pytest.raises(RecipeError, match=r"recipe = .*is not valid YAML \(line 2: 'abc'"):
        load(tmp_path / "recipe.yaml")
    with pytest.raises(RecipeError, match=r"override = .*is not valid YAML \(line 1: 'abc'"):
        parse_override("seed=!!int abc")
    with pytest.raises(RecipeError, match="a path of more than 30 parts"):
        parse_override(".".join("a" * 31) + "=1")


@pytest.mark.parametrize("path", ["/dev/zero", "x" * 5_000, "a/" * 3_000, "nul\0", "."])
def test_a_path_that_is_no_recipe_is_one_error(path):
    with pytest.raises(RecipeError, match="^recipe = "):
        load(path)


def test_yes_and_no_are_words_that_fields_of_true_and_false_accept():
    """As in YAML 1.2: labels, and the words that a cloze puts in their places, are often yes and no."""
    assert parse_yaml("[yes, No, on, OFF, true, False]") == ["yes", "No", "on", "OFF", True, False]
    assert Training.model_validate(parse_yaml("packing: yes")).packing is True
    with pytest.raises(ValueError, match="epochs"):
        Training.model_validate(parse_yaml("epochs: yes"))
