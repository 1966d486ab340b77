"""DataFrames as files of the store, so that a run reads and caches them like any other data."""

from collections.abc import Mapping
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.data.splits import SPLITS
from pipeline_lib.errors import RecipeError
from pipeline_lib.store.artifacts import Step
from pipeline_lib.store.remote import open_store

if TYPE_CHECKING:
    import pandas as pd

ROWS = "rows.parquet"


def store_frames(data: "pd.DataFrame | Mapping[str, pd.DataFrame]", store: str) -> dict[str, str]:
    """Write DataFrames to the store, each as an artifact of the step `frame`.

    Args:
        data: The training rows, or the rows of each split.
        store: The folder or URL of the store.

    Returns:
        Split -> the path of its Parquet file.

    Raises:
        RecipeError: A split is unknown, or a DataFrame has no rows or cannot be written as Parquet.
    """
    frames = data if isinstance(data, Mapping) else {"train": data}
    unknown = [split for split in frames if split not in SPLITS]
    if unknown or "train" not in frames:
        problem = "must have a DataFrame for train and optionally for validation and test"
        raise RecipeError("data", sorted(map(str, frames)), problem, 'Write data={"train": frame}')
    return {split: str(_store_frame(f"data.{split}", frame, store)) for split, frame in frames.items()}


def _store_frame(field: str, frame: "pd.DataFrame", store: str) -> Path:
    content = _parquet(field, frame)
    step = Step("frame", 1, {}, {"rows": sha256(content).hexdigest()})

    def write(folder: Path) -> None:
        (folder / ROWS).write_bytes(content)

    return open_store(store).ensure(step, write).folder / ROWS


def _parquet(field: str, frame: "pd.DataFrame") -> bytes:
    """Return a Parquet file's bytes, without pandas' metadata: it contains pandas' version, which would change them."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not isinstance(frame, pd.DataFrame):
        hint = "Give a pandas DataFrame, for example dataset.to_pandas()"
        raise RecipeError(field, type(frame).__name__, "is not a DataFrame", hint)
    if frame.empty:
        raise RecipeError(field, f"{len(frame.columns)} columns", "has no rows", "Give a DataFrame with rows")
    content = BytesIO()
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
        pq.write_table(table, content, compression="zstd")
    except (pa.ArrowException, ValueError, TypeError) as error:
        hint = "Use one type in each column and a different name for each column"
        raise RecipeError(field, None, f"cannot be written as Parquet ({error})", hint) from error
    return content.getvalue()
