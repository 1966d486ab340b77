"""Parse untrusted YAML safely: any problem raises one kind of error, and no document can exhaust time or memory.

A recipe needs strings, numbers, booleans, nulls, lists and mappings with simple keys. Other YAML features (sets, binary
data, dates, lists as keys) are rejected or read as strings. Size limits apply while a document is read, before aliases
are expanded: ten lines of aliases can expand to billions of values.
"""

import re
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 1_000_000
"""Maximum size of a recipe file. The bundled recipes have about 1,000 bytes."""
MAX_VALUES = 50_000
"""Maximum number of keys, values, lists and mappings in a document, counting the expansion of each alias."""
MAX_DEPTH = 30
"""Maximum nesting of lists and mappings; a recipe needs 6."""
MAX_NUMBER = 100
"""Maximum characters of a number. Parsing takes quadratic time, and Python refuses to print 5,000 digits."""
MAX_INTEGER = 2**63 - 1
"""Maximum integer: larger ones overflow in the libraries that receive a recipe's numbers."""
TAGS = ("null", "bool", "int", "float", "str", "seq", "map", "merge")
UNPRINTABLE = re.compile("[\0\ud800-\udfff]")
"""A NUL ends a path for the operating system, and half of a surrogate pair cannot be encoded."""


class InvalidYaml(ValueError):
    """Invalid YAML, or YAML beyond what a recipe needs; the message has the line and the reason."""


def read_limited(path: Path) -> str:
    """Read the text of a file of at most MAX_BYTES; raises InvalidYaml for a larger one, even a device file."""
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InvalidYaml(f"it has more than {MAX_BYTES:,} bytes")
    return content.decode("utf-8")


def parse_yaml(text: str) -> Any:
    """Parse a YAML document into plain data.

    Raises:
        InvalidYaml: The text is not YAML, exceeds a limit, or uses a feature that recipes do not need.
    """
    if len(text) > MAX_BYTES:
        raise InvalidYaml(f"it has more than {MAX_BYTES:,} characters")
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise InvalidYaml(_reason(error)) from None


def to_yaml_line(value: Any) -> str:
    """Write a plain value as one line of YAML, as overrides expect it; raises ValueError for any other object."""
    try:
        text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf"), sort_keys=False)
    except yaml.representer.RepresenterError as error:
        raise ValueError(str(error)) from None
    return text.removesuffix("...\n").strip()


def _reason(error: yaml.YAMLError) -> str:
    """Describe a YAML error with its line."""
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}: {getattr(error, 'problem', '')}" if mark else str(error).splitlines()[0]


def _is_implicit(tag: str, first: str) -> bool:
    """Return whether a plain value with this first character may get a tag.

    2024-01-31 is a string. So are yes, no, on and off, as in YAML 1.2: labels and words of a prompt are often yes and
    no. Fields that are true or false accept them all the same.
    """
    return tag in TAGS and (tag != "bool" or first in "tTfF")


class _Loader(yaml.SafeLoader):
    """Constructs only the types that recipes need, and enforces the limits while it reads."""

    yaml_constructors = {  # noqa: RUF012 - the library's own name and kind
        tag: construct
        for tag, construct in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in TAGS
    }
    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if _is_implicit(tag.rpartition(":")[2], first)]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str):
        super().__init__(text)
        self.depth = 0
        self.values = 0
        self.sizes: dict[int, int] = {}  # id of an anchored node -> the values in it

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose one node; raises ConstructorError if the document becomes too deep or too large."""
        event: Any = self.peek_event()
        before = self.values
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _refusal(f"lists and mappings are nested more than {MAX_DEPTH} deep", event)
        node = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self.sizes:  # the anchored node is still being composed
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
        """Construct a mapping; raises ConstructorError for a duplicate key and for a list as a key."""
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode):
                raise _refusal("a key must be a string", key)
            if key.value in seen:
                raise _refusal(f"{key.value!r} appears twice", key)
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
            raise _refusal(f"{node.value!r} is not of type {tag!r}", node) from None
        if isinstance(value, str) and UNPRINTABLE.search(value):
            raise _refusal("a string with a NUL or half of a surrogate pair", node)
        if isinstance(value, int) and abs(value) > MAX_INTEGER:
            raise _refusal(f"{node.value} does not fit into 64 bits", node)
        return value


def _refusal(problem: str, place: Any) -> yaml.YAMLError:
    """Return an error at the position of an event or a node."""
    return yaml.constructor.ConstructorError(None, None, problem, place.start_mark)
