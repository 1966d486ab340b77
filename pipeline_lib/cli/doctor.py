"""`tunesmith doctor`."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline_lib.cli.console import fail, wide
from pipeline_lib.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline_lib.preflight.result import CheckResult

COLORS = {"ok": "green", "warning": "yellow", "failed": "red"}


def doctor(
    recipe: Annotated[
        Path | None, typer.Argument(help="A recipe file (YAML); without one, checks that need a recipe are skipped.")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="path=value, for example execution.device=cuda")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Check what a run needs: Python, packages, MLflow, the store, disk space, Prefect and the device.

    The exit code is 1 if something would stop a run.
    """
    import json

    from pipeline_lib.preflight.preflight import check_everything
    from pipeline_lib.recipe.loading import load

    try:
        results = check_everything(load(recipe, overrides or []) if recipe else None)
    except RecipeError as error:
        fail(error)
    failures = sum(result.status == "failed" for result in results)
    if as_json:
        checks = [{name: value for name, value in asdict(result).items() if name != "error"} for result in results]
        typer.echo(json.dumps({"checks": checks, "failed": failures}, indent=1, ensure_ascii=False))
    else:
        print_results(results)
    raise typer.Exit(1 if failures else 0)


def print_results(results: "Sequence[CheckResult]") -> None:
    """Print a table of results, and below it whether a run would start."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for name in ("check", "status", "found", "what to do"):
        table.add_column(name, overflow="fold", no_wrap=name in ("check", "status"))
    for result in results:
        status = Text(result.status, style=COLORS[result.status])
        table.add_row(Text(result.name), status, Text(result.found), Text(result.hint))
    wide().print(table)
    counts = Counter(result.status for result in results)
    if counts["failed"]:
        typer.echo(f"{counts['failed']} of {len(results)} checks failed: a run would stop before any work.")
    elif counts["warning"]:
        typer.echo(f"No check failed; warnings: {counts['warning']}.")
    else:
        typer.echo("No check failed.")
