"""What a recipe may read, write and contact where others may start runs.

The worker's environment decides, never the recipe. With TUNESMITH_ROOT every path of a recipe must lie in that folder,
links and `..` resolved, and every address must be listed in TUNESMITH_ALLOWED_URLS. Without it a recipe reads, writes
and contacts what the account that runs it may.

A field that can name a path or an address has a `Reach` in its annotation. `refuse_outside` finds all of them by the
schema, so a new field needs nothing but that.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel

from pipeline_lib.errors import RecipeError
from pipeline_lib.util.section import HUB_ID, Reach, inside, is_folder

if TYPE_CHECKING:
    from pipeline_lib.data.sources import Source

ROOT = "TUNESMITH_ROOT"
"""The environment variable with the folder that recipes are held in."""
ALLOWED = "TUNESMITH_ALLOWED_URLS"
"""The environment variable with the addresses that recipes may use besides: stores, MLflow servers and clusters, with a
space between two. What lies below a listed address is allowed, too."""
FILE_SCHEMES = ("file", "local")
STORE_SCHEMES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")
TRACKING_SCHEMES = ("http", "https", "postgresql", "postgresql+psycopg2", "mysql", "mysql+pymysql", "mssql+pyodbc")
CLUSTER_SCHEMES = ("tcp", "tls", "ray")
MANAGED_MLFLOW = ("databricks", "databricks-uc", "uc")
"""Addresses of MLflow that look like the name of a folder."""
AMBIGUOUS = re.compile(r"[\s\\]|::|(?<!:)//|(^|/)\.\.?(/|$)|%2e|%2f|%5c", re.I)
"""What two libraries may read differently in an address: fsspec's chains, steps up, encoded or not, empty steps."""
AMBIGUOUS_FILE = re.compile(r"[?#;\\]|://(?!/)|^~|:///?file:|:////?/?~|://///", re.I)
"""The same for the URL of a file: options (SQLite's can name another file), a host, a home folder, a URL in a URL."""


def refuse_outside(section: BaseModel) -> None:
    """Raise RecipeError where a path or an address in a section leads to what $TUNESMITH_ROOT does not allow."""
    if _root() is not None:
        for field, reach, value in reached(section):
            RULES[reach](field, value)


def refuse_files_outside(source: "Source", files: Mapping[str, Sequence[Path]]) -> None:
    """Raise RecipeError where a file of a source, or one that belongs to it, is outside of the root.

    Args:
        source: Where the files come from; those that the hub's client has downloaded lie in its own cache.
        files: Split -> its files, as the source has found them.
    """
    if _root() is None or (source.kind == "huggingface" and not is_folder(source.path)):
        return
    for split in files:
        for file in files[split]:
            for part in {file, *source.parts(file)}:
                refuse_path_outside(f"data.source.{split}", part)


def refuse_path_outside(field: str, path: str | Path) -> None:
    """Raise RecipeError where a path leads out of the root once links and `..` are resolved."""
    root = _root()
    if root is not None and not inside(Path(path), root):
        problem = f"lies outside the folder that ${ROOT} holds recipes in"
        raise RecipeError(field, str(path), problem, "Put it there, or ask whoever runs the worker")


def reached(section: BaseModel, path: str = "") -> Iterator[tuple[str, Reach, str]]:
    """Field, reach and value of every text in a section that has a reach."""
    for name, info in type(section).model_fields.items():
        found = reach_of(info.rebuild_annotation())
        values = [(f"{path}{name}", getattr(section, name))]
        while values:
            field, value = values.pop()
            if isinstance(value, BaseModel):
                yield from reached(value, f"{field}.")
            elif isinstance(value, (tuple, list)):
                values += [(f"{field}.{index}", item) for index, item in enumerate(value)]
            elif isinstance(value, str) and found:
                yield field, found, value


def reach_of(annotation: Any) -> Reach | None:
    """The reach in a field's annotation, of whatever part of it."""
    if get_origin(annotation) is Annotated:
        for mark in annotation.__metadata__:
            if isinstance(mark, Reach):
                return mark
    return next(filter(None, map(reach_of, get_args(annotation))), None)


def _root() -> Path | None:
    root = os.environ.get(ROOT)
    return Path(root) if root else None


def _refuse_folder(field: str, value: str) -> None:
    """A folder, and what lies in it: a link in a folder inside can lead outside."""
    refuse_path_outside(field, value)
    for folder, folders, names in os.walk(value):
        for name in (*folders, *names):
            refuse_path_outside(field, Path(folder, name))


def _refuse_base(field: str, value: str) -> None:
    if value.startswith("package:"):
        return  # `models.base.locate` keeps it inside that package, which the worker has installed
    if is_folder(value) or not HUB_ID.fullmatch(value):
        _refuse_folder(field, value)


def _refuse_data_set(field: str, value: str) -> None:
    """As a base; but a name without a slash can be a reader of the library's own, of the working directory."""
    if is_folder(value) or not (HUB_ID.fullmatch(value) and "/" in value):
        _refuse_folder(field, value)


def _refuse_model(field: str, value: str) -> None:
    if not value.startswith("models:/"):
        _refuse_folder(field, value)


def _refuse_store(field: str, value: str) -> None:
    if value == os.environ.get("TUNESMITH_STORE"):
        return
    scheme, separator, path = value.partition("://")
    if not separator:
        refuse_path_outside(field, value)
    elif scheme.lower() in FILE_SCHEMES:
        _refuse_file_url(field, value, path)
    else:
        _refuse_address(field, value, (*FILE_SCHEMES, *STORE_SCHEMES))


def _refuse_tracking(field: str, value: str) -> None:
    if value == os.environ.get("MLFLOW_TRACKING_URI"):
        return
    scheme, separator, path = value.partition(":")
    if not separator and value not in MANAGED_MLFLOW:
        _refuse_file_url(field, value, value)
    elif scheme.lower() == "file":
        _refuse_file_url(field, value, path.removeprefix("//"))
    elif scheme.lower() == "sqlite":
        _refuse_file_url(field, value, path.removeprefix("///"))
    else:
        _refuse_address(field, value, ("file", "sqlite", *TRACKING_SCHEMES))


def _refuse_cluster(field: str, value: str) -> None:
    _refuse_address(field, value, CLUSTER_SCHEMES)


def _refuse_file_url(field: str, value: str, path: str) -> None:
    """A URL of a file: inside the root as it stands, and as it reads with its escapes resolved."""
    if AMBIGUOUS_FILE.search(value):
        problem = "has a form that recipes may not use on this worker"
        raise RecipeError(field, value, problem, "Give a plain path, or leave it out")
    for form in {path, unquote(path)}:
        refuse_path_outside(field, form)


def _refuse_address(field: str, value: str, schemes: Sequence[str]) -> None:
    """An address: of a known scheme, and listed in the environment or below one that is."""
    listed = os.environ.get(ALLOWED, "").split()
    if value in listed:
        return
    scheme = value.partition("://")[0].lower()
    if "://" not in value or scheme not in schemes:
        problem = f"is neither in the folder that ${ROOT} holds recipes in nor a URL of a known scheme"
        raise RecipeError(field, value, problem, f"Use one of {', '.join(schemes)}")
    if AMBIGUOUS.search(value) or not any(_is_below(value, allowed) for allowed in listed):
        problem = f"is not among the addresses that this worker may reach (${ALLOWED})"
        raise RecipeError(field, value, problem, "Leave it out, or ask whoever runs the worker to list it")


def _is_below(value: str, allowed: str) -> bool:
    """Whether a URL is another one, or below it: the same scheme, host, port and query, and its path goes on from it.

    A user and a password are for the recipe to give; in a store's URL what stands before an @ is a container.
    """
    try:
        one, other = urlsplit(value), urlsplit(allowed)
    except ValueError:
        return False
    places = [one.netloc, other.netloc]
    if one.scheme in TRACKING_SCHEMES:
        places = [place.rpartition("@")[2] for place in places]
    parts, above = one.path.strip("/").split("/"), other.path.strip("/").split("/")
    same = (one.scheme, places[0], one.query, one.fragment) == (other.scheme, places[1], other.query, other.fragment)
    return same and (above == [""] or parts[: len(above)] == above)


RULES: Mapping[Reach, Callable[[str, str], None]] = {
    Reach.FILES: refuse_path_outside,
    Reach.FOLDER: refuse_path_outside,
    Reach.BASE: _refuse_base,
    Reach.DATA_SET: _refuse_data_set,
    Reach.MODEL: _refuse_model,
    Reach.STORE: _refuse_store,
    Reach.TRACKING: _refuse_tracking,
    Reach.CLUSTER: _refuse_cluster,
}
