"""Hugging Face `datasets`: a folder written by `save_to_disk`, or a data set on the hub."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ValidationInfo

from pipeline_lib.data.sources.arrow_rows import UNREADABLE, read_rows, unreadable
from pipeline_lib.data.sources.base import Row, Unusable
from pipeline_lib.errors import RecipeError
from pipeline_lib.util.section import Reach, Section, inside, is_folder


def _folder_or_id(path: str, info: ValidationInfo) -> str:
    """Resolve a folder relative to the recipe; return any other value unchanged, as an id on the hub."""
    folder = Path((info.context or {}).get("folder") or ".") / path
    return str(folder) if is_folder(folder) or path.startswith(".") else path


class HuggingFace(Section):
    """Hugging Face data sets."""

    kind: Literal["huggingface"]
    """Hugging Face `datasets`; integer class labels are replaced by their names."""
    path: Annotated[str, AfterValidator(_folder_or_id), Reach.DATA_SET]
    """Folder written by `save_to_disk`, relative to the recipe's folder, or the data set's id on the hub."""
    name: str | None = None
    """Configuration of a hub data set that has several."""
    revision: str | None = None
    """Branch, tag or commit on the hub; set a commit to always get the same data."""
    train: str = "train"
    """Name of the training split; a folder with a single data set and no splits is used as training data."""
    validation: str | None = None
    """Name of the validation split; empty: a share of the training data is set aside (see `data.split`)."""
    test: str | None = None
    """Name of the test split; empty: a share of the training data is set aside (see `data.split`)."""

    def files(self, split: str) -> list[Path]:
        """Return the Arrow files with a split's rows, downloading them from the hub if necessary."""
        if getattr(self, split) is None:
            return []
        return self._find_saved_files(split) if is_folder(self.path) else self._download(split)

    def parts(self, file: Path) -> list[Path]:
        """Return the file itself: its schema already contains the label names."""
        return [file]

    def read(self, file: Path) -> Iterator[Row | Unusable]:
        """Yield the rows of one Arrow file; `line` is the 1-based row number."""
        import pyarrow as pa

        try:
            stream = pa.ipc.open_stream(pa.memory_map(str(file)))
        except (pa.ArrowException, *UNREADABLE) as error:
            raise unreadable(file, "Arrow", 0, error) from error
        with stream:
            yield from read_rows(stream.schema, stream, file, "Arrow")

    def _find_saved_files(self, split: str) -> list[Path]:
        folder, name = Path(self.path), getattr(self, split)
        if (folder / "dataset_dict.json").is_file():
            splits = _read_object(folder / "dataset_dict.json").get("splits")
            self._check(split, [name for name in _list(splits) if isinstance(name, str)])
            folder = folder / name
        elif split != "train":
            hint = "Remove it, or save a DatasetDict that has this split"
            raise RecipeError(f"data.source.{split}", name, f"{folder} has no splits", hint)
        if not (folder / "state.json").is_file():
            hint = "Write the folder with `save_to_disk`, or use `kind: parquet` for a folder of Parquet files"
            raise RecipeError("data.source.path", str(folder), "not a data set written by `save_to_disk`", hint)
        state = _read_object(folder / "state.json")
        # Written by datasets 1.x after select or shuffle. Current versions ignore it and would load all rows.
        if state.get("_indices_data_files"):
            hint = "Call `flatten_indices()` with the `datasets` version that saved it, and save it again"
            problem = "its rows are a selection that is stored in a separate indices file"
            raise RecipeError("data.source.path", str(folder), problem, hint)
        names = [data.get("filename") if isinstance(data, dict) else None for data in _list(state.get("_data_files"))]
        if not names or not all(isinstance(name, str) and name.isprintable() for name in names):
            problem = "has a state.json that lists no valid data files"
            raise RecipeError("data.source.path", str(folder), problem, "Save the data set again")
        files = [folder / str(name) for name in names]
        for file in files:
            if not inside(file, Path(self.path)):  # file names come from state.json, which is not trusted
                hint = "Do not trust this data set: save it again from its original source"
                raise RecipeError("data.source.path", self.path, f"names a file outside its folder ({file})", hint)
        return files

    def _download(self, split: str) -> list[Path]:
        import datasets

        try:
            loaded = datasets.load_dataset(self.path, self.name, revision=self.revision)
        except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
            hint = "Check the id, `name`, `revision` and the network, or set a folder written by `save_to_disk`"
            problem = f"no such folder, and not available from the hub ({error})"
            raise RecipeError("data.source.path", self.path, problem, hint) from error
        self._check(split, list(loaded))
        return [Path(cached["filename"]) for cached in loaded[getattr(self, split)].cache_files]

    def _check(self, split: str, available: list[str]) -> None:
        name = getattr(self, split)
        if name not in available:
            raise RecipeError(f"data.source.{split}", name, "no such split", f"Choose one of {', '.join(available)}")


def _read_object(file: Path) -> dict[str, Any]:
    """Read a JSON object written by `save_to_disk`; raise RecipeError if the file does not contain one."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise RecipeError("data.source.path", str(file), f"is damaged ({error})", "Save the data set again") from error
    if not isinstance(content, dict):
        raise RecipeError("data.source.path", str(file), "is not a JSON object", "Save the data set again")
    return content


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
