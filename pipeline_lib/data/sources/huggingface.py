"""Data sets of Hugging Face's `datasets`: a folder that `save_to_disk` wrote, or a data set of the hub."""

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
    """A folder beside the recipe where there is one; else the text is left as it is, for the hub."""
    folder = Path((info.context or {}).get("folder") or ".") / path
    return str(folder) if is_folder(folder) or path.startswith(".") else path


class HuggingFace(Section):
    """A data set of Hugging Face's `datasets`."""

    kind: Literal["huggingface"]
    """A data set of Hugging Face's `datasets`; labels that it keeps as integers become their names."""
    path: Annotated[str, AfterValidator(_folder_or_id), Reach.DATA_SET]
    """A folder that `save_to_disk` wrote, relative to the recipe's own folder, or the data set's id on the hub."""
    name: str | None = None
    """The data set's configuration on the hub, where it has several."""
    revision: str | None = None
    """A branch, tag or commit on the hub; give a commit to have the same data always."""
    train: str = "train"
    """The name of the split to train on; a folder with one data set and no splits is the training data."""
    validation: str | None = None
    """The name of the validation split; left out, a share of the training data is set aside (see `data.split`)."""
    test: str | None = None
    """The name of the test split; left out, a share of the training data is set aside (see `data.split`)."""

    def files(self, split: str) -> list[Path]:
        """The Arrow files that hold a split's rows, downloaded first where the hub has them."""
        if getattr(self, split) is None:
            return []
        return self._saved(split) if is_folder(self.path) else self._downloaded(split)

    def parts(self, file: Path) -> list[Path]:
        """The file itself: its schema holds the names of its labels."""
        return [file]

    def read(self, file: Path) -> Iterator[Row | Unusable]:
        """The rows of one Arrow file; `line` is the row's number in it, from 1."""
        import pyarrow as pa

        try:
            stream = pa.ipc.open_stream(pa.memory_map(str(file)))
        except (pa.ArrowException, *UNREADABLE) as error:
            raise unreadable(file, "Arrow", 0, error) from error
        with stream:
            yield from read_rows(stream.schema, stream, file, "Arrow")

    def _saved(self, split: str) -> list[Path]:
        folder, name = Path(self.path), getattr(self, split)
        if (folder / "dataset_dict.json").is_file():
            splits = _read_object(folder / "dataset_dict.json").get("splits")
            self._check(split, [name for name in _list(splits) if isinstance(name, str)])
            folder = folder / name
        elif split != "train":
            hint = "Leave it out, or save a DatasetDict that has this split"
            raise RecipeError(f"data.source.{split}", name, f"{folder} has no splits", hint)
        if not (folder / "state.json").is_file():
            hint = "Write the folder with `save_to_disk`, or take `kind: parquet` for a folder of Parquet files"
            raise RecipeError("data.source.path", str(folder), "no data set that `save_to_disk` wrote", hint)
        state = _read_object(folder / "state.json")
        if state.get("_indices_data_files"):  # written by datasets 1.x after select or shuffle; ignored by today's
            hint = "Call `flatten_indices()` with the version that saved it, and save it again"
            raise RecipeError("data.source.path", str(folder), "its rows are a selection kept beside the data", hint)
        names = [data.get("filename") if isinstance(data, dict) else None for data in _list(state.get("_data_files"))]
        if not names or not all(isinstance(name, str) and name.isprintable() for name in names):
            problem = "has a state.json that names no files of data"
            raise RecipeError("data.source.path", str(folder), problem, "Save the data set again")
        files = [folder / str(name) for name in names]
        for file in files:
            if not inside(file, Path(self.path)):  # whoever wrote the data named it
                hint = "Do not trust this data set: save it again from where it comes from"
                raise RecipeError("data.source.path", self.path, f"names a file outside its folder ({file})", hint)
        return files

    def _downloaded(self, split: str) -> list[Path]:
        import datasets

        try:
            found = datasets.load_dataset(self.path, self.name, revision=self.revision)
        except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
            hint = "Check the id, `name`, `revision` and the network, or give a folder that `save_to_disk` wrote"
            problem = f"no such folder, and not available from the hub ({error})"
            raise RecipeError("data.source.path", self.path, problem, hint) from error
        self._check(split, list(found))
        return [Path(cached["filename"]) for cached in found[getattr(self, split)].cache_files]

    def _check(self, split: str, there: list[str]) -> None:
        if (name := getattr(self, split)) not in there:
            raise RecipeError(f"data.source.{split}", name, "no such split", f"There are: {', '.join(there)}")


def _read_object(file: Path) -> dict[str, Any]:
    """A JSON object that `save_to_disk` wrote; raises RecipeError where the file holds none."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise RecipeError("data.source.path", str(file), f"is damaged ({error})", "Save the data set again") from error
    if not isinstance(content, dict):
        raise RecipeError("data.source.path", str(file), "is not a JSON object", "Save the data set again")
    return content


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
