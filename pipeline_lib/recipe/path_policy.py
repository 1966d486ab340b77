"""Restrict the paths and addresses that recipes may use on a worker where other people can start runs.

The policy is set by the worker's environment, never by the recipe. If TUNESMITH_ROOT is set, every path in a recipe
must lie in that folder after resolving links and `..`, and every address must be listed in TUNESMITH_ALLOWED_URLS.
Otherwise a recipe can use everything that the account running it can.

A field that can hold a path or an address has a `Reach` in its annotation. `refuse_outside` finds these fields through
the schema, so a new field needs nothing else.
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
"""Environment variable with the folder that recipes are restricted to."""
ALLOWED = "TUNESMITH_ALLOWED_URLS"
"""Environment variable with the addresses of stores, MLflow servers and clusters that recipes may use, separated by
spaces. URLs below a listed address are allowed too."""
FILE_SCHEMES = ("file", "local")
STORE_SCHEMES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")
TRACKING_SCHEMES = ("http", "https", "postgresql", "postgresql+psycopg2", "mysql", "mysql+pymysql", "mssql+pyodbc")
CLUSTER_SCHEMES = ("tcp", "tls", "ray")
MANAGED_MLFLOW = ("databricks", "databricks-uc", "uc")
"""MLflow addresses that look like folder names."""
AMBIGUOUS = re.compile(r"[\s\\]|::|(?<!:)//|(^|/)\.\.?(/|$)|%2e|%2f|%5c", re.I)
"""Parts of an address that libraries may interpret differently: fsspec chains, `..` (plain or encoded), empty parts."""
AMBIGUOUS_FILE = re.compile(r"[?#;\\]|://(?!/)|^~|:///?file:|:////?/?~|://///", re.I)
"""The same for file URLs: options (SQLite's can name another file), a host, a home folder, a nested URL."""


def refuse_outside(section: BaseModel) -> None:
    """Raise RecipeError if a section has a path or an address that the policy does not allow."""
    if _root() is not None:
        for field, reach, value in find_addresses(section):
            RULES[reach](field, value)


def refuse_files_outside(source: "Source", files: Mapping[str, Sequence[Path]]) -> None:
    """Raise RecipeError if a file of a source, or a file belonging to it, is outside the root.

    Args:
        source: The source of the files. Files downloaded from the hub are exempt: they lie in the hub's cache.
        files: Split -> its files, as listed by the source.
    """
    if _root() is None or (source.kind == "huggingface" and not is_folder(source.path)):
        return
    for split in files:
        for file in files[split]:
            for part in {file, *source.parts(file)}:
                refuse_path_outside(f"data.source.{split}", part)


def refuse_path_outside(field: str, path: str | Path) -> None:
    """Raise RecipeError if a path is outside the root after resolving links and `..`."""
    root = _root()
    if root is not None and not inside(Path(path), root):
        problem = f"lies outside the folder that ${ROOT} restricts recipes to"
        raise RecipeError(field, str(path), problem, "Move it there, or ask the worker's administrator")


def find_addresses(section: BaseModel, path: str = "") -> Iterator[tuple[str, Reach, str]]:
    """Yield field, reach and value of every string in a section whose field has a reach."""
    for name, info in type(section).model_fields.items():
        reach = reach_of(info.rebuild_annotation())
        values = [(f"{path}{name}", getattr(section, name))]
        while values:
            field, value = values.pop()
            if isinstance(value, BaseModel):
                yield from find_addresses(value, f"{field}.")
            elif isinstance(value, (tuple, list)):
                values += [(f"{field}.{index}", item) for index, item in enumerate(value)]
            elif isinstance(value, str) and reach:
                yield field, reach, value


def reach_of(annotation: Any) -> Reach | None:
    """Return the reach in a field's annotation, at any depth: `str | None` and `tuple[...]` wrap it."""
    if get_origin(annotation) is Annotated:
        for metadata in annotation.__metadata__:
            if isinstance(metadata, Reach):
                return metadata
    return next(filter(None, map(reach_of, get_args(annotation))), None)


def _root() -> Path | None:
    root = os.environ.get(ROOT)
    return Path(root) if root else None


def _refuse_folder(field: str, value: str) -> None:
    """Check a folder and all of its contents: a link in a folder inside the root can lead outside."""
    refuse_path_outside(field, value)
    for folder, folders, names in os.walk(value):
        for name in (*folders, *names):
            refuse_path_outside(field, Path(folder, name))


def _refuse_base(field: str, value: str) -> None:
    if value.startswith("package:"):
        return  # `models.base_model.locate` keeps the path inside that package, which is installed on the worker
    if is_folder(value) or not HUB_ID.fullmatch(value):
        _refuse_folder(field, value)


def _refuse_data_set(field: str, value: str) -> None:
    """Check like a base; but a name without a slash can also be a loader of `datasets` that reads local files."""
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


def _refuse_rendezvous(field: str, value: str) -> None:
    """Check an address to listen on: who can connect there can make the worker run code."""
    if value not in os.environ.get(ALLOWED, "").split():
        problem = f"is not among the addresses that this worker may use (${ALLOWED})"
        raise RecipeError(field, value, problem, "Remove it, or ask the worker's administrator to list it")


def _refuse_file_url(field: str, value: str, path: str) -> None:
    """Check a file URL: it must be inside the root both as written and with percent-escapes decoded."""
    if AMBIGUOUS_FILE.search(value):
        problem = "is a kind of URL that is not allowed on this worker"
        raise RecipeError(field, value, problem, "Give a plain path, or remove the field")
    for form in {path, unquote(path)}:
        refuse_path_outside(field, form)


def _refuse_address(field: str, value: str, schemes: Sequence[str]) -> None:
    """Check an address: it needs a known scheme and must be listed in the environment, or be below a listed one."""
    listed = os.environ.get(ALLOWED, "").split()
    if value in listed:
        return
    scheme = value.partition("://")[0].lower()
    if "://" not in value or scheme not in schemes:
        problem = f"is neither in the folder that ${ROOT} restricts recipes to nor a URL with a known scheme"
        raise RecipeError(field, value, problem, f"Use one of {', '.join(schemes)}")
    if AMBIGUOUS.search(value) or not any(_is_below(value, allowed) for allowed in listed):
        problem = f"is not among the addresses that this worker may reach (${ALLOWED})"
        raise RecipeError(field, value, problem, "Remove it, or ask the worker's administrator to list it")


def _is_below(value: str, allowed: str) -> bool:
    """Return whether a URL equals an allowed one or is below it: same scheme, host, port and query, longer path.

    MLflow URLs may differ in user and password. In a store's URL the part before an @ is a container, so it counts.
    """
    try:
        url, base = urlsplit(value), urlsplit(allowed)
    except ValueError:
        return False
    hosts = [url.netloc, base.netloc]
    if url.scheme in TRACKING_SCHEMES:
        hosts = [host.rpartition("@")[2] for host in hosts]
    same = (url.scheme, hosts[0], url.query, url.fragment) == (base.scheme, hosts[1], base.query, base.fragment)
    path, base_path = url.path.strip("/").split("/"), base.path.strip("/").split("/")
    return same and (base_path == [""] or path[: len(base_path)] == base_path)


RULES: Mapping[Reach, Callable[[str, str], None]] = {
    Reach.FILES: refuse_path_outside,
    Reach.FOLDER: refuse_path_outside,
    Reach.BASE: _refuse_base,
    Reach.DATA_SET: _refuse_data_set,
    Reach.MODEL: _refuse_model,
    Reach.STORE: _refuse_store,
    Reach.TRACKING: _refuse_tracking,
    Reach.CLUSTER: _refuse_cluster,
    Reach.RENDEZVOUS: _refuse_rendezvous,
}
