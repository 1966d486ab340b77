"""Render the package's Jinja templates, which lie next to the modules that use them."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape


def fill_template(template: str, values: dict[str, Any]) -> str:
    """Fill in a template; values are escaped in HTML.

    Args:
        template: Path of the template below `pipeline_lib`.
        values: The template's variables. Missing ones are an error.
    """
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parents[1]),
        autoescape=select_autoescape(["html.jinja"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
