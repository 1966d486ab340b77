"""End a flow run that has a user error in state Failed, with the error as the first line of its message."""

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, get_args, get_origin

from prefect.states import Failed
from pydantic import ValidationError

from pipeline_lib.errors import RecipeError, error_text
from pipeline_lib.recipe.schema import Recipe, check
from pipeline_lib.recipe.validation_errors import first_mistake
from pipeline_lib.util.section import Section

P = ParamSpec("P")
R = TypeVar("R")


def _has_no_user_error(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], RecipeError))


# Prefect's engine logs the traceback of whatever failed a flow; for a user error, the message of the state is enough.
logging.getLogger("prefect.flow_runs").addFilter(_has_no_user_error)


def failed_state(error: RecipeError) -> Any:
    """Return a Failed state with the error and its notes as message; callers in Python get the error itself."""
    return Failed(message=error_text(error), data=error)


def validate_parameters(function: Callable[P, R]) -> Callable[P, R]:
    """Validate a flow's parameters and end the run with a RecipeError if they or the data are invalid.

    Use it with `validate_parameters=False`; Prefect's own validation would fail the run with pydantic's message.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = signature.bind(*args, **kwargs)
            for name, value in bound.arguments.items():
                bound.arguments[name] = convert_parameter(signature.parameters[name].annotation, value)
            return function(*bound.args, **bound.kwargs)
        except RecipeError as error:
            state: R = failed_state(error)
            return state

    return run


def convert_parameter(annotation: Any, value: Any) -> Any:
    """Convert a parameter's value to the section that its annotation names.

    Raises:
        RecipeError: The value is invalid; the error names the field, its value and how to fix it.
    """
    if get_origin(annotation) is list and isinstance(value, list):
        return [convert_parameter(get_args(annotation)[0], item) for item in value]
    if not (inspect.isclass(annotation) and issubclass(annotation, Section)) or isinstance(value, annotation):
        return value
    if annotation is Recipe and isinstance(value, dict):
        return check(value)
    try:
        return annotation.model_validate(value)
    except ValidationError as error:
        raise first_mistake(error, annotation, value) from None
