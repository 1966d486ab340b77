"""The terminal output of `tunesmith cache`: a table of artifacts, one artifact, and what was removed."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import yaml
from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from pipeline_lib.cli.console import wide
from pipeline_lib.store.garbage_collection import Collected
from pipeline_lib.store.inventory import Entry


def facts(entry: Entry) -> dict[str, Any]:
    """Return one artifact as a JSON object."""
    creation = entry.manifest["made"] if entry.manifest else {"at": None, "by": None}
    return {
        "step": entry.step,
        "fingerprint": entry.fingerprint,
        "folder": str(entry.folder),
        "bytes": entry.size,
        "made_at": creation["at"],
        "made_by": creation["by"],
        "last_used": datetime.fromtimestamp(entry.used, UTC).isoformat(timespec="seconds"),
        "pinned_by": list(entry.pins),
        "manifest": "sound" if entry.manifest else "broken",
    }


def print_artifacts(entries: Sequence[Entry], others: Mapping[str, int]) -> None:
    """Print a table of artifacts, their total size, and other files in the store."""
    table = _table("step", "artifact", "size", "made at (UTC)", "by", "last used (UTC)", "pinned by")
    for entry in entries:
        made_at = "manifest is broken"
        made_by = ""
        if entry.manifest:
            made_at = entry.manifest["made"]["at"][:16].replace("T", " ")
            made_by = entry.manifest["made"]["by"]
        used = _minute(entry.used)
        _row(table, entry.step, entry.short, decimal(entry.size), made_at, made_by, used, ", ".join(entry.pins))
    console = wide()
    console.print(table)
    total = decimal(sum(entry.size for entry in entries))
    _say(console, f"{len(entries)} artifacts, {total}")
    _say(console, ", ".join(f"{part}/ {decimal(size)}" for part, size in others.items()))


def card(entry: Entry, manifest: Mapping[str, Any]) -> None:
    """Print one artifact: its creator, inputs and files."""
    console, creation, identity = wide(), manifest["made"], manifest["identity"]
    host = creation.get("host", "an unknown host")
    lines = {
        "step": f"{entry.step}, version {identity['version']}",
        "fingerprint": entry.fingerprint,
        "made": f"{creation['at']} by {creation['by']} on {host} in {creation['seconds']:.1f} s",
        "last used": f"{_minute(entry.used)} UTC",
        "pinned by": ", ".join(entry.pins) or "nothing",
        "folder": str(entry.folder),
    }
    for label, value in lines.items():
        _say(console, f"{label:<13} {value}")
    for part in ("recipe", "inputs", "libraries"):
        text = yaml.safe_dump(identity[part], sort_keys=False, allow_unicode=True) if identity[part] else "nothing"
        _say(console, f"\n{part}\n" + "\n".join(f"  {line}" for line in text.strip().splitlines()))
    table = _table("file", "size", "SHA-256")
    for name, file in manifest["files"].items():
        _row(table, name, decimal(file["size"]), file["sha256"])
    console.print(table)


def print_collection(result: Collected, keep_size: int | None, dry_run: bool) -> None:
    """Print the removed and the kept artifacts, and the space that was freed."""
    console = wide()
    action = "would remove" if dry_run else "removed"
    for entry in result.removed:
        size = decimal(entry.size)
        _say(console, f"{action} {entry.step} {entry.short}, {size}, last used {_minute(entry.used)} UTC")
    for path in result.temporary:
        _say(console, f"{action} {path}, left over from a killed process")
    for entry, reason in result.retained:
        _say(console, f"kept {entry.step} {entry.short}, {decimal(entry.size)}: {reason}")
    if dry_run:
        _say(console, f"{decimal(result.freed)} would be freed, {decimal(result.left)} would be left")
    else:
        _say(console, f"{decimal(result.freed)} freed, {decimal(result.left)} left")
    if keep_size is not None and result.left > keep_size:
        _say(console, f"That is {decimal(result.left - keep_size)} above the limit: the rest cannot be removed")


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for name in columns:
        table.add_column(name, justify="right" if name == "size" else "left", overflow="fold")
    return table


def _row(table: Table, *cells: str) -> None:
    table.add_row(*(Text(cell) for cell in cells))  # as Text: brackets in a name are not markup


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def _minute(stamp: float) -> str:
    return datetime.fromtimestamp(stamp, UTC).strftime("%Y-%m-%d %H:%M")
