"""`tunesmith cache ls | show | verify | gc`: what the store holds, whether it is sound, and room for more."""

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
    help="Look into the store of artifacts, check it, free its space.",
)

StoreFolder = Annotated[Path, typer.Option("--store", help="The store's folder (`execution.store` of a recipe).")]
StepName = Annotated[str | None, typer.Option("--step", help="Only artifacts of this step, for example finetune.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
STORE = Path("artifacts")
HOURS = {"h": 1, "d": 24, "w": 7 * 24}
UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


@app.command()
def ls(store: StoreFolder = STORE, step: StepName = None, as_json: AsJson = False) -> None:
    """List the artifacts: what made each, how large it is and when it was last used."""
    from pipeline_lib.cli import cache_tables as cache_show
    from pipeline_lib.store import inventory as cache

    with _in_one_line(store) as root:
        entries = cache.artifacts(root, step)
        others = {part: cache.size_of(root / part) for part in ("work", "damaged", "partial")}
        if as_json:
            told = {"store": str(root), "artifacts": [cache_show.facts(entry) for entry in entries]}
            typer.echo(json.dumps(told | {"bytes": sum(entry.size for entry in entries)} | others, indent=1))
        else:
            cache_show.listing(entries, others)


@app.command()
def show(
    fingerprint: Annotated[str, typer.Argument(help="The first digits of an artifact's fingerprint.")],
    store: StoreFolder = STORE,
    as_json: AsJson = False,
) -> None:
    """Show one artifact: what made it, from what, and its files."""
    from pipeline_lib.cli import cache_tables as cache_show
    from pipeline_lib.store import inventory as cache

    with _in_one_line(store) as root:
        entry = cache.find(root, fingerprint)
        if entry.manifest is None:
            hint = "`tunesmith cache verify` sets the artifact aside, and the next run makes it again"
            raise RecipeError("FINGERPRINT", fingerprint, "its manifest is broken", hint)
        if as_json:
            typer.echo(json.dumps(entry.manifest, indent=1, ensure_ascii=False))
        else:
            cache_show.card(entry, entry.manifest)


@app.command()
def verify(store: StoreFolder = STORE, step: StepName = None) -> None:
    """Hash every artifact again. Damaged ones are named and set aside, and the exit code is 1."""
    from pipeline_lib.store import inventory as cache

    with _in_one_line(store) as root:
        checked = damaged = 0
        for entry, finding in cache.verify(root, step):
            checked += 1
            if finding:
                damaged += 1
                where = (
                    f"set aside in {finding.aside}" if finding.aside else "left, for another process is at work on it"
                )
                typer.echo(f"{entry.step} {entry.short} is damaged ({finding.what}): {where}")
    typer.echo(f"{checked} artifacts verified, {damaged} damaged")
    raise typer.Exit(1 if damaged else 0)


@app.command()
def gc(
    store: StoreFolder = STORE,
    older_than: Annotated[str | None, typer.Option(help="Remove what was not used for so long: 12h, 30d, 8w.")] = None,
    keep_size: Annotated[
        str | None, typer.Option(help="Remove the least recently used until the store is this small: 500MB, 20GB.")
    ] = None,
    damaged: Annotated[bool, typer.Option("--damaged", help="Remove what was set aside as damaged, too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
) -> None:
    """Free space. What is pinned, in use or being made stays; left-overs of killed processes go always."""
    from pipeline_lib.cli import cache_tables as cache_show
    from pipeline_lib.store.garbage_collection import collect

    with _in_one_line(store) as root:
        if older_than is None and keep_size is None:
            hint = "Give --older-than 30d, --keep-size 20GB or both"
            raise RecipeError("--older-than, --keep-size", None, "one of them is needed", hint)
        age = None if older_than is None else _seconds(older_than)
        size = None if keep_size is None else _bytes(keep_size)
        cache_show.collected(collect(root, age, size, damaged, dry_run), size, dry_run)


@contextmanager
def _in_one_line(store: Path) -> Iterator[Path]:
    """The store's root; a RecipeError is shown as one line, with exit code 2."""
    root = store.absolute()
    try:
        if not any((root / part).is_dir() for part in ("steps", "locks")):
            hint = "Name the folder that `execution.store` of your recipes names"
            raise RecipeError("--store", str(store), "is not a store of artifacts", hint)
        with describe_damage(root, field="--store"):
            yield root
    except RecipeError as error:
        fail(error)


def _seconds(age: str) -> float:
    if not (found := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([hdw])", age.strip().lower())):
        raise RecipeError(
            "--older-than", age, "is not an age", "Write a number of hours, days or weeks: 12h, 30d or 8w"
        )
    return float(found[1]) * HOURS[found[2]] * 3600


def _bytes(size: str) -> int:
    """A unit has to be there: who means 20GB and writes 20 would lose all."""
    if not (found := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?b)", size.strip().lower())):
        raise RecipeError("--keep-size", size, "is not a size", "Write a number and B, kB, MB, GB or TB: 500MB or 20GB")
    return int(float(found[1]) * UNITS[found[2]])
