"""Shared by the commands: printing tables and errors, and loading flows."""

import logging
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points, version
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from pipeline_lib.errors import RecipeError, error_text
from pipeline_lib.evaluation.report.tables import WIDTH
from pipeline_lib.util.redaction import redact

if TYPE_CHECKING:
    from rich.console import Console


HOW_TO_REPORT = (
    "Please open an issue with the lines above, the command and the recipe ('Report a bug' in CONTRIBUTING.md)."
)
HEAVY = (
    "torch",
    "transformers.models.auto.modeling_auto",
    "transformers.modeling_utils",
    "accelerate",
    "mlflow.tracking",
)
"""Modules that a training imports. They are imported in one thread, since transformers' imports are not thread-safe."""


SERVER_START = 120
"""Seconds after which Prefect stops waiting for its embedded server."""
WAITING_EVERY = 10.0
"""Seconds between two log lines while waiting for the server."""
log = logging.getLogger("tunesmith")


def wide() -> "Console":
    """Return a console wide enough for tables; in a narrower one their words would be broken."""
    from rich.console import Console

    return Console(width=max(Console().width, WIDTH))


def show_markdown(text: str) -> None:
    """Print Markdown: rendered on a terminal, as source if the output goes to a file or a program."""
    from rich.markdown import Markdown

    if sys.stdout.isatty():
        wide().print(Markdown(text))
    else:
        typer.echo(text)


def load_flow(name: str) -> Callable[..., Any]:
    """Load the flow of an entry point, since this package never imports Prefect itself.

    If Prefect uses an embedded server, it is started, and the modules that a training needs are imported meanwhile.

    Raises:
        RecipeError: $PREFECT_API_URL names a server that cannot be used.
    """
    from pipeline_lib.preflight.prefect_api import refuse_silent_prefect

    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")  # our own lines are printed instead
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "tunesmith")  # our lines go to the flow run's log, too
    os.environ.setdefault(
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore"
    )  # no warnings about lines logged before the flow starts
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")  # its heartbeat locks the embedded database
    # Prefect's default of 20 s is too short on a busy machine.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", str(SERVER_START))
    refuse_silent_prefect()
    embedded = _load_entry_point("embedded")()
    starting = not embedded.answers()
    if starting:  # logged before the import of Prefect, which itself takes seconds
        log.info("%-11s starting its server; importing Prefect, torch, transformers and MLflow meanwhile", "prefect")
    flow: Callable[..., Any] = _load_entry_point(name)
    if starting:
        _import_while_it_starts(embedded)
    embedded.hand_over()
    return flow


def _import_while_it_starts(embedded: Any) -> None:
    """Import a training's modules until Prefect's embedded server answers, then wait for it and log the waiting."""
    began = last_line = time.monotonic()
    for module in HEAVY:
        if embedded.answers():
            break
        import_module(module)
    while not embedded.answers() and time.monotonic() - began < SERVER_START:
        if time.monotonic() - last_line > WAITING_EVERY:
            last_line = time.monotonic()
            waited = last_line - began
            log.info("%-11s waited %.0f s for its server; the first start takes longest", "prefect", waited)
        time.sleep(0.1)
    log.info("%-11s its server is ready", "prefect")


def _load_entry_point(name: str) -> Any:
    (entry_point,) = entry_points(group="tunesmith.runners", name=name)
    return entry_point.load()


def fail(error: RecipeError) -> NoReturn:
    """Print a user error without a traceback, and exit with code 2."""
    typer.secho(error_text(error), err=True, fg="red")
    raise typer.Exit(2)


def show_bug(error: Exception) -> None:
    """Print the traceback of an unexpected error with secrets redacted, and how to report it."""
    shown = redact("".join(traceback.format_exception(error))).rstrip()
    print(shown, file=sys.stderr)
    name = f"Tunesmith {version('tunesmith')} on Python {platform.python_version()}"
    print(f"This is a bug in {name}, not an error of yours. {HOW_TO_REPORT}", file=sys.stderr)
