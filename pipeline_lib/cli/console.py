"""What commands share: how a mistake is shown, and how a flow is found."""

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

from pipeline_lib.errors import RecipeError
from pipeline_lib.util.redaction import redact

if TYPE_CHECKING:
    from rich.console import Console


WIDTH = 120
"""Columns that tables need, where a terminal or a file has fewer."""
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
"""What a training will import. In this thread: transformers can't be imported by two at once."""


SERVER_START = 120
"""Seconds after which Prefect gives its embedded server up."""
WAITING_EVERY = 10.0
"""Seconds between two lines that say what is waited for."""
log = logging.getLogger("tunesmith")


def wide() -> "Console":
    """Where tables are printed: narrower ones would break their words."""
    from rich.console import Console

    return Console(width=max(Console().width, WIDTH))


def show_markdown(text: str) -> None:
    """Print Markdown as a terminal shows it, and as it is where the output goes to a file or a program."""
    from rich.markdown import Markdown

    if sys.stdout.isatty():
        wide().print(Markdown(text))
    else:
        typer.echo(text)


def with_prefect(name: str) -> Callable[..., Any]:
    """The flow of an entry point's name: this package never imports Prefect.

    Where its server is embedded, it starts meanwhile; what a training needs is imported as long as it does not answer.
    Raises RecipeError where the environment names a server that cannot be used.
    """
    from pipeline_lib.preflight.prefect_api import refuse_silent_prefect

    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")  # the terminal has our own lines
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "tunesmith")  # our lines stand in the flow run's log, too
    os.environ.setdefault(
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore"
    )  # else it warns of those before the flow
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")  # its heartbeat locks the embedded database
    # Prefect's own 20 s are too few on a busy machine
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", str(SERVER_START))
    refuse_silent_prefect()
    embedded = _loaded("embedded")()
    starts = not embedded.answers()
    if starts:  # said before Prefect is imported, which takes seconds itself
        log.info("%-11s starting its server; importing Prefect, torch, transformers and MLflow meanwhile", "prefect")
    flow: Callable[..., Any] = _loaded(name)
    embedded.hand_over()
    if starts:
        _import_while_it_starts(embedded)
    return flow


def _import_while_it_starts(embedded: Any) -> None:
    """Import what a training needs until Prefect's embedded server answers, and say what is waited for."""
    began = said = time.monotonic()
    for heavy in HEAVY:
        if embedded.answers():
            break
        import_module(heavy)
    while not embedded.answers() and time.monotonic() - began < SERVER_START:
        if time.monotonic() - said > WAITING_EVERY:
            said = time.monotonic()
            log.info("%-11s waiting for its server for %.0f s; the first start takes longest", "prefect", said - began)
        time.sleep(0.1)
    log.info("%-11s its server is ready", "prefect")


def _loaded(name: str) -> Any:
    (found,) = entry_points(group="tunesmith.runners", name=name)
    return found.load()


def error_text(error: RecipeError) -> str:
    """A user's mistake and the notes on it, a line each."""
    return "\n".join((str(error), *getattr(error, "__notes__", ())))


def fail(error: RecipeError) -> NoReturn:
    """Show a user's mistake without a traceback, and end with exit code 2."""
    typer.secho(error_text(error), err=True, fg="red")
    raise typer.Exit(2)


def show_bug(error: Exception) -> None:
    """Show the traceback of an error that nobody foresaw, without what is secret in it, and how to report it."""
    shown = redact("".join(traceback.format_exception(error))).rstrip()
    print(shown, file=sys.stderr)
    name = f"Tunesmith {version('tunesmith')} on Python {platform.python_version()}"
    print(f"This is a bug in {name}, not a mistake of yours. {HOW_TO_REPORT}", file=sys.stderr)
