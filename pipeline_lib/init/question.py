"""Questions that `init` asks the user, with their possible answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True)
class Request:
    """What the user has said: on the command line, and by answering questions."""

    data: tuple[Path, ...]
    base: str | None = None
    objective: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    """Role -> column of the data."""

    def with_answer(self, answer: "Answer") -> "Request":
        """The same request, with what an answer adds."""
        columns = {**self.columns, **answer.columns}
        return replace(
            self, data=answer.data or self.data, objective=answer.objective or self.objective, columns=columns
        )


@dataclass(frozen=True)
class Answer:
    """One possible answer, as a change of the request."""

    text: str
    objective: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    data: tuple[Path, ...] = ()

    @property
    def arguments(self) -> str:
        """The answer as arguments of the command line."""
        named = [f"--column {role}={column}" for role, column in self.columns.items()]
        objective = [f"--objective {self.objective}"] if self.objective else []
        return " ".join([*map(str, self.data), *objective, *named])


class Undecided(Exception):
    """The data allow several recipes; the user must choose one."""

    def __init__(self, problem: str, answers: list[Answer]):
        super().__init__(problem)
        self.problem, self.answers = problem, answers
