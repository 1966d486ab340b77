"""The decorator that all flows of this project share."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Flow, flow

from tasks.guard import guard_flow
from tasks.mistakes import validate_parameters
from tasks.settle import settle_runs
from tasks.states import end_crashed

P = ParamSpec("P")
R = TypeVar("R")


def pipeline_flow(name: str, **options: Any) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """Return a flow decorator that validates parameters, stops on cancellation and closes interrupted MLflow runs.

    Args:
        name: The flow's name in Prefect.
        options: Other options of `prefect.flow`, such as `flow_run_name`.
    """

    def decorator(function: Callable[P, R]) -> Flow[P, R]:
        decorate = flow(
            name=name,
            validate_parameters=False,
            persist_result=False,
            on_crashed=[end_crashed, settle_runs],
            on_cancellation=[settle_runs],
            **options,
        )
        return decorate(validate_parameters(guard_flow(function)))

    return decorator
