"""The kinds of a part, as the unions of the recipe list them: a new one belongs to these tests by itself."""

from typing import Any, get_args

from pydantic import BaseModel


def kinds(union: Any) -> list[str]:
    """The kinds of a union such as `Strategy`, sorted."""
    members: tuple[type[BaseModel], ...] = get_args(get_args(union)[0])
    return sorted(kind for member in members for kind in get_args(member.model_fields["kind"].annotation))
