"""Read the file of a chat template, so that the recipe holds the template itself.

Everything derived from the recipe then depends on the template's text and not on where it lies: fingerprints, the
trained model, and a run that is reproduced on another machine.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe.path_policy import refuse_path_outside
from pipeline_lib.recipe.yaml_text import read_limited

FIELD = "objective.chat_template"
JINJA = ("{{", "{%")
"""What every chat template contains and no path does."""


def read_chat_template(document: Any, folder: Path | str | None) -> Any:
    """Replace the path of a chat template by the file's text; any other document is returned as it is.

    Args:
        document: The fields of a recipe, not validated yet.
        folder: Folder that relative paths refer to; None leaves them unchanged.

    Raises:
        RecipeError: The file cannot be read, or lies outside the folder that recipes are restricted to.
    """
    objective = document.get("objective") if isinstance(document, Mapping) else None
    if not isinstance(objective, Mapping):
        return document
    template = objective.get("chat_template")
    if not isinstance(template, str) or not template or any(mark in template for mark in JINJA):
        return document
    text = _read(Path(folder or "", template))
    return {**document, "objective": {**objective, "chat_template": text}}


def _read(file: Path) -> str:
    refuse_path_outside(FIELD, file)
    try:
        return read_limited(file)
    except (OSError, ValueError) as error:  # ValueError: too large, invalid UTF-8, or a NUL in the path
        why = getattr(error, "strerror", None) or error
        hint = "Set a file with a Jinja template, or the template itself"
        raise RecipeError(FIELD, str(file), f"cannot be read ({why})", hint) from None
