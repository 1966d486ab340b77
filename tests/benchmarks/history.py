"""What benchmarks measured, today and on earlier days: Parquet files with a plot beside them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

FOLDER = Path("artifacts/bench")
RATIOS = FOLDER / "ratios.parquet"
"""Of all benchmarks that measure two sides in turn."""


def add(figures: Sequence[Mapping[str, Any]], history: Path) -> pd.DataFrame:
    """Add figures to those of earlier days; all of them, with the time of each."""
    history.parent.mkdir(parents=True, exist_ok=True)
    known = [pd.read_parquet(history)] if history.exists() else []
    frame = pd.concat([*known, pd.DataFrame(figures).assign(at=datetime.now(UTC))], ignore_index=True)
    frame.to_parquet(history)
    return frame


def add_ratios(figures: Mapping[str, float], history: Path) -> None:
    """Print ratios as a table, add them to those of earlier days, and draw how each went."""
    import matplotlib.pyplot as plt

    print("\n| what | ratio |\n| --- | --- |")
    for what, ratio in figures.items():
        print(f"| {what} | {ratio:.3f} |")
    frame = add([{"what": what, "ratio": ratio} for what, ratio in figures.items()], history)
    figure, axes = plt.subplots(figsize=(12, 8))
    for what, group in frame.groupby("what"):
        axes.plot(group["at"], group["ratio"], marker="o", label=what)
    axes.set(yscale="log", ylabel="ratio")
    axes.legend(bbox_to_anchor=(1, 1), fontsize="small")
    figure.autofmt_xdate()
    figure.savefig(history.with_suffix(".png"), bbox_inches="tight")
