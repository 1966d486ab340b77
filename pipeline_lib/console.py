"""What commands share: how a mistake is shown, and how a flow is found."""

import os
import threading
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from pipeline_lib.schema import RecipeError

if TYPE_CHECKING:
    from rich.console import Console


WIDTH = 120
"""Columns that tables need, where a terminal or a file has fewer."""


def wide() -> "Console":
    """Where tables are printed: narrower ones would break their words."""
    from rich.console import Console

    return Console(width=max(Console().width, WIDTH))


def with_prefect(name: str) -> Callable[..., Any]:
    """The flow of an entry point's name: this package never imports Prefect. Torch is imported meanwhile."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")  # the terminal has our own lines
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "tunesmith")  # our lines stand in the flow run's log, too
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")  # its heartbeat locks the embedded database
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")  # its 20 s fail on a busy machine
    threading.Thread(target=_import_ahead, daemon=True).start()
    (found,) = entry_points(group="tunesmith.runners", name=name)
    return found.load()


def _import_ahead() -> None:
    import torch  # noqa: F401


def fail(error: RecipeError) -> NoReturn:
    """Show a user's mistake without a traceback, and end with exit code 2."""
    for line in (str(error), *getattr(error, "__notes__", ())):
        typer.secho(line, err=True, fg="red")
    raise typer.Exit(2)
