"""`tunesmith init`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline_lib.cli.console import fail
from pipeline_lib.errors import RecipeError

if TYPE_CHECKING:
    from pipeline_lib.init.draft import Draft
    from pipeline_lib.init.question import Request, Undecided


def init(
    data: Annotated[list[Path], typer.Argument(help="Data files, globs or folders.")],
    base: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A hub id, a folder, or package:NAME/folder.")
    ] = None,
    objective: Annotated[
        str | None, typer.Option(metavar="KIND", help="The objective, such as text_classification.")
    ] = None,
    columns: Annotated[list[str] | None, typer.Option("--column", help="role=column, such as label=category")] = None,
    out: Annotated[Path | None, typer.Option(help="The recipe to write; default: NAME.yaml in this folder.")] = None,
) -> None:
    """Inspect data files and write a commented recipe for them; asks if something cannot be decided."""
    from pipeline_lib.init.files import data_name
    from pipeline_lib.init.question import Request
    from pipeline_lib.init.text import recipe_text

    try:
        request = Request(tuple(data), base, _check_objective(objective), _roles(columns or []))
        file = out or Path(f"{data_name(data)}.yaml")
        if file.exists():
            raise RecipeError("--out", str(file), "already exists", "Name another file, or remove this one")
        draft = _complete_draft(request, file)
        text = recipe_text(draft)
        _write(file, text)
    except RecipeError as error:
        fail(error)
    _show(draft, file)


def _check_objective(objective: str | None) -> str | None:
    from pipeline_lib.recipe.schema import Recipe

    if objective is None:
        return None
    kinds = Recipe.model_json_schema()["properties"]["objective"]["discriminator"]["mapping"]
    if objective not in kinds:
        raise RecipeError("--objective", objective, "unknown kind", f"Choose one of {', '.join(kinds)}")
    return objective


def _roles(columns: list[str]) -> dict[str, str]:
    from pipeline_lib.data.settings import Columns

    roles = {}
    for column in columns:
        role, separator, name = column.partition("=")
        if not separator or role not in Columns.model_fields:
            known = ", ".join(Columns.model_fields)
            raise RecipeError("--column", column, "must be role=column", f"The roles are {known}")
        roles[role] = name
    return roles


def _complete_draft(request: "Request", out: Path) -> "Draft":
    """Return a draft, asking what cannot be decided; if nobody can be asked, raise an error with the answers."""
    from pipeline_lib.init.draft import make_draft
    from pipeline_lib.init.question import Undecided

    while True:
        try:
            return make_draft(request, out)
        except Undecided as question:
            if not is_interactive():
                raise _question_error(question, request) from None
            request = request.with_answer(question.answers[_ask(question)])


def is_interactive() -> bool:
    """Return whether a user can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def _ask(question: "Undecided") -> int:
    typer.echo(f"{question.problem}:")
    for number, answer in enumerate(question.answers, 1):
        typer.echo(f"  {number}  {answer.text}")
    chosen = 0
    while not 1 <= chosen <= len(question.answers):
        chosen = typer.prompt(f"Which one (1 to {len(question.answers)})", type=int)
    return chosen - 1


def _question_error(question: "Undecided", request: "Request") -> RecipeError:
    """Return the question as an error, with a command for each answer."""
    error = RecipeError("DATA", None, question.problem, "Choose one of these")
    data = " ".join(map(str, request.data))
    base = f" --base {request.base}" if request.base else ""
    for answer in question.answers:
        arguments = answer.arguments if answer.data else f"{data} {answer.arguments}"
        error.add_note(f"  {answer.text}: tunesmith init {arguments}{base}")
    return error


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RecipeError("--out", str(file), f"cannot be written ({error.strerror})", "Name another file") from error


def _show(draft: "Draft", file: Path) -> None:
    """Print the data that was found, the proposed objective, and what is unsure."""
    dataset = draft.dataset
    for split, tables in dataset.splits.items():
        for table in tables:
            typer.echo(f"{split:<11} {table.file.name}: {table.rows:,} rows ({table.fields['kind']})")
    for sentence in dataset.left_out:
        typer.echo(f"{'left out':<11} {sentence}")
    for name, column in dataset.train.columns.items():
        typer.echo(f"{'column':<11} {name}: {column.describe()}")
    columns = ", ".join(f"{role} = {column}" for role, column in draft.proposal.columns.items())
    typer.echo(f"{'objective':<11} {draft.proposal.objective}: {columns}")
    for sentence in draft.unsure:
        typer.echo(f"{'unsure':<11} {sentence}")
    typer.echo(f"\nwritten to {file}\nnext: tunesmith run {file}")
