"""Check that the store, its local cache folder and the temporary folder are writable."""

from pathlib import Path
from tempfile import gettempdir

from pipeline_lib.errors import RecipeError, ServiceUnavailable
from pipeline_lib.preflight.disk_space import computes_a_step
from pipeline_lib.preflight.folders import find_existing_parent, why_unusable
from pipeline_lib.preflight.result import CheckResult, check_warning, failed_check, passed_check
from pipeline_lib.recipe.execution import Execution
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.object_storage import Objects
from pipeline_lib.store.remote import local_folder
from pipeline_lib.util.redaction import redact_url

STORE, CACHE, TEMPORARY = "store", "cache folder", "temporary folder"


def check_store(execution: Execution, recipe: Recipe | None = None) -> list[CheckResult]:
    """Write, read and remove a small object in the store; a folder that does not exist yet is not created.

    Raises:
        RecipeError: The driver is missing, the store does not answer, or it denies the access that the recipe needs.
    """
    if "://" not in execution.store:
        return [_check_folder(STORE, "execution.store", execution.store)]
    try:
        Objects(execution.store).probe()
    except RecipeError as error:
        if isinstance(error, ServiceUnavailable) or recipe is None or computes_a_step(recipe):
            raise
        # A run that only reuses steps needs no write access.
        found = f"{error.value} {error.problem}; every step of this recipe is in the store."
        return [check_warning(STORE, found, f"{error.hint}.")]
    shown = redact_url(execution.store)
    return [passed_check(STORE, f"{shown}: a small object was written, read and removed.")]


def check_local_folders(execution: Execution) -> list[CheckResult]:
    """Check the temporary folder, where models are assembled for MLflow, and the cache folder of a remote store."""
    results = [_check_folder(TEMPORARY, "TMPDIR", gettempdir())]
    if "://" in execution.store:
        results.append(_check_folder(CACHE, "TUNESMITH_CACHE", str(local_folder(execution.store))))
    return results


def _check_folder(name: str, field: str, value: str) -> CheckResult:
    """Check the folder that a field or variable names; one that does not exist is not created."""
    folder = Path(value).absolute()
    existing = find_existing_parent(folder)
    if not existing.is_dir():
        problem = "is a file" if existing == folder else f"cannot be created: {existing} is a file"
        return failed_check(name, RecipeError(field, value, problem, "Name a folder"))
    if reason := why_unusable(existing):
        problem = reason
        hint = "Name a folder on a local disk that this account can write"
        if existing != folder:
            problem = f"cannot be created: {existing} {reason}"
        if "No space" in reason:
            hint = "Free some space"
        return failed_check(name, RecipeError(field, value, problem, hint))
    if existing == folder:
        return passed_check(name, f"{folder} is writable, and file locks work.")
    return passed_check(name, f"{folder} does not exist yet; {existing} is writable.")
