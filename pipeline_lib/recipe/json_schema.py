"""The JSON Schema of a recipe, which editors use for completion and validation."""

import json
from collections.abc import Iterator
from typing import Any

from pipeline_lib.recipe.schema import Recipe

SCHEMA_FILE = "recipe.schema.json"
"""File name of the schema next to the bundled recipes; written by `tunesmith schema`."""
FIRST_LINE = f"# yaml-language-server: $schema={SCHEMA_FILE}"
"""First line of a recipe, which points an editor's YAML server to the schema; the path is relative to the recipe."""


def recipe_schema() -> dict[str, Any]:
    """Return the schema with types, defaults, constraints and the documentation of every field and kind."""
    schema = Recipe.model_json_schema()
    for section in _sections(schema):
        fields = section.get("properties", {})
        for field in fields.values():
            del field["position"]  # only Prefect's form needs it
            if "$ref" in field:
                field.pop("default", None)  # the section's fields have their own defaults
        if "const" in fields.get("kind", {}):
            fields["kind"]["description"] = section.get("description", "")
            section.setdefault("required", []).insert(0, "kind")
            section["required"] = list(dict.fromkeys(section["required"]))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema | {"title": "Tunesmith recipe"}


def schema_text() -> str:
    """Return the schema as the text of a file."""
    return json.dumps(recipe_schema(), indent=1, ensure_ascii=False) + "\n"


def _sections(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    yield from schema["$defs"].values()
