"""The errors that a user sees without a traceback."""

from pipeline_lib.masking import masked


class RecipeError(Exception):
    """A mistake in a recipe or in the data that it names; shown to the user without a traceback.

    `field` is the dotted path of the recipe's field, `value` what stands there, `mend` what to do about it.
    """

    def __init__(self, field: str, value: object, problem: str, mend: str):
        self.field, self.value, self.problem, self.mend = field, masked(value), masked(problem), masked(mend)
        end = "" if mend.endswith(("?", ")")) else "."
        super().__init__(f"{field}{_shown(self.value)}: {self.problem}. {self.mend}{end}")

    def __reduce__(self):  # Prefect and worker processes pickle errors by their arguments
        return type(self), (self.field, self.value, self.problem, self.mend)


class Unanswered(RecipeError):
    """A server that the recipe names does not answer just now. The recipe may be sound: later the same run may do."""


def _shown(value: object) -> str:
    """` = value`, cut where a section or list is long; nothing where there is no value."""
    text = repr(value)
    long = len(text) > 80 and not isinstance(value, str)
    return "" if value is None else f" = {text[:77]}..." if long else f" = {text}"
