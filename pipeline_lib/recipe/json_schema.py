"""The JSON Schema of a recipe, as editors use it to complete and check what people type."""

import json
from collections.abc import Iterator
from typing import Any

from pipeline_lib.recipe.schema import Recipe

SCHEMA_FILE = "recipe.schema.json"
"""The schema beside the recipes that come with the project; `tunesmith schema` writes it."""
FIRST_LINE = f"# yaml-language-server: $schema={SCHEMA_FILE}"
"""What the first line of a recipe tells an editor's YAML server; the path is relative to the recipe."""


def recipe_schema() -> dict[str, Any]:
    """Return the schema: types, defaults, constraints and the documentation of every field and kind."""
    schema = Recipe.model_json_schema()
    for section in _sections(schema):
        fields = section.get("properties", {})
        for field in fields.values():
            del field["position"]  # for Prefect's form alone
            if "$ref" in field:
                field.pop("default", None)  # of a whole section: its fields have theirs
        if "const" in fields.get("kind", {}):
            fields["kind"]["description"] = section.get("description", "")
            section.setdefault("required", []).insert(0, "kind")
            section["required"] = list(dict.fromkeys(section["required"]))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema | {"title": "Tunesmith recipe"}


def schema_text() -> str:
    """The schema as the text of a file."""
    return json.dumps(recipe_schema(), indent=1, ensure_ascii=False) + "\n"


def _sections(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    yield from schema["$defs"].values()
