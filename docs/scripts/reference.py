"""Write the reference pages from the schemas: python docs/scripts/reference.py [--check].

Every field has its type, default, meaning and an example. `--check` writes nothing and ends with exit code 1 if a page
is out of date.
"""

import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from pipeline_lib.recipe.fields import RecipeField, recipe_fields, schema_fields
from pipeline_lib.retrain.gate import Gate

DOCS = Path(__file__).parents[1]
RECIPE_INTRO = """# Recipe reference

Every field of a recipe, generated from the schema by `make reference`. `tunesmith explain training.batch_size` prints
one of them, and [Writing a recipe](recipes.md) explains how they work together. *Empty* means that the field may be
left out or set to `null`.
"""
GATE_INTRO = """# Gate reference

Every field of a gate file, generated from the schema by `make reference`. A gate decides whether `tunesmith retrain`
promotes a new model: see [Retrain on a schedule](how-to/retrain-on-a-schedule.md).
"""


def page(intro: str, fields: Mapping[str, RecipeField]) -> str:
    """Return a page with a table for each section: its own fields first, then the sections below it by name."""
    sections = defaultdict(list)
    for path, field in fields.items():
        if field.type != "kind":
            sections[path.rpartition(".")[0]].append(field)
    top = list(fields)
    ordered = sorted(sections, key=lambda path: (path != "", top.index(path.split(".")[0]) if path else 0, path))
    return "\n".join([intro, *(_section(path, sections[path], fields) for path in ordered)])


def _section(path: str, fields: list[RecipeField], known: Mapping[str, RecipeField]) -> str:
    rows = ["| field | type | default | meaning | example |", "| --- | --- | --- | --- | --- |"]
    for field in fields:
        name = field.path.rpartition(".")[2]
        is_section = field.type == "section"
        example = f"`{_escape_pipes(field.example)}`" if field.example and not is_section else ""
        default = "required" if field.required else "see below" if is_section else _default(field)
        cells = (f"`{name}`", _plain(field.type), default, _plain(field.meaning), example)
        rows.append(f"| {' | '.join(cells)} |")
    table = "\n".join(rows) + "\n"
    if not path:
        return table
    section, _, kind = path.rpartition(".")
    title = f"`{section}`: `kind: {kind}`" if known[path].type == "kind" else f"`{path}`"
    return f"## {title}\n\n{_plain(known[path].meaning)}\n\n{table}"


def _default(field: RecipeField) -> str:
    return "empty" if field.default in (None, "") else f"`{_escape_pipes(field.default_text)}`"


def _plain(text: str) -> str:
    """Keep Markdown from reading equations and patterns as markup; code stays code."""
    parts = text.split("`")
    for index in range(0, len(parts), 2):  # outside of code
        for character in "*_<":
            parts[index] = parts[index].replace(character, f"\\{character}")
    return _escape_pipes("`".join(parts))


def _escape_pipes(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> int:
    """Write both pages, or check them."""
    gate = schema_fields(Gate.model_json_schema())
    pages = {
        DOCS / "recipe-reference.md": page(RECIPE_INTRO, recipe_fields()),
        DOCS / "gate-reference.md": page(GATE_INTRO, gate),
    }
    if "--check" in sys.argv:
        stale = [path.name for path, text in pages.items() if not path.exists() or path.read_text("utf-8") != text]
        print(f"{', '.join(stale)} out of date: run `make reference`" if stale else "up to date")
        return 1 if stale else 0
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(DOCS.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
