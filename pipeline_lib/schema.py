"""What every part of a recipe is made of: frozen sections, file paths, and the error for a user's mistake."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo


class RecipeError(Exception):
    """A mistake in a recipe or in the data that it names; shown to the user without a traceback.

    `field` is the dotted path of the recipe's field, `value` what stands there, `mend` what to do about it.
    """

    def __init__(self, field: str, value: object, problem: str, mend: str):
        self.field, self.value, self.problem, self.mend = field, value, problem, mend
        super().__init__(f"{field} = {value!r}: {problem}. {mend}{'' if mend.endswith(('?', ')')) else '.'}")

    def __reduce__(self):  # Prefect and worker processes pickle errors by their arguments
        return type(self), (self.field, self.value, self.problem, self.mend)


class Section(BaseModel):
    """A part of a recipe: immutable, and refusing keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def _beside_the_recipe(path: str, info: ValidationInfo) -> str:
    """Paths in a recipe file are relative to its folder, so that a recipe can be run from anywhere."""
    folder = (info.context or {}).get("folder")
    return path if folder is None else str(Path(folder) / path)


RecipePath = Annotated[str, AfterValidator(_beside_the_recipe)]
"""A file, glob or folder, relative to the recipe's own folder."""
