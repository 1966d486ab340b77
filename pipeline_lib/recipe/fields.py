"""Every field of a recipe with its documentation, read from the JSON Schema."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe.json_schema import recipe_schema
from pipeline_lib.recipe.yaml_text import to_yaml_line

BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "greater than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "minItems": "at least {} item",
    "maxLength": "at most {} characters",
    "pattern": "matching {}",
}
"""Keyword of JSON Schema -> a description of the constraint."""


CHOICES = {
    "source": False,
    "objective": False,
    "optimizer": False,
    "quantization": False,
    "strategies": True,
    "regularizers": True,
    "slices": True,
}
"""Section that has a `kind` -> whether the recipe takes a list of them."""

VERBALIZER = [{"label": "good", "words": ["great"]}, {"label": "bad", "words": ["terrible"]}]
EXAMPLES: Mapping[str, Any] = {
    "beta": 0.1,
    "gamma": 0.5,
    "desirable_weight": 1.0,
    "undesirable_weight": 1.33,
    "name": "support-topics",
    "train": "data/train",
    "validation": "data/validation",
    "test": "data/test",
    "data.source.huggingface.validation": "validation",
    "data.source.huggingface.test": "test",
    "data.source.huggingface.name": "en",
    "names": ["text", "label"],
    "delimiter": ";",
    "path": "org/data-set",
    "revision": "4f2c1e0",
    "records": "data",
    "source_language": "en",
    "target_language": "de",
    "text_pair": "hypothesis",
    "input": "input",
    "messages": "messages",
    "tools": "tools",
    "system": "system",
    "by": "document",
    "seed": 7,
    "quantization": {"kind": "nf4"},
    "base": "sentence-transformers/all-MiniLM-L6-v2",
    "max_length": 128,
    "max_steps": 10000,
    "multi_hot": True,
    "cloze": {"template": "{text} It was {mask}.", "verbalizer": VERBALIZER},
    "layer_norms": True,
    "decay": 0.9,
    "rates": [{"pattern": "*.bias", "scale": 2.0}],
    "alpha": 16,
    "targets": ["query", "value"],
    "patterns": ["*LayerNorm*"],
    "rate": 2.0,
    "last_layers": 2,
    "chat_template": "template.jinja",
    "init_text": "Which topic?",
    "attention": 0.1,
    "metric": "macro_f1",
    "metrics": ["accuracy", "macro_f1"],
    "baselines": ["majority", "bag_of_words"],
    "column": "source",
    "edges": [10, 50],
    "store": "s3://bucket/store",
    "tracking_uri": "http://mlflow:5000",
    "watts": 350,
    "cost_per_hour": 2.5,
    "cluster": "tcp://scheduler:8786",
    "rendezvous": "10.0.0.1:29400",
    "floors": [{"metric": "accuracy", "bound": 0.7, "column": "language", "value": "de"}],
    "floors.metric": None,  # covered by the example of `floors`, which shows it in a list
    "floors.column": None,
    "margin": 0.01,
}
"""Path, or its last part -> an example value for a field of a recipe or gate that has no default."""


@dataclass(frozen=True)
class RecipeField:
    """Documentation of one field, or of one kind of a section."""

    path: str
    """Dotted path without list indices; a kind is one part of it: strategies.lora.rank."""
    type: str
    meaning: str
    required: bool = False
    default: Any = None
    example: str = ""
    children: tuple[str, ...] = ()
    """Paths of the fields or kinds directly below."""

    @property
    def default_text(self) -> str:
        """The default as YAML, or a note that the field is required."""
        if self.required:
            return "none: the field is required"
        return "empty" if self.default is None else to_yaml_line(self.default)


@cache
def recipe_fields() -> dict[str, RecipeField]:
    """Return all fields and kinds of a recipe by path, in the order of the schema."""
    return schema_fields(recipe_schema())


def schema_fields(schema: Mapping[str, Any]) -> dict[str, RecipeField]:
    """Return all fields and kinds of a JSON Schema by path, in schema order."""
    fields: dict[str, RecipeField] = {}
    for field in _Walk(schema["$defs"]).section("", schema):
        parent = fields.get(field.path.rpartition(".")[0])
        if not field.example and field.type != "kind" and parent:
            field = replace(field, example=parent.example)
        fields[field.path] = field
    return fields


def find_fields(path: str) -> list[list[RecipeField]]:
    """Find the fields that match a path; list indices are ignored and kinds may be omitted.

    Args:
        path: For example training.batch_size, strategies.lora.rank, strategies.rank or data.source.train.

    Returns:
        Groups of fields with the same documentation. Kinds may share a field: all file sources share `train`.

    Raises:
        RecipeError: There is no such field; the hint suggests similar ones.
    """
    known = recipe_fields()
    parts = [part for part in path.split(".") if not part.isdigit()]
    exact = known.get(".".join(parts))
    if exact:
        return [[exact]]
    matches = [field for name, field in known.items() if _drop_kinds(name) == parts]
    if not matches:
        raise RecipeError("FIELD", path, "there is no such field in a recipe", _similar(path, known))
    groups: dict[RecipeField, list[RecipeField]] = {}
    for field in matches:
        # fields are equal apart from path and example: the kinds share their documentation
        groups.setdefault(replace(field, path="", example=""), []).append(field)
    return list(groups.values())


def _drop_kinds(path: str) -> list[str]:
    """Split a path into its parts and drop the names of kinds."""
    known, parts = recipe_fields(), path.split(".")
    names = [".".join(parts[: depth + 1]) for depth in range(len(parts))]
    return [part for part, name in zip(parts, names) if known[name].type != "kind"]


def _similar(path: str, known: Mapping[str, RecipeField]) -> str:
    """Suggest fields: those with the same last part, else a path or a last part with a similar spelling."""
    last = path.rpartition(".")[2]
    near = [name for name in known if name.rpartition(".")[2] == last]
    near = near or difflib.get_close_matches(path, known, n=3, cutoff=0.75)
    if not near:
        alike = difflib.get_close_matches(last, {name.rpartition(".")[2] for name in known}, n=1)
        near = [name for name in known if name.rpartition(".")[2] in alike]
    return f"Did you mean {' or '.join(near[:3])}?" if near else f"The sections are {', '.join(_top(known))}"


def _top(known: Mapping[str, RecipeField]) -> list[str]:
    return [name for name in known if "." not in name]


class _Walk:
    """Visits a JSON Schema whose parts refer to `definitions`."""

    def __init__(self, definitions: Mapping[str, Any]):
        self.definitions = definitions

    def section(self, path: str, schema: Mapping[str, Any]) -> Iterator[RecipeField]:
        """Yield the fields of a section and everything below them."""
        for name, node in schema.get("properties", {}).items():
            if name != "kind":
                required = name in schema.get("required", ())
                yield from self.field(f"{path}.{name}".strip("."), node, required)

    def field(self, path: str, node: Mapping[str, Any], required: bool) -> Iterator[RecipeField]:
        """Yield a field, and everything below it if it is a section or a choice of kinds."""
        below = [field for option in self.options(node) for field in self.below(path, option)]
        depth = path.count(".") + 1
        children = tuple(field.path for field in below if field.path.count(".") == depth)
        meaning = node.get("description") or self.resolve(node).get("description", "")
        example = _example(path, node)
        yield RecipeField(
            path, self.type(node), _line(meaning), required, node.get("default"), example, children=children
        )
        yield from below

    def below(self, path: str, node: Mapping[str, Any]) -> Iterator[RecipeField]:
        """Yield the fields of a section, or the possible kinds of a section with their fields."""
        kinds = node.get("discriminator", {}).get("mapping", {})
        for kind, reference in kinds.items():
            section = self.resolve({"$ref": reference})
            fields = list(self.section(f"{path}.{kind}", section))
            children = tuple(field.path for field in fields if field.path.count(".") == path.count(".") + 2)
            yield RecipeField(f"{path}.{kind}", "kind", _line(section.get("description", "")), children=children)
            yield from fields
        if not kinds:
            yield from self.section(path, self.resolve(node))

    def options(self, node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Return the alternatives for a value: the members of a union, with lists replaced by their items."""
        members = node.get("anyOf", [node])
        return [member.get("items", member) for member in members]

    def resolve(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the definition that a node refers to, or the node itself."""
        reference = node.get("$ref")
        return self.definitions[reference.rpartition("/")[2]] if reference else node

    def type(self, node: Mapping[str, Any]) -> str:
        """Describe the type of a value and its constraints."""
        if "anyOf" in node:
            return " or ".join(self.type(member) for member in node["anyOf"] if member.get("type") != "null")
        if "enum" in node:
            return f"one of {', '.join(map(str, node['enum']))}"
        if "const" in node:
            return to_yaml_line(node["const"])
        if node.get("discriminator"):
            return f"a section of one kind: {', '.join(sorted(node['discriminator']['mapping']))}"
        if node.get("type") == "array":
            limits = _limits(node)
            return f"list of {self.type(node['items'])}" + (f" ({limits})" if limits else "")
        if "$ref" in node or node.get("type") == "object":
            return "section"
        limits = _limits(node)
        return str(node.get("type", "any value")) + (f", {limits}" if limits else "")


def _limits(node: Mapping[str, Any]) -> str:
    limits = [words.format(node[keyword]) for keyword, words in BOUNDS.items() if keyword in node]
    return ", ".join(limits)


def _line(text: str) -> str:
    return " ".join(text.split())


def _example(path: str, node: Mapping[str, Any]) -> str:
    """Show a value in its place in a recipe, as one line of YAML; empty for sections and without an example."""
    value = EXAMPLES.get(path, EXAMPLES.get(path.rpartition(".")[2]))
    if node.get("default") or value is None:
        value = node.get("default", next(iter(node.get("enum", [None]))))
    return "" if value is None else to_yaml_line(_nest_value(path.split("."), value))[1:-1]


def _nest_value(parts: list[str], value: Any) -> Any:
    """Wrap a value in the sections, lists and kinds of its path."""
    if not parts:
        return value
    name, *rest = parts
    if name not in CHOICES or not rest:
        return {name: _nest_value(rest, value)}
    kind, *fields = rest
    section = {"kind": kind} | _nest_value(fields, value)
    return {name: [section] if CHOICES[name] else section}
