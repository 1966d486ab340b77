"""`tunesmith schema` and `tunesmith explain`: help for writing recipes."""

import re
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline_lib.cli.console import WIDTH, fail
from pipeline_lib.errors import RecipeError

if TYPE_CHECKING:
    from pipeline_lib.recipe.fields import RecipeField


def schema(
    out: Annotated[Path | None, typer.Argument(help="The file to write; default: print the schema.")] = None,
) -> None:
    """Write the JSON Schema of recipes, which editors use for completion and validation.

    With the schema in the recipe's folder, make `# yaml-language-server: $schema=recipe.schema.json` the recipe's first
    line.
    """
    from pipeline_lib.recipe.json_schema import schema_text

    if out is None:
        typer.echo(schema_text(), nl=False)
        return
    try:
        out.write_text(schema_text(), encoding="utf-8")
    except OSError as error:
        fail(RecipeError("OUT", str(out), f"cannot be written ({error.strerror})", "Name a file in a writable folder"))
    typer.echo(f"written to {out}")


def explain(
    field: Annotated[
        str, typer.Argument(help="A field of a recipe, such as training.batch_size or strategies.lora.rank.")
    ] = "",
) -> None:
    """Explain a field of a recipe: its meaning, type, default and an example; without a field, list the sections."""
    from pipeline_lib.recipe.fields import find_fields, recipe_fields

    if not field:
        for name, section in recipe_fields().items():
            if "." not in name:
                typer.echo(f"{name:<13} {_first_sentence(section.meaning)}")
        return
    try:
        groups = find_fields(field)
    except RecipeError as error:
        fail(error)
    typer.echo("\n\n".join(map(_text, groups)))


def _text(group: "list[RecipeField]") -> str:
    """Return the documentation that a group of fields shares."""
    from pipeline_lib.recipe.fields import recipe_fields

    field, *others = group
    lines = [field.path, *wrap(field.meaning, WIDTH, initial_indent="  ", subsequent_indent="  "), ""]
    if field.type != "kind":
        lines += [f"  type      {field.type}", f"  default   {field.default_text}"]
    if field.example:
        lines.append(f"  example   {field.example}")
    if others:
        lines.append(f"  the same  {', '.join(other.path for other in others)}")
    for path in field.children:
        lines.append(f"  {path.rpartition('.')[2]:<24} {_first_sentence(recipe_fields()[path].meaning)}")
    return "\n".join(lines)


def _first_sentence(text: str) -> str:
    """Return the first sentence of a text, or its part before the first semicolon."""
    return re.split(r"(?<!\bal)\. |; ", text)[0].rstrip(".")
