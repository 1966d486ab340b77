"""Record the environment of a training: its recipe as given, the code's commit, the machine and the software.

These facts are stored next to an artifact's digests and never enter its fingerprint.
"""

import os
import platform
import re
import subprocess
from functools import cache
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, NamedTuple

from pipeline_lib.errors import RecipeError
from pipeline_lib.pipeline.code_fingerprint import PACKAGE
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.tracking.data_files import data_files
from pipeline_lib.util.cpu import usable
from pipeline_lib.util.redaction import redact

SHOWN = 50
"""Changed files of a checkout that are listed."""


def environment(recipe: Recipe) -> dict[str, Any]:
    """Return facts about a training that starts now, in this process."""
    given = recipe.given
    folders = {"recipe": Path(given.file).parent if given else Path.cwd(), "project": PACKAGE}
    facts = {
        "given": given._asdict() if given else None,
        "git": {name: _checkout(at) or _image_commit(at) for name, at in folders.items()},
        "data": _data(recipe),
    }
    return redact(facts) | {"machine": _machine(), "software": dict(software())}


def _data(recipe: Recipe) -> list[dict[str, Any]] | None:
    """Return the source files as they are now; MLflow may only be reachable later, when they have changed."""
    try:
        return [file._asdict() for file in data_files(recipe)]
    except (RecipeError, OSError):  # removed since they were encoded, which must not stop the training
        return None


@cache
def software() -> dict[str, str]:
    """Return the versions of Python and of every installed distribution, by name."""
    versions = dict(filter(None, map(_name_and_version, distributions())))
    return {"python": platform.python_version(), **dict(sorted(versions.items()))}


def _name_and_version(distribution: Distribution) -> tuple[str, str] | None:
    """Read a distribution's name and version; parsing the rest of its metadata would take ten times as long."""
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    name, version = (re.search(rf"^{field}:(.+)$", text, re.MULTILINE) for field in ("Name", "Version"))
    return (name[1].strip().lower(), version[1].strip()) if name and version else None


def _checkout(folder: Path) -> dict[str, Any] | None:
    """Return the commit and the changed files of the git checkout that contains a folder; None outside a checkout."""
    commit, changed = _git(folder, "rev-parse", "HEAD"), _git(folder, "status", "--porcelain")
    if commit is None or changed is None:
        return None
    files = changed.splitlines()
    return {"commit": commit.strip(), "dirty": bool(files), "changed": files[:SHOWN]}


def _image_commit(folder: Path) -> dict[str, Any] | None:
    """Return the commit of the code in an image ($TUNESMITH_COMMIT, as `git describe --dirty` prints it)."""
    if folder != PACKAGE:
        return None
    commit, _, dirty = os.environ.get("TUNESMITH_COMMIT", "").partition("-")
    return {"commit": commit, "dirty": bool(dirty), "changed": []} if commit else None


def _git(folder: Path, *command: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *command], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):  # no git here, or a checkout on a disk that does not answer
        return None
    return done.stdout if done.returncode == 0 else None


def _machine() -> dict[str, Any]:
    import psutil
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "system": platform.platform(),
        "cpu": _cpu(),
        "cores": usable(),
        "threads": torch.get_num_threads(),
        "memory_gigabytes": round(psutil.virtual_memory().total / 1e9, 1),
        "gpus": gpus,
    }


def _cpu() -> str:
    """Return the CPU's model name; on Linux, Python itself only knows the architecture."""
    try:
        named = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.M)
    except OSError:
        named = None
    return named[1] if named else platform.processor() or platform.machine()


class FlowRun(NamedTuple):
    """A flow run, and the address of the API that it is registered with, if that was recorded."""

    name: str
    id: str
    api: str | None

    @property
    def page(self) -> str | None:
        """Return the URL of its page: below $PREFECT_UI_URL, otherwise below the address of the API."""
        pages = os.environ.get("PREFECT_UI_URL") or (self.api and self.api.removesuffix("/api"))
        if not pages:
            return None
        version = "" if "prefect.cloud" in pages else "/v2"  # without it, a server shows its old UI
        return f"{redact(pages).rstrip('/')}{version}/runs/flow-run/{self.id}"


def flow_run(made_by: str) -> FlowRun | None:
    """Parse the flow run from an artifact's creator (`tasks.states.current_flow_run`); None for a plain call."""
    found = re.fullmatch(r"flow run (.+) \(([0-9a-f-]{36})\)(?: at (\S+))?", made_by)
    return FlowRun(*found.groups()) if found else None
