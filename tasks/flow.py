"""The decorator that all flows of this project share."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Flow, flow

from tasks.guard import guarded
from tasks.mistakes import in_our_words
from tasks.settle import settled
from tasks.states import mark_cancelled

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
            on_crashed=[mark_cancelled, settled],
            on_cancellation=[settled],
            **options,
        )
        return decorate(in_our_words(guarded(function)))

    return decorator
