"""Read YAML that somebody else may have written: whatever is wrong with it is one error, and nothing makes it hang.

A recipe needs strings, numbers, booleans, nulls, lists and mappings with simple keys. Everything else that YAML has
(sets, binary data, dates, lists as keys) is refused or read as a string. Sizes are limited while a document is read,
before its aliases are expanded: ten lines of aliases can stand for billions of values.
"""

import re
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 1_000_000
"""Size of a recipe file. The recipes that come with the project have about 1,000 bytes."""
MAX_VALUES = 50_000
"""Keys, values, lists and mappings of one document, with each alias counted as all that it stands for."""
MAX_DEPTH = 30
"""Lists and mappings inside one another; a recipe needs 6."""
MAX_NUMBER = 100
"""Characters of a number. Longer ones cost more than their length: Python refuses to print a number of 5,000 digits."""
MAX_INTEGER = 2**63 - 1
"""Larger ones do not fit into the counters of the libraries that a recipe's numbers are handed to."""
TAGS = ("null", "bool", "int", "float", "str", "seq", "map", "merge")
UNPRINTABLE = re.compile("[\0\ud800-\udfff]")
"""A NUL ends a path for the operating system, and half of a surrogate pair cannot be written anywhere."""


class InvalidYaml(ValueError):
    """A text that is not YAML, or more than a recipe needs; says where and why."""


def read_limited(path: Path) -> str:
    """The text of a file, at most MAX_BYTES of it; raises InvalidYaml for a larger file, also for an endless one."""
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InvalidYaml(f"it has more than {MAX_BYTES:,} bytes")
    return content.decode("utf-8")


def parse_yaml(text: str) -> Any:
    """The plain data of a YAML document.

    Raises:
        InvalidYaml: The text is not YAML, is too long, too deep or too large, or has what recipes do not need.
    """
    if len(text) > MAX_BYTES:
        raise InvalidYaml(f"it has more than {MAX_BYTES:,} characters")
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise InvalidYaml(_reason(error)) from None


def to_yaml_line(value: Any) -> str:
    """Write a plain value as one line of YAML, as an override takes it; raises ValueError for any other object."""
    try:
        text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf"), sort_keys=False)
    except yaml.representer.RepresenterError as error:
        raise ValueError(str(error)) from None
    return text.removesuffix("...\n").strip()


def _reason(error: yaml.YAMLError) -> str:
    """What is wrong in a document, and in which line."""
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}: {getattr(error, 'problem', '')}" if mark else str(error).splitlines()[0]


class _Loader(yaml.SafeLoader):
    """Reads what a recipe needs, and counts while it reads."""

    yaml_constructors = {  # noqa: RUF012 - the library's own name and kind
        tag: construct
        for tag, construct in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in TAGS
    }
    yaml_implicit_resolvers = {  # noqa: RUF012 - without dates: 2024-01-31 is a string
        first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] in TAGS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str):
        super().__init__(text)
        self.depth = 0
        self.values = 0
        self.sizes: dict[int, int] = {}  # id of an anchored node -> the values in it

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose one node, and refuse it where the document becomes too deep or too large."""
        event: Any = self.peek_event()
        before = self.values
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _refusal(f"more than {MAX_DEPTH} lists and mappings inside one another", event)
        node = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self.sizes:  # it has not ended yet
                raise _refusal(f"the alias *{event.anchor} refers to the section that it is in", event)
            self.values += self.sizes[id(node)]
        else:
            self.values += 1
            if event.anchor is not None:
                self.sizes[id(node)] = self.values - before
        if self.values > MAX_VALUES:
            raise _refusal(f"more than {MAX_VALUES:,} values, aliases expanded", event)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping; raises ConstructorError for a key that stands twice and for a list as a key."""
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode):
                raise _refusal("a key must be a string", key)
            if key.value in seen:
                raise _refusal(f"{key.value!r} stands twice", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Construct a value; raises ConstructorError for one that does not fit its tag."""
        tag = node.tag.rpartition(":")[2]
        if tag in ("int", "float") and len(node.value) > MAX_NUMBER:
            raise _refusal(f"a number of more than {MAX_NUMBER} characters", node)
        try:
            value = super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError, OverflowError):
            raise _refusal(f"{node.value!r} is not of the type {tag!r}", node) from None
        if isinstance(value, str) and UNPRINTABLE.search(value):
            raise _refusal("a string with a NUL or half of a surrogate pair", node)
        if isinstance(value, int) and abs(value) > MAX_INTEGER:
            raise _refusal(f"{node.value} does not fit into 64 bits", node)
        return value


def _refusal(problem: str, place: Any) -> yaml.YAMLError:
    """An error at the place of an event or a node."""
    return yaml.constructor.ConstructorError(None, None, problem, place.start_mark)
