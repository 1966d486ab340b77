"""Turn pydantic's validation errors into errors that name the field, its value and how to fix it."""

import difflib
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from pipeline_lib.errors import RecipeError

NOUNS = {
    "bool": "true or false",
    "finite": "a finite number",
    "float": "a number",
    "int": "an integer",
    "model": "a section",
    "string": "a string",
    "tuple": "a list",
}
"""First word of pydantic's error type -> what the field accepts."""

MOST_SHOWN = 20
"""Maximum number of mistakes to list; a file that is not a recipe can have thousands."""
MOST_DETAILS = 1_000
"""Maximum number of pydantic's error details to process; one mistake has up to one per type of its field."""
LONGEST_NAME = 100
"""Maximum length of a name to search similar ones for; the search takes quadratic time."""

Path = tuple[int | str, ...]
Mistake = tuple[str, Any, str, str]


def first_mistake(error: ValidationError, model: type[BaseModel], document: Any) -> RecipeError:
    """Return the first mistake as an error, with the others as its notes."""
    details: dict[Path, list[Any]] = {}
    for detail in error.errors(include_url=False)[:MOST_DETAILS]:
        details.setdefault(_path(detail["loc"], model, document), []).append(detail)
    # an error of a section only repeats the errors of its fields
    parents = {path[:length] for path in details for length in range(len(path))}
    parts = [path for path in details if path not in parents]
    first, *others = [RecipeError(*_mistake(path, details[path], model, document)) for path in parts[:MOST_SHOWN]]
    for other in others:
        first.add_note(str(other))
    if len(parts) > MOST_SHOWN:
        first.add_note(f"There are more mistakes: only the first {MOST_SHOWN} are shown.")
    return first


def _mistake(path: Path, details: list[Any], model: type[BaseModel], document: Any) -> Mistake:
    """Return field, value, problem and hint. A field that accepts several types has one detail for each."""
    field, value, kind = ".".join(map(str, path)) or "recipe", _value(document, path), details[0]["type"]
    annotation, parent = _annotation(model, path, document), _annotation(model, path[:-1], document)
    if kind in ("extra_forbidden", "invalid_key"):
        known = _fields(_section(parent, _value(document, path[:-1])))
        return field, value, "there is no such field", _nearest(str(path[-1]), known)
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        return _wrong_kind(f"{field}.kind", _value(value, ("kind",)), _kinds(annotation))
    if path[-1:] == ("kind",):
        return _wrong_kind(field, value, _kinds(parent))
    if kind == "literal_error":
        return field, value, "is not an allowed value", f"Choose one of {details[0]['ctx']['expected']}"
    if kind == "value_error":
        return field, value, *_validator_message(details[0], annotation, model, path, document)
    problem, hint = ("is required", "Add it") if kind == "missing" else _explain_value_error(details, value)
    if kind.startswith("model_"):
        known = _fields(_section(annotation, value)) or [f"kind: {kind}" for kind in _kinds(annotation)]
        example = f", such as {known[0]}" if known else ""
        return field, value, problem, f"Write its fields below it{example}"
    return field, value, problem, _extend_hint(_describe_field(model, path, document), hint)


def _wrong_kind(field: str, value: Any, kinds: list[str]) -> Mistake:
    problem = "is required" if value is None else "unknown kind"
    return field, value, problem, f"Choose one of {', '.join(sorted(kinds))}"


def _validator_message(
    detail: Any, annotation: Any, model: type[BaseModel], path: Path, document: Any
) -> tuple[str, str]:
    """Split the message of one of our validators: the problem and, after a full stop, often a hint."""
    problem, _, hint = detail["msg"].removeprefix("Value error, ").partition(". ")
    if not hint and _section(annotation, _value(document, path)):
        hint = "Change one of its fields"
    return problem, hint.rstrip(".") or _extend_hint(_describe_field(model, path, document), "Give another value")


def _explain_value_error(details: list[Any], value: Any) -> tuple[str, str]:
    """Return the problem and the hint for a value that has the wrong type, size or form."""
    kind, message = details[0]["type"], details[0]["msg"]
    if kind == "string_pattern_mismatch":
        return "has an invalid format", "Give another"
    if " should have " in message:  # "Tuple should have at least 1 item after validation, not 0"
        size = message.partition(" should have ")[2].partition(" after")[0]
        return f"is too {'long' if 'at most' in size else 'short'}", f"Give {size}"
    if kind.startswith(("greater_", "less_")):
        bound = message.removeprefix("Input should be ")
        return f"must be {bound}", f"Give a number {bound}"
    nouns = " or ".join(NOUNS.get(detail["type"].partition("_")[0], "such a value") for detail in details)
    return "has no value" if value is None else f"must be {nouns}", f"Give {nouns}"


def _extend_hint(meaning: str, hint: str) -> str:
    """Extend a hint with the meaning of the field."""
    first = meaning.partition(" ")[0]
    # lower-case the first letter, except in names such as MLflow
    text = meaning[:1].lower() + meaning[1:] if first.istitle() else meaning
    return f"{hint}: {text}" if text else f"{hint}, as in deployments/recipes"


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1) if len(name) <= LONGEST_NAME else []
    return f"Did you mean {near[0]!r}?" if near else f"Known fields: {', '.join(known)}"


def _describe_field(model: type[BaseModel], path: Path, document: Any) -> str:
    """Return the description of a field, or of its section if the field has none."""
    parent = _section(_annotation(model, path[:-1], document), _value(document, path[:-1]))
    field = parent.model_fields.get(str(path[-1])) if parent and path else None
    if field is None:
        return ""
    text = field.description
    if not text:  # a section is described by its docstring
        section = _section(field.rebuild_annotation(), None)
        text = section.__doc__ if section else None
    return " ".join((text or "").split()).rstrip(".")


def _path(location: Path, model: type[BaseModel], document: Any) -> Path:
    """Return pydantic's location without the names of union members, which are not part of the document."""
    path: Path = ()
    at_union = False
    for part in location:
        at_union = not at_union and len(_members(_annotation(model, path, document))) > 1
        if not at_union:
            path = (*path, part)
    return path


def _annotation(model: type[BaseModel], path: Path, document: Any) -> Any:
    """Return the type of the value at `path` in the schema, also for list items; None if unknown."""
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
    """Return the item type of a list, or of the list in a union."""
    lists = [member for member in _members(annotation) or [_unwrap_type(annotation)] if get_origin(member) is tuple]
    return get_args(lists[0])[0] if lists else None


def _section(annotation: Any, value: Any) -> type[BaseModel] | None:
    """Return the model of an annotation; for a union, the member whose kind the value has."""
    annotation = _unwrap_type(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    kind = _value(value, ("kind",))
    return next((_section(m, value) for m in _members(annotation) if kind in _kinds(m)), None)


def _fields(section: type[BaseModel] | None) -> list[str]:
    return sorted(section.model_fields) if section else []


def _kinds(annotation: Any) -> list[str]:
    """Return the possible kinds of a section or of the members of a union."""
    annotation = _unwrap_type(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return list(get_args(annotation.model_fields["kind"].annotation)) if "kind" in annotation.model_fields else []
    return [kind for member in _members(annotation) for kind in _kinds(member)]


def _members(annotation: Any) -> list[Any]:
    """Return the types of a union except None; empty if it is not a union."""
    annotation = _unwrap_type(annotation)
    union = get_origin(annotation) in (Union, UnionType)
    return [_unwrap_type(member) for member in get_args(annotation) if member is not NoneType] if union else []


def _unwrap_type(annotation: Any) -> Any:
    """Strip metadata and `None` from a type: `Annotated[X, ...]` and `X | None` become X."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        members = [member for member in get_args(annotation) if member is not NoneType]
        if len(members) == 1:
            return _unwrap_type(members[0])
    return annotation


def _value(document: Any, path: Path) -> Any:
    for part in path:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            return None
    return document
