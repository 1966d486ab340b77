"""Find data files, and their splits by the names of files and folders."""

import glob
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline_lib.data.sources.base import refuse_undecodable_names
from pipeline_lib.errors import RecipeError
from pipeline_lib.util.section import is_file, is_folder

SPLIT_WORDS = {
    "train": ("train", "training", "trainset", "trn"),
    "validation": ("validation", "valid", "val", "valset", "dev", "devset", "devel", "development", "eval", "testa"),
    "test": ("test", "testset", "testing", "tst", "testb"),
}
DOCUMENTS = re.compile(r"(readme|license|licence|source|citation|changelog|notice|copying|authors)\b", re.IGNORECASE)
"""Files about the data, which hold none. Only such without an ending, or with one of DOCUMENT_ENDINGS."""
DOCUMENT_ENDINGS = ("", ".txt", ".md", ".rst", ".upstream", ".cff")
NO_DATA = (".md", ".rst", ".pdf", ".html", ".py", ".sh", ".ipynb", ".yaml", ".yml", ".toml", ".png", ".jpg", ".lock")
SAVED = ("dataset_dict.json", "state.json")
"""Files that mark a folder which `datasets` has saved."""


@dataclass(frozen=True)
class FoundFile:
    """A file, or the folder of a saved data set; `split` is what its name says, if it says anything."""

    path: Path
    split: str | None
    explicit: bool = False
    """Whether the user named this very file."""


def find_files(paths: Iterable[Path]) -> list[FoundFile]:
    """All data files of these files, globs and folders; raises RecipeError where there are none."""
    found: list[FoundFile] = []
    for path in paths:
        if is_folder(path):
            found.extend(_find_in_folder(path))
        elif is_file(path):
            found.append(FoundFile(path, split_of(path), explicit=True))
        elif matches := sorted(filter(is_file, glob.glob(str(path)))):
            found.extend(FoundFile(Path(match), split_of(Path(match)), explicit=True) for match in matches)
        else:
            raise RecipeError("DATA", str(path), "no such file or folder", "Check the spelling")
    refuse_undecodable_names("DATA", (file.path for file in found))
    if not found:
        raise RecipeError("DATA", " ".join(map(str, paths)), "holds no data files", "Name the files themselves")
    return found


def _find_in_folder(folder: Path) -> list[FoundFile]:
    if any(is_file(folder / name) for name in SAVED):
        return [FoundFile(folder, None)]
    files = sorted(file for file in folder.rglob("*") if is_file(file) and _may_hold_data(file, folder))
    return [FoundFile(file, split_of(file, folder)) for file in files]


def _may_hold_data(file: Path, folder: Path) -> bool:
    if any(part.startswith(".") for part in file.relative_to(folder).parts):
        return False
    about = DOCUMENTS.match(file.name) and file.suffix.lower() in DOCUMENT_ENDINGS
    return not about and file.suffix.lower() not in NO_DATA


def split_of(file: Path, folder: Path | None = None) -> str | None:
    """The split that a file's name says, else its folder's, up to `folder`; None where they say nothing."""
    names = [file.name]
    if folder:
        names.extend(reversed(file.relative_to(folder).parts[:-1]))
    for name in names:
        for word in re.findall("[a-z]+", name.lower()):
            for split, words in SPLIT_WORDS.items():
                # wnut17train.conll is cut at its digits; xtrain has no border, and nothing else ends like that
                if word in words or (split == "train" and word.endswith("train")):
                    return split
    return None


def data_name(paths: Iterable[Path]) -> str:
    """A name for the recipe: the folder's, or that of a single file."""
    first, *others = paths
    file = first.absolute()
    name = file.name if is_folder(first) else file.name.split(".")[0]
    if not is_folder(first) and (others or split_of(Path(name))):
        name = file.parent.name
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "recipe"
