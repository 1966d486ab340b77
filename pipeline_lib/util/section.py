"""Building blocks of a recipe: the frozen base class of sections, and the types of paths, shares and seeds."""

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


def _extend_schema(schema: dict[str, Any]) -> None:
    """Extend a section's schema for Prefect's form: the order of the fields, and a default for `kind`.

    The position is explicit because a database may reorder keys. The default of `kind` is for the form only; in a
    recipe the field is required.
    """
    fields = schema.get("properties", {})
    for position, name in enumerate(sorted(fields, key=lambda name: name != "kind")):
        fields[name] |= {"position": position, "title": name.replace("_", " ").capitalize()}
    if "const" in (kind := fields.get("kind", {})):
        kind["default"] = kind["const"]
        kind["description"] = "The choice made above."


class Section(BaseModel):
    """A part of a recipe: immutable, and rejects unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        json_schema_extra=_extend_schema,
    )


def inside(path: Path, folder: Path) -> bool:
    """Return whether a path lies in a folder after resolving links and `..`; false if it cannot be resolved."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # RuntimeError: a cycle of symbolic links
        return False


def is_folder(path: str | Path) -> bool:
    """Return whether a folder exists; false for names that are too long, where Path.is_dir raises."""
    return os.path.isdir(path)


def is_file(path: str | Path) -> bool:
    """Return whether a file exists; false for names that are too long, where Path.is_file raises."""
    return os.path.isfile(path)


HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
"""Matches the id of a model or data set on the Hugging Face Hub."""


class Reach(Enum):
    """What a string in a recipe can make a run read, write or contact; `recipe/path_policy.py` has the rules.

    It is part of the field's annotation. A string without one is never used as a path or an address.
    """

    FILES = auto()
    """A file, glob or folder."""
    FOLDER = auto()
    """A folder that is written to."""
    BASE = auto()
    """A model's folder, a hub id or `package:NAME/folder`."""
    DATA_SET = auto()
    """The folder of a data set or a hub id."""
    MODEL = auto()
    """A trained model: its folder, or models:/... in MLflow."""
    STORE = auto()
    """An artifact store: a folder or a URL."""
    TRACKING = auto()
    """MLflow's address."""
    CLUSTER = auto()
    """The address of a Ray or Dask cluster."""
    RENDEZVOUS = auto()
    """HOST:PORT that a training on several machines listens on."""


def _resolve_path(path: str, info: ValidationInfo) -> str:
    """Resolve a path relative to the recipe's folder, so that a recipe works from any working directory."""
    folder = (info.context or {}).get("folder")
    if folder is None:
        return path
    beside = Path(folder) / path
    if os.path.exists(beside) or not glob.has_magic(path):
        return str(beside)
    return str(Path(glob.escape(str(folder))) / path)  # the folder's own name may contain brackets


RecipePath = Annotated[str, Field(min_length=1), AfterValidator(_resolve_path), Reach.FILES]
"""A file, glob or folder, relative to the recipe's own folder."""


Share = Annotated[float, Field(ge=0, lt=1)]


Seed = Annotated[int, Field(ge=0, lt=2**32)]
