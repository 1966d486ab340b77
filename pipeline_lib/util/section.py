"""What every part of a recipe is made of: frozen sections and file paths."""

import glob
import os
import re
from enum import Enum, auto
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
)


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
    """Whether a path lies in a folder once links and `..` are resolved; a path that cannot be resolved lies nowhere."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # RuntimeError: links in a circle
        return False


def is_folder(path: str | Path) -> bool:
    """Whether there is such a folder; says no where Path.is_dir raises: for a name that is too long."""
    return os.path.isdir(path)


def is_file(path: str | Path) -> bool:
    """Whether there is such a file; says no where Path.is_file raises."""
    return os.path.isfile(path)


HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
"""A model or data set of the Hugging Face hub."""


class Reach(Enum):
    """What a text in a recipe can make a run read, write or contact; `confine.py` has the rule for each.

    It stands in the field's annotation. A text without one is never used as a path or an address.
    """

    FILES = auto()
    """A file, glob or folder."""
    FOLDER = auto()
    """A folder that is written."""
    BASE = auto()
    """A model's folder, a hub id or `package:NAME/folder`."""
    DATA_SET = auto()
    """A data set's folder or a hub id."""
    MODEL = auto()
    """A trained model: its folder, or models:/... in MLflow."""
    STORE = auto()
    """An artifact store: a folder or a URL."""
    TRACKING = auto()
    """MLflow's address."""
    CLUSTER = auto()
    """The address of a Ray or Dask cluster."""


def _beside_the_recipe(path: str, info: ValidationInfo) -> str:
    """Paths in a recipe file are relative to its folder, so that a recipe can be run from anywhere."""
    folder = (info.context or {}).get("folder")
    if folder is None:
        return path
    beside = Path(folder) / path
    if os.path.exists(beside) or not glob.has_magic(path):
        return str(beside)
    return str(Path(glob.escape(str(folder))) / path)  # a bracket in the folder's own name is not a pattern


RecipePath = Annotated[str, Field(min_length=1), AfterValidator(_beside_the_recipe), Reach.FILES]
"""A file, glob or folder, relative to the recipe's own folder."""


Share = Annotated[float, Field(ge=0, lt=1)]


Seed = Annotated[int, Field(ge=0, lt=2**32)]
