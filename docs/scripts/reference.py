"""Write the reference pages from the schemas: python docs/scripts/reference.py [--check].

Every field has its type, default, meaning and an example. Examples come from `examples.yaml`, which a test loads; a
field that is not listed there gets an example from its type. `--check` writes nothing and ends with exit code 1 if a
page is out of date.
"""

import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from pipeline_lib.recipe import Recipe
from pipeline_lib.retrain.gate import Gate

DOCS = Path(__file__).parents[1]
EXAMPLES: dict[str, dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "examples.yaml").read_text("utf-8"))
INTRO = {
    "recipe": """# Recipe reference

Every field of a recipe, generated from the schema by `make reference`. [Writing a recipe](recipes.md) explains how they
work together. Required fields have no default; *empty* means that the field may be left out or set to `null`.
""",
    "gate": """# Gate reference

Every field of a gate file, generated from the schema by `make reference`. A gate decides whether `tunesmith retrain`
promotes a new model: see [Retrain on a schedule](how-to/retrain-on-a-schedule.md).
""",
}
PAGES = {"recipe": DOCS / "recipe-reference.md", "gate": DOCS / "gate-reference.md"}
Schema = dict[str, Any]


def page(title: str, model: type[BaseModel]) -> str:
    """Return the whole page of a model: its own fields, then each section below it."""
    schema = model.model_json_schema()
    parts = [INTRO[title], _table(title, schema, schema["$defs"])]
    for path, kind, section in sections("", schema, schema["$defs"]):
        name = f"{path}.{kind}" if kind else path
        heading = f"## `{path}`: `kind: {kind}`" if kind else f"## `{path}`"
        parts.append(f"{heading}\n\n{_description(section)}\n\n{_table(name, section, schema['$defs'])}")
    return "\n".join(parts)


def sections(path: str, schema: Schema, defs: Schema) -> Iterator[tuple[str, str, Schema]]:
    """Yield the path, the kind (empty where there is no choice) and the schema of every section below one."""
    for field, spec in schema["properties"].items():
        inner = f"{path}.{field}".lstrip(".")
        choices = [(_kind(defs[name]), defs[name]) for name in _referenced(spec)]
        for kind, section in sorted(choices, key=lambda choice: choice[0]):
            yield inner, kind, section
            yield from sections(f"{inner}.{kind}" if kind else inner, section, defs)


def _kind(section: Schema) -> str:
    return section["properties"].get("kind", {}).get("const", "")


def _referenced(spec: Schema) -> list[str]:
    """Return the definitions that a field's value is made of, in the order of the choices."""
    parts = [spec, spec.get("items", {})]
    options = [option for part in parts for key in ("anyOf", "oneOf") for option in part.get(key, [])]
    references = [part["$ref"] for part in [*parts, *options] if "$ref" in part]
    return [reference.rpartition("/")[2] for reference in dict.fromkeys(references)]


def _table(name: str, schema: Schema, defs: Schema) -> str:
    rows = ["| field | type | default | meaning | example |", "| --- | --- | --- | --- | --- |"]
    for field, spec in schema["properties"].items():
        if "const" in spec:  # the kind itself, which the heading names
            continue
        default = "required" if field in schema.get("required", []) else _default(spec)
        meaning = _one_line(spec.get("description") or _description_of_reference(spec, defs))
        cells = (f"`{field}`", _type(spec), default, meaning, _example(name, field, spec))
        rows.append(f"| {' | '.join(cells)} |")
    if len(rows) == 2:
        return "No fields of its own.\n"
    return "\n".join(rows) + "\n"


def _type(spec: Schema) -> str:
    """Describe what a field takes, in words."""
    options = spec.get("anyOf") or spec.get("oneOf")
    if options:
        named = [_type(option) for option in options if option.get("type") != "null"]
        optional = any(option.get("type") == "null" for option in options)
        return " or ".join(dict.fromkeys([*named, *(["empty"] if optional else [])]))
    if "enum" in spec:
        return ", ".join(f"`{choice}`" for choice in spec["enum"])
    if "$ref" in spec:
        return "section"
    if spec.get("type") == "array":
        items = _type(spec["items"])
        plural = f"{items}s" if items in ("section", "string") else items
        return f"list of {plural}"
    return f"{spec['type']}{_bounds(spec)}"


def _bounds(spec: Schema) -> str:
    words = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{word} {spec[key]:g}" for key, word in words.items() if key in spec and spec[key] < 2**31]
    return f" {', '.join(limits)}" if limits else ""


def _default(spec: Schema) -> str:
    if "default" not in spec:
        return "see meaning"
    default = spec["default"]
    if default is None:
        return "empty"
    if isinstance(default, dict):
        return "see below"
    if isinstance(default, list):
        return f"`{_flow(_without_defaults(default))}`" if default else "empty list"
    return f"`{_flow(default)}`" if default != "" else "empty"


def _without_defaults(values: list[Any]) -> list[Any]:
    """Show the default strategy by its kind alone."""
    return [{"kind": value["kind"]} if isinstance(value, dict) and "kind" in value else value for value in values]


def _example(name: str, field: str, spec: Schema) -> str:
    given = EXAMPLES.get(name, {})
    if field in given:
        return f"`{field}: {_flow(given[field])}`"
    choices = spec.get("enum")
    if choices:
        return f"`{field}: {choices[-1]}`"
    if spec.get("type") == "boolean":
        return f"`{field}: {_flow(not spec.get('default'))}`"
    default = spec.get("default")
    return f"`{field}: {_flow(default)}`" if isinstance(default, (int, float, str)) and default != "" else ""


def _flow(value: Any) -> str:
    """Return a value as YAML on one line, with pipes escaped for the table."""
    if isinstance(value, float):
        value = f"{value:g}"
        return value.replace("e-0", "e-")
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf"), sort_keys=False)
    return text.removesuffix("...\n").strip().replace("|", "\\|")


def _description(section: Schema) -> str:
    return "\n\n".join(_one_line(part) for part in inspect.cleandoc(section.get("description", "")).split("\n\n"))


def _description_of_reference(spec: Schema, defs: Schema) -> str:
    names = _referenced(spec)
    return inspect.cleandoc(defs[names[0]].get("description", "")).partition("\n\n")[0] if names else ""


def _one_line(text: str) -> str:
    """Join a docstring's lines, and keep Markdown from reading equations and patterns as markup."""
    plain = " ".join(text.split())
    parts = plain.split("`")
    for index in range(0, len(parts), 2):  # outside of code
        for character in "*_<|":
            parts[index] = parts[index].replace(character, f"\\{character}")
    return "`".join(part.replace("|", "\\|") if index % 2 else part for index, part in enumerate(parts))


def main() -> int:
    """Write both pages, or check them."""
    pages = {PAGES["recipe"]: page("recipe", Recipe), PAGES["gate"]: page("gate", Gate)}
    if "--check" in sys.argv:
        stale = [path.name for path, text in pages.items() if not path.exists() or path.read_text("utf-8") != text]
        print(json.dumps(stale) + " out of date: run `make reference`" if stale else "up to date")
        return 1 if stale else 0
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(DOCS.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
