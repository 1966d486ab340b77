"""`tunesmith cache ls | show | verify | gc`: list, check and clean up the artifact store."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from pipeline_lib.cli.console import fail
from pipeline_lib.errors import RecipeError
from pipeline_lib.store.integrity import describe_damage

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="List, check and clean up the artifact store.",
)

StoreFolder = Annotated[Path, typer.Option("--store", help="The store's folder (`execution.store` of a recipe).")]
StepName = Annotated[str | None, typer.Option("--step", help="Only artifacts of this step, such as finetune.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
STORE = Path("artifacts")
HOURS = {"h": 1, "d": 24, "w": 7 * 24}
UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


@app.command()
def ls(store: StoreFolder = STORE, step: StepName = None, as_json: AsJson = False) -> None:
    """List the artifacts with their step, size, creator and last use."""
    from pipeline_lib.cli import cache_tables as cache_show
    from pipeline_lib.store import inventory as cache

    with _store_root(store) as root:
        entries = cache.list_artifacts(root, step)
        others = {part: cache.size_of(root / part) for part in ("work", "damaged", "partial")}
        if as_json:
            document = {"store": str(root), "artifacts": [cache_show.facts(entry) for entry in entries]}
            total = sum(entry.size for entry in entries)
            typer.echo(json.dumps(document | {"bytes": total} | others, indent=1))
        else:
            cache_show.print_artifacts(entries, others)


@app.command()
def show(
    fingerprint: Annotated[str, typer.Argument(help="The first digits of an artifact's fingerprint.")],
    store: StoreFolder = STORE,
    as_json: AsJson = False,
) -> None:
    """Show one artifact: its creator, inputs and files."""
    from pipeline_lib.cli import cache_tables as cache_show
    from pipeline_lib.store import inventory as cache

    with _store_root(store) as root:
        entry = cache.find(root, fingerprint)
        if entry.manifest is None:
            hint = "Run `tunesmith cache verify`, which sets the artifact aside; the next run creates it again"
            raise RecipeError("FINGERPRINT", fingerprint, "its manifest is broken", hint)
        if as_json:
            typer.echo(json.dumps(entry.manifest, indent=1, ensure_ascii=False))
        else:
            cache_show.card(entry, entry.manifest)


@app.command()
def verify(store: StoreFolder = STORE, step: StepName = None) -> None:
    """Verify the checksums of all artifacts. Damaged ones are listed and set aside, and the exit code is 1."""
    from pipeline_lib.store import inventory as cache

    with _store_root(store) as root:
        checked = damaged = 0
        for entry, finding in cache.verify(root, step):
            checked += 1
            if finding:
                damaged += 1
                outcome = "left in place: another process is using it"
                if finding.aside:
                    outcome = f"set aside in {finding.aside}"
                typer.echo(f"{entry.step} {entry.short} is damaged ({finding.what}): {outcome}")
    typer.echo(f"{checked} artifacts verified, {damaged} damaged")
    raise typer.Exit(1 if damaged else 0)


@app.command()
def gc(
    store: StoreFolder = STORE,
    older_than: Annotated[str | None, typer.Option(help="Remove artifacts unused for this long: 12h, 30d, 8w.")] = None,
    keep_size: Annotated[
        str | None,
        typer.Option(help="Remove least recently used artifacts until the store has at most this size: 500MB, 20GB."),
    ] = None,
    damaged: Annotated[
        bool, typer.Option("--damaged", help="Also remove artifacts that were set aside as damaged.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed without removing it.")] = False,
) -> None:
    """Free disk space. Artifacts in use or of registered models are kept; leftovers of killed processes are not."""
    from pipeline_lib.cli import cache_tables as cache_show
    from pipeline_lib.store.garbage_collection import collect

    with _store_root(store) as root:
        if older_than is None and keep_size is None:
            hint = "Give --older-than 30d, --keep-size 20GB or both"
            raise RecipeError("--older-than, --keep-size", None, "one of them is required", hint)
        age = None if older_than is None else _seconds(older_than)
        size = None if keep_size is None else _bytes(keep_size)
        cache_show.print_collection(collect(root, age, size, damaged, dry_run), size, dry_run)


@contextmanager
def _store_root(store: Path) -> Iterator[Path]:
    """Yield the store's root; a RecipeError is shown as one line, with exit code 2."""
    root = store.absolute()
    try:
        if not any((root / part).is_dir() for part in ("steps", "locks")):
            hint = "Use the folder in `execution.store` of your recipes"
            raise RecipeError("--store", str(store), "is not an artifact store", hint)
        with describe_damage(root, field="--store"):
            yield root
    except RecipeError as error:
        fail(error)


def _seconds(age: str) -> float:
    if not (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([hdw])", age.strip().lower())):
        raise RecipeError(
            "--older-than", age, "must be a duration", "Write a number of hours, days or weeks: 12h, 30d or 8w"
        )
    return float(match[1]) * HOURS[match[2]] * 3600


def _bytes(size: str) -> int:
    """Parse a size. The unit is required: 20 instead of 20GB would empty the store.

    pydantic.ByteSize is too lenient for that: it reads 20 as 20 bytes, and 1,500GB as 1 byte.
    """
    if not (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?b)", size.strip().lower())):
        hint = "Write a number and B, kB, MB, GB or TB: 500MB or 20GB"
        raise RecipeError("--keep-size", size, "must be a size with a unit", hint)
    return int(float(match[1]) * UNITS[match[2]])
