"""Turns pydantic's validation errors into errors that name the field, the value and the mend."""

import difflib
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from pipeline_lib.schema import RecipeError


def explain(error: ValidationError, model: type[BaseModel], document: Any) -> RecipeError:
    """The first mistake as an error, the others as its notes."""
    first, *others = [_mistake(detail, model, document) for detail in error.errors()]
    explained = RecipeError(*first)
    for other in others:
        explained.add_note(str(RecipeError(*other)))
    return explained


def _mistake(detail: Any, model: type[BaseModel], document: Any) -> tuple[str, Any, str, str]:
    path = _path(detail["loc"], document)
    field, kind, context = ".".join(map(str, path)) or "recipe", detail["type"], detail.get("ctx", {})
    value = _shown(detail["input"])
    if kind == "extra_forbidden":
        return field, value, "there is no such field", _nearest(str(path[-1]), _fields(model, path[:-1], document))
    if kind == "missing":
        return field, None, "is required", f"Add it: {_description(model, path, document)}"
    if kind == "union_tag_not_found":
        return field, value, "has no kind", f"Add kind: one of {', '.join(_kinds(_annotation(model, path, document)))}"
    if kind == "union_tag_invalid":
        return f"{field}.kind", context["tag"], "is no known kind", f"Choose one of {context['expected_tags']}"
    if kind == "literal_error":
        return field, value, "is not among the choices", f"Choose one of {context['expected']}"
    problem = detail["msg"].removeprefix("Value error, ")
    problem, _, mend = problem.partition(". ")
    return field, value, problem, mend.rstrip(".") or f"Expected: {_description(model, path, document)}"


def _path(location: tuple[int | str, ...], document: Any) -> list[int | str]:
    """pydantic's location without the union members that it passed through."""
    path: list[int | str] = []
    for part in location:
        if isinstance(document, dict) and (part in document or part == location[-1]) and _is_field(part):
            path.append(part)
            document = document.get(part)
        elif isinstance(document, (list, tuple)) and isinstance(part, int):
            path.append(part)
            document = document[part] if part < len(document) else None
    return path


def _is_field(part: int | str) -> bool:
    return isinstance(part, str) and "[" not in part


def _shown(value: Any) -> Any:
    """The value as it was written, cut where it is long."""
    return value if len(repr(value)) <= 80 else f"{repr(value)[:77]}..."


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Known here: {', '.join(known)}"


def _fields(model: type[BaseModel], path: list[int | str], document: Any) -> list[str]:
    section = _section(_annotation(model, path, document), _value(document, path))
    return sorted(section.model_fields) if section else []


def _description(model: type[BaseModel], path: list[int | str], document: Any) -> str:
    section = _section(_annotation(model, path[:-1], document), _value(document, path[:-1]))
    field = section.model_fields.get(str(path[-1])) if section and path else None
    text = (field.description if field else None) or "see deployments/recipes for an example"
    return " ".join(text.split()).rstrip(".")


def _annotation(model: type[BaseModel], path: list[int | str], document: Any) -> Any:
    """The type that the schema gives to the place at `path`, list items included."""
    annotation: Any = model
    for depth, part in enumerate(path):
        if isinstance(part, int):
            annotation = next((a for a in get_args(_bare(annotation)) if a is not Ellipsis), None)
            continue
        section = _section(annotation, _value(document, path[:depth]))
        annotation = (
            section.model_fields[part].rebuild_annotation() if section and part in section.model_fields else None
        )
    return annotation


def _section(annotation: Any, value: Any) -> type[BaseModel] | None:
    """The model behind an annotation; of a union, the member whose kind the value names."""
    annotation = _bare(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    kind = value.get("kind") if isinstance(value, dict) else None
    members = [_bare(member) for member in get_args(annotation)]
    return next((m for m in members if isinstance(m, type) and issubclass(m, BaseModel) and kind in _kinds(m)), None)


def _kinds(annotation: Any) -> list[str]:
    annotation = _bare(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return list(get_args(annotation.model_fields["kind"].annotation)) if "kind" in annotation.model_fields else []
    return [kind for member in get_args(annotation) for kind in _kinds(member)]


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _value(document: Any, path: list[int | str]) -> Any:
    for part in path:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            return None
    return document
