"""The errors that a user sees without a traceback."""

from pipeline_lib.util.redaction import redact

PROBLEM = 2_000
"""Characters of a problem: it may list what is known, or repeat what a library says."""


class RecipeError(Exception):
    """A mistake in a recipe or in the data that it names; shown to the user without a traceback.

    `field` is the dotted path of the recipe's field, `value` what stands there, `hint` what to do about it.
    """

    def __init__(self, field: str, value: object, problem: str, hint: str):
        self.field, self.value, self.problem, self.hint = field, redact(value), redact(problem), redact(hint)
        end = "" if hint.endswith(("?", ")")) else "."
        shown = f"{shorten(field)}{_shown(self.value)}: {shorten(self.problem, PROBLEM)}. {self.hint}{end}"
        super().__init__(shown)

    def _render_traceback_(self) -> list[str]:
        """Show a notebook the message and its notes alone; IPython calls this in place of its traceback."""
        return [f"{type(self).__name__}: {self}", *getattr(self, "__notes__", ())]

    def __reduce__(self):  # Prefect and worker processes pickle errors by their arguments
        return type(self), (self.field, self.value, self.problem, self.hint)


class ServiceUnavailable(RecipeError):
    """A server that the recipe names does not answer just now. The recipe may be sound: later the same run may do."""


def shorten(text: str, longest: int = 300) -> str:
    """A text, without its middle where it is longer than so many characters."""
    if len(text) <= longest:
        return text
    half = (longest - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


def _shown(value: object) -> str:
    """` = value`, cut where it is long; nothing where there is no value."""
    if value is None:
        return ""
    if isinstance(value, str):
        return f" = {shorten(value)!r}"
    text = repr(value)
    return f" = {text[:77]}..." if len(text) > 80 else f" = {text}"
