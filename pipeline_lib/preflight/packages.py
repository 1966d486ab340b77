"""Check the versions of Python and the libraries, and list the optional packages."""

import platform
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from pipeline_lib.errors import RecipeError
from pipeline_lib.preflight.result import CheckResult, check_warning, failed_check, passed_check
from pipeline_lib.recipe.schema import Recipe

DISTRIBUTION = "tunesmith"
PYTHON, LIBRARIES, OPTIONAL = "Python", "libraries", "optional packages"
INSTALL = "pip install -c constraints.txt -e"
NOT_FOR_USERS = ("dev",)


class Flaw(NamedTuple):
    """A requirement that the environment does not meet."""

    requirement: str
    installed: str | None


def check_python() -> CheckResult:
    """Check that the project supports this version of Python."""
    supported, running = metadata(DISTRIBUTION)["Requires-Python"], platform.python_version()
    if running in SpecifierSet(supported):
        return passed_check(PYTHON, f"Python {running}.")
    error = RecipeError(PYTHON, running, f"is not supported (needs {supported})", "Install with another Python")
    return failed_check(PYTHON, error)


def check_libraries() -> CheckResult:
    """Check that the required packages are installed in supported versions."""
    required = list(_requirements(""))
    flaws = list(_flaws(required))
    missing = [flaw.requirement for flaw in flaws if flaw.installed is None]
    hint = f"Run `{INSTALL} .` in the project's folder"
    if missing:
        return failed_check(LIBRARIES, RecipeError("packages", None, f"{', '.join(missing)} not installed", hint))
    if flaws:
        untested = ", ".join(f"{flaw.requirement} ({flaw.installed} is installed)" for flaw in flaws)
        return check_warning(LIBRARIES, f"Untested versions: {untested}.", f"{hint}.")
    return passed_check(LIBRARIES, f"{len(required)} packages in supported versions.")


def check_optional_packages(recipe: Recipe | None) -> CheckResult:
    """List the installed extras; fail if the recipe needs one that is missing."""
    names = [name for name in metadata(DISTRIBUTION).get_all("Provides-Extra") or [] if name not in NOT_FOR_USERS]
    missing = [name for name in names if any(True for _ in _flaws(list(_requirements(name))))]
    try:
        if recipe:
            require_extras(recipe)
    except RecipeError as error:
        return failed_check(OPTIONAL, error)
    installed = [name for name in names if name not in missing]
    found = f"Installed: {', '.join(installed) or 'none'}. Not installed: {', '.join(missing) or 'none'}."
    return passed_check(OPTIONAL, found)


def require_extras(recipe: Recipe) -> None:
    """Raise RecipeError if a package of an extra that a recipe needs is not installed."""
    for extra, field, value in _needed_extras(recipe):
        if lacking := list(_flaws(list(_requirements(extra)))):
            problem = f"needs packages that are not installed ({', '.join(flaw.requirement for flaw in lacking)})"
            raise RecipeError(field, value, problem, f"Install them: {INSTALL} '.[{extra}]'")


def _needed_extras(recipe: Recipe) -> Iterator[tuple[str, str, str]]:
    """Yield each extra that a recipe needs, with the field that asks for it and the field's value."""
    if (runner := recipe.execution.task_runner) in ("dask", "ray"):
        yield runner, "execution.task_runner", runner
    if extra := recipe.training.optimizer.extra:
        yield extra, "training.optimizer.kind", recipe.training.optimizer.kind
    if recipe.model.quantization:
        yield "quantization", "model.quantization.kind", recipe.model.quantization.kind


@cache  # reading a package's metadata takes a millisecond, and each run asks for all packages
def installed_version(name: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _requirements(extra: str) -> Iterator[Requirement]:
    """Yield the project's own requirements (`extra` is empty), or those that an extra adds."""
    for line in requires(DISTRIBUTION) or []:
        requirement = Requirement(line)
        always = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        added = requirement.marker is not None and requirement.marker.evaluate({"extra": extra})
        wanted = added and not always if extra else always
        if wanted:
            yield requirement


def _flaws(required: list[Requirement]) -> Iterator[Flaw]:
    for requirement in required:
        installed = installed_version(requirement.name)
        if installed is None or not requirement.specifier.contains(installed, prereleases=True):
            yield Flaw(f"{requirement.name}{requirement.specifier}", installed)
