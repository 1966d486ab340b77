"""The checks before a run, and all checks of `tunesmith doctor`."""

import logging
from collections.abc import Sequence
from functools import partial

from pipeline_lib.errors import RecipeError, ServiceUnavailable
from pipeline_lib.preflight import disk_space, mlflow_access, packages, prefect_api, storage
from pipeline_lib.preflight.device import NAME as DEVICE
from pipeline_lib.preflight.device import check_device
from pipeline_lib.preflight.result import LIMIT, CheckResult, ConcurrentCheck, failed_check, run_in_parallel
from pipeline_lib.recipe.execution import Execution
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.util.redaction import redact_errors

log = logging.getLogger("tunesmith")


@redact_errors()
def require(recipe: Recipe, warn: bool = True) -> None:
    """Check what a run needs, log warnings (with `warn`), and stop the run if something is missing.

    Raises:
        RecipeError: The error of the first failed check, with the others as notes; ServiceUnavailable if a retry may
            help.
    """
    results = [packages.check_libraries(), *run_in_parallel(_checks(recipe.execution, recipe))]
    for result in results:
        if warn and result.status == "warning":
            log.warning("%-11s %s %s", "preflight", result.found, result.hint)
    errors = [result.error for result in results if result.error]
    if errors:
        errors.sort(
            key=lambda error: isinstance(error, ServiceUnavailable)
        )  # errors that a retry cannot fix come first
        for other in errors[1:]:
            errors[0].add_note(str(other))
        raise errors[0]


def check_everything(recipe: Recipe | None) -> list[CheckResult]:
    """Run every check; without a recipe, those that need none, with default execution settings."""
    execution = recipe.execution if recipe else Execution()
    prefect = ConcurrentCheck(prefect_api.NAME, prefect_api.check_prefect, prefect_api.too_slow)
    parallel = [*_checks(execution, recipe), prefect]
    results = [packages.check_python(), packages.check_libraries(), packages.check_optional_packages(recipe)]
    if recipe:
        results.append(_check_inputs(recipe))
        if results[-1].status == "failed":  # without the base model, the disk space check has no size to work with
            parallel = [*_checks(execution, None), prefect]
    results += run_in_parallel(parallel)
    try:
        results.append(check_device(execution))
    except RecipeError as error:
        results.append(failed_check(DEVICE, error))
    return results


def _checks(execution: Execution, recipe: Recipe | None) -> Sequence[ConcurrentCheck]:
    slow = ServiceUnavailable(
        "execution.store", execution.store, f"does not answer within {LIMIT:.0f} s", "Check its server"
    )
    checks = [
        ConcurrentCheck(
            mlflow_access.NAME,
            partial(mlflow_access.check_mlflow, execution),
            partial(mlflow_access.too_slow, execution),
        ),
        ConcurrentCheck(
            storage.STORE, partial(storage.check_store, execution, recipe), lambda: failed_check(storage.STORE, slow)
        ),
        ConcurrentCheck(
            storage.CACHE, partial(storage.check_local_folders, execution), lambda: failed_check(storage.CACHE, slow)
        ),
    ]
    if recipe:
        space = partial(disk_space.check_disk_space, recipe)
        checks.append(ConcurrentCheck(disk_space.NAME, space, lambda: failed_check(disk_space.NAME, slow)))
    return checks


def _check_inputs(recipe: Recipe) -> CheckResult:
    from pipeline_lib.pipeline import input_checks
    from pipeline_lib.preflight.result import passed_check

    try:
        input_checks.check_files(recipe)
    except RecipeError as error:
        return failed_check("data and base model", error)
    return passed_check("data and base model", "The files, their columns and the base model exist.")
