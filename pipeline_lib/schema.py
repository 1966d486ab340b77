"""What every part of a recipe is made of: frozen sections and file paths."""

import glob
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo


def _for_forms(schema: dict[str, Any]) -> None:
    """What Prefect's form goes by: fields in our order, and a `kind` that is filled in where a choice is made.

    The position is told, as a database may keep keys in another order. The section itself has no default for `kind`.
    """
    fields = schema.get("properties", {})
    for position, name in enumerate(sorted(fields, key=lambda name: name != "kind")):
        fields[name] |= {"position": position, "title": name.replace("_", " ").capitalize()}
    if "const" in (kind := fields.get("kind", {})):
        kind["default"] = kind["const"]
        kind["description"] = "The choice made above."


class Section(BaseModel):
    """A part of a recipe: immutable, and refusing keys that it does not know."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        json_schema_extra=_for_forms,
    )


def inside(path: Path, folder: Path) -> bool:
    """Whether a path lies in a folder once links and `..` are resolved."""
    return path.resolve().is_relative_to(folder.resolve())


def _beside_the_recipe(path: str, info: ValidationInfo) -> str:
    """Paths in a recipe file are relative to its folder, so that a recipe can be run from anywhere."""
    folder = (info.context or {}).get("folder")
    if folder is None:
        return path
    beside = Path(folder) / path
    if beside.exists() or not glob.has_magic(path):
        return str(beside)
    return str(Path(glob.escape(str(folder))) / path)  # a bracket in the folder's own name is no pattern


RecipePath = Annotated[str, Field(min_length=1), AfterValidator(_beside_the_recipe)]
"""A file, glob or folder, relative to the recipe's own folder."""
