"""Turns pydantic's validation errors into errors that name the field, the value and the mend."""

import difflib
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from pipeline_lib.errors import RecipeError

NOUNS = {
    "bool": "true or false",
    "finite": "a finite number",
    "float": "a number",
    "int": "a whole number",
    "model": "a section",
    "string": "a text",
    "tuple": "a list",
}
"""What a field takes, by the first word of pydantic's error type."""

MOST_SHOWN = 20
"""Mistakes that are listed; a file that is not a recipe can have thousands."""
MOST_DETAILS = 1_000
"""Details of pydantic's that are looked at: a mistake has at most one for each type of its field."""
LONGEST_NAME = 100
"""Characters of a name for which similar ones are looked for, which takes the square of its length."""

Path = tuple[int | str, ...]
Mistake = tuple[str, Any, str, str]


def explain(error: ValidationError, model: type[BaseModel], document: Any) -> RecipeError:
    """The first mistake as an error, the others as its notes."""
    found: dict[Path, list[Any]] = {}
    for detail in error.errors(include_url=False)[:MOST_DETAILS]:
        found.setdefault(_path(detail["loc"], model, document), []).append(detail)
    wholes = {path[:length] for path in found for length in range(len(path))}
    parts = [path for path in found if path not in wholes]  # what is wrong with a whole is wrong with its parts
    first, *others = [RecipeError(*_mistake(path, found[path], model, document)) for path in parts[:MOST_SHOWN]]
    for other in others:
        first.add_note(str(other))
    if len(parts) > MOST_SHOWN:
        first.add_note(f"There are more mistakes: only the first {MOST_SHOWN} are shown.")
    return first


def _mistake(path: Path, details: list[Any], model: type[BaseModel], document: Any) -> Mistake:
    """Field, value, problem and mend. A field of several types has a detail for each of them."""
    field, value, kind = ".".join(map(str, path)) or "recipe", _value(document, path), details[0]["type"]
    annotation, whole = _annotation(model, path, document), _annotation(model, path[:-1], document)
    if kind in ("extra_forbidden", "invalid_key"):
        known = _fields(_section(whole, _value(document, path[:-1])))
        return field, value, "there is no such field", _nearest(str(path[-1]), known)
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        return _wrong_kind(f"{field}.kind", _value(value, ("kind",)), _kinds(annotation))
    if path[-1:] == ("kind",):
        return _wrong_kind(field, value, _kinds(whole))
    if kind == "literal_error":
        return field, value, "is not among the choices", f"Choose one of {details[0]['ctx']['expected']}"
    if kind == "value_error":
        return field, value, *_own_words(details[0], annotation, model, path, document)
    problem, hint = ("is required", "Add it") if kind == "missing" else _refused(details, value)
    if kind.startswith("model_"):
        known = _fields(_section(annotation, value)) or [f"kind: {kind}" for kind in _kinds(annotation)]
        example = f", such as {known[0]}" if known else ""
        return field, value, problem, f"Write its fields below it{example}"
    return field, value, problem, _with(_meaning(model, path, document), hint)


def _wrong_kind(field: str, value: Any, kinds: list[str]) -> Mistake:
    problem = "is required" if value is None else "is not a known kind"
    return field, value, problem, f"Choose one of {', '.join(sorted(kinds))}"


def _own_words(detail: Any, annotation: Any, model: type[BaseModel], path: Path, document: Any) -> tuple[str, str]:
    """What a validator of ours says: the problem, and often the mend behind a full stop."""
    problem, _, hint = detail["msg"].removeprefix("Value error, ").partition(". ")
    if not hint and _section(annotation, _value(document, path)):
        hint = "Change one of its fields"
    return problem, hint.rstrip(".") or _with(_meaning(model, path, document), "Give another value")


def _refused(details: list[Any], value: Any) -> tuple[str, str]:
    """What is wrong with a value of its own, and what to give in its place."""
    kind, message = details[0]["type"], details[0]["msg"]
    if kind == "string_pattern_mismatch":
        return "does not have the right form", "Give another"
    if " should have " in message:  # "Tuple should have at least 1 item after validation, not 0"
        size = message.partition(" should have ")[2].partition(" after")[0]
        return f"is too {'long' if 'at most' in size else 'short'}", f"Give {size}"
    if kind.startswith(("greater_", "less_")):
        bound = message.removeprefix("Input should be ")
        return f"is not {bound}", f"Give a number {bound}"
    nouns = " or ".join(NOUNS.get(detail["type"].partition("_")[0], "such a value") for detail in details)
    return "has no value" if value is None else f"is not {nouns}", f"Give {nouns}"


def _with(meaning: str, hint: str) -> str:
    """A mend that tells what the field is for."""
    first = meaning.partition(" ")[0]
    text = meaning[:1].lower() + meaning[1:] if first.istitle() else meaning  # but "MLflow" stays
    return f"{hint}: {text}" if text else f"{hint}, as in deployments/recipes"


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1) if len(name) <= LONGEST_NAME else []
    return f"Did you mean {near[0]!r}?" if near else f"Known here: {', '.join(known)}"


def _meaning(model: type[BaseModel], path: Path, document: Any) -> str:
    """The field's own description, else its section's."""
    whole = _section(_annotation(model, path[:-1], document), _value(document, path[:-1]))
    field = whole.model_fields.get(str(path[-1])) if whole and path else None
    section = _section(field.rebuild_annotation(), None) if field else None
    text = (field.description if field else None) or (section.__doc__ if section else None) or ""
    return " ".join(text.split()).rstrip(".")


def _path(location: Path, model: type[BaseModel], document: Any) -> Path:
    """pydantic's location without the names of the union members that it passed through."""
    path: Path = ()
    at_union = False
    for part in location:
        at_union = not at_union and len(_members(_annotation(model, path, document))) > 1
        if not at_union:
            path = (*path, part)
    return path


def _annotation(model: type[BaseModel], path: Path, document: Any) -> Any:
    """The type that the schema gives to the place at `path`, list items included; None where it knows none."""
    annotation: Any = model
    for depth, part in enumerate(path):
        if isinstance(part, int):
            annotation = _item(annotation)
            continue
        section = _section(annotation, _value(document, path[:depth]))
        known = section is not None and part in section.model_fields
        annotation = section.model_fields[part].rebuild_annotation() if section and known else None
    return annotation


def _item(annotation: Any) -> Any:
    """The type of a list's items; of a union, of the list in it."""
    lists = [member for member in _members(annotation) or [_bare(annotation)] if get_origin(member) is tuple]
    return get_args(lists[0])[0] if lists else None


def _section(annotation: Any, value: Any) -> type[BaseModel] | None:
    """The model behind an annotation; of a union, the member whose kind the value names."""
    annotation = _bare(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    kind = _value(value, ("kind",))
    return next((_section(m, value) for m in _members(annotation) if kind in _kinds(m)), None)


def _fields(section: type[BaseModel] | None) -> list[str]:
    return sorted(section.model_fields) if section else []


def _kinds(annotation: Any) -> list[str]:
    """The kinds that a section, or the members of a union, can have."""
    annotation = _bare(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return list(get_args(annotation.model_fields["kind"].annotation)) if "kind" in annotation.model_fields else []
    return [kind for member in _members(annotation) for kind in _kinds(member)]


def _members(annotation: Any) -> list[Any]:
    """The types of a union but None; empty where it is none."""
    annotation = _bare(annotation)
    union = get_origin(annotation) in (Union, UnionType)
    return [_bare(member) for member in get_args(annotation) if member is not NoneType] if union else []


def _bare(annotation: Any) -> Any:
    """A type without its metadata; of an optional one, the type that it has when it is given."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        given = [member for member in get_args(annotation) if member is not NoneType]
        if len(given) == 1:
            return _bare(given[0])
    return annotation


def _value(document: Any, path: Path) -> Any:
    for part in path:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            return None
    return document
