"""The files that a recipe's data comes from, as MLflow knows them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pipeline_lib.data.splits import SPLITS
from pipeline_lib.masking import masked
from pipeline_lib.recipe import Recipe
from pipeline_lib.store.digests import file_digest

CONTEXT = "mlflow.data.context"


class DataFile(NamedTuple):
    """A source file, the split that it was given for, and the first 32 digits of its SHA-256 (MLflow takes 36)."""

    split: str
    path: str
    digest: str


def data_files(recipe: Recipe) -> Iterator[DataFile]:
    """The files as they are now; raises RecipeError where a path of the recipe leads to none."""
    source = recipe.data.source
    for split in SPLITS:
        for file in source.files(split):
            yield DataFile(split, masked(str(file)), "".join(file_digest(part) for part in source.parts(file))[:32])


def changes(then: Sequence[DataFile], now: Sequence[DataFile]) -> Iterator[tuple[DataFile, str]]:
    """Files that hold other bytes now, are gone or are new, and which of these; where a file lies decides nothing."""
    before, after = ({(file.split, file.digest) for file in files} for files in (then, now))
    lost, new = (
        [f for f in files if (f.split, f.digest) not in others] for files, others in ((then, after), (now, before))
    )
    places = {(file.split, file.path) for file in new}
    for file in lost:
        here = (file.split, file.path) in places
        places.discard((file.split, file.path))
        yield file, "holds other bytes" if here else "is gone"
    yield from ((file, "is new") for file in new if (file.split, file.path) in places)
