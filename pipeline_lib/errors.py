"""Errors shown to the user without a traceback."""

from collections.abc import Sequence

from pipeline_lib.util.redaction import redact

PROBLEM = 2_000
"""Maximum characters of a problem text, which may list valid choices or quote a library's error."""
NOTES = 5
"""Number of further errors listed in notes on the first one."""


class RecipeError(Exception):
    """A mistake in a recipe or in its data; shown to the user without a traceback.

    Args:
        field: Dotted path of the field in the recipe.
        value: The value of the field; None if there is none to show.
        problem: What is wrong, continuing the sentence "FIELD = VALUE: ...".
        hint: How to fix it, as an imperative sentence without a full stop.
    """

    def __init__(self, field: str, value: object, problem: str, hint: str):
        self.field, self.value, self.problem, self.hint = field, redact(value), redact(problem), redact(hint)
        end = "" if hint.endswith(("?", ")")) else "."
        shown = f"{shorten(field)}{_format_value(self.value)}: {shorten(self.problem, PROBLEM)}. {self.hint}{end}"
        super().__init__(shown)

    def _render_traceback_(self) -> list[str]:
        """Return the message and its notes; IPython shows this instead of a traceback."""
        return [f"{type(self).__name__}: {self}", *getattr(self, "__notes__", ())]

    def __reduce__(self):  # pickled between processes and by Prefect: pass all four arguments, and the notes
        return type(self), (self.field, self.value, self.problem, self.hint), self.__dict__


class ServiceUnavailable(RecipeError):
    """A server named in the recipe does not respond. The recipe may be correct: a later attempt can succeed."""


def shorten(text: str, longest: int = 300) -> str:
    """Shorten a text to at most `longest` characters by cutting out its middle."""
    if len(text) <= longest:
        return text
    half = (longest - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


def _format_value(value: object) -> str:
    """Format a value as ` = value`, shortened if long; empty if there is no value."""
    if value is None:
        return ""
    if isinstance(value, str):
        return f" = {shorten(value)!r}"
    text = repr(value)
    return f" = {text[:77]}..." if len(text) > 80 else f" = {text}"


def error_text(error: RecipeError) -> str:
    """Return an error and its notes, one per line."""
    return "\n".join((str(error), *getattr(error, "__notes__", ())))


def raise_first(failed: Sequence[BaseException]) -> None:
    """Raise the first error, if there is one, with the other ones as notes."""
    if not failed:
        return
    first, *others = failed
    for other in others[:NOTES]:
        first.add_note("\n".join((str(other), *getattr(other, "__notes__", ()))))
    if len(others) > NOTES:
        first.add_note(f"and {len(others) - NOTES} more errors")
    raise first
