"""The identity of a step's code: what its modules, and all that they import of this package, would run.

Sources are read, never imported, so that a plan waits for no heavy library. Imports are followed where they stand:
on top of a module or inside a function. What `importlib` loads by a name made at run time is not seen.
A module is read once in a process: what was imported does not change with its file either.
"""

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.util import resolve_name
from itertools import accumulate
from operator import attrgetter
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pipeline_lib.recipe.schema import Recipe

PACKAGE = Path(__file__).parents[1]
REGISTRIES = ("data.sources", "objectives", "regularizers", "strategies")
PLUMBING = (
    "data.encoding",
    "data.settings",
    "errors",
    "evaluation.settings",
    "models.settings",
    "pipeline.steps",
    "preflight",
    "recipe",
    "store",
    "tracking",
    "training.settings",
    "util.cpu",
    "util.progress_bar",
    "util.redaction",
    "util.section",
    "util.signals",
)
"""What checks, shows, keeps and calls, and decides no byte: the values of a recipe are in the fingerprint already."""
NEVER = (*PLUMBING, *(f"{registry}.__init__" for registry in REGISTRIES))


PARSING = Lock()
"""CPython 3.11 counts the depth of a syntax tree once for all threads (its issue 106905), and fails where two parse."""


class Scope(NamedTuple):
    """Where a step's code begins and ends, without `pipeline_lib.` before each name."""

    entries: tuple[str, ...]
    parts: tuple[str, ...]
    """Fields of the recipe whose classes are entries too."""
    without: tuple[str, ...]


# Metrics are left out before `evaluate`: a new one must not train again. One that is mended, and now picks another
# checkpoint, needs a higher version of `finetune`. Of `data.shards` later steps take names of files alone, and those
# are in the digests of the shards.
UNSEEN = ("evaluation", "data.shards")
SCOPES = {
    "shard": Scope(("data.shards", "models.base_model"), ("objective", "data.source"), ("evaluation",)),
    "prepare": Scope(("data.splits",), ("objective",), UNSEEN),
    "initialise": Scope(("models.building",), ("objective", "strategies"), UNSEEN),
    "checks": Scope(("checks.checks",), ("objective", "strategies"), UNSEEN),
    "features": Scope(
        ("training.frozen_backbone.feature_cache",), ("objective",), (*UNSEEN, "strategies", "regularizers")
    ),
    "reference": Scope(
        ("training.reference", "evaluation.predict"), ("objective",), (*UNSEEN, "strategies", "regularizers")
    ),
    "finetune": Scope(("training.finetune", "evaluation.predict"), ("objective", "strategies", "regularizers"), UNSEEN),
    "columns": Scope(("data.slice_columns",), ("data.source",), UNSEEN),
    "evaluate": Scope(("evaluation.evaluate",), ("objective", "strategies"), ("data.shards",)),
    "profile": Scope(("retrain.profile",), ("objective",), ("data.shards",)),
    "sweep": Scope(("sweep.comparison",), ("objective",), ("data.shards",)),
    "rescore": Scope(("retrain.rescore",), ("objective",), ("data.shards",)),
}


def step_code(step: str, recipe: "Recipe", root: Path = PACKAGE) -> str:
    """The digest of the code that decides the bytes of a recipe's step."""
    return code_digest(*step_scope(step, recipe), root)


def step_scope(step: str, recipe: "Recipe") -> tuple[list[str], list[str]]:
    """The `entries` of a recipe's step, and what it is taken `without`."""
    scope, chosen = SCOPES[step], []
    for part in scope.parts:
        value = attrgetter(part)(recipe)
        chosen += [type(each).__module__ for each in (value if isinstance(value, tuple) else (value,))]
    names = (f"{PACKAGE.name}.{name}" for name in (*NEVER, *scope.without))
    return [*(f"{PACKAGE.name}.{name}" for name in scope.entries), *chosen], [*names]


def code_digest(entries: Iterable[str], without: Iterable[str] = (), root: Path = PACKAGE) -> str:
    """SHA-256 over the code that the entries reach; comments, docstrings and layout do not count."""
    return hashlib.sha256(json.dumps(module_digests(entries, without, root)).encode()).hexdigest()


def module_digests(entries: Iterable[str], without: Iterable[str] = (), root: Path = PACKAGE) -> dict[str, str]:
    """The SHA-256 of the code of each module that the entries reach, by name."""
    return dict(_module_digests(tuple(entries), tuple(without), root))


@cache
def _module_digests(entries: tuple[str, ...], without: tuple[str, ...], root: Path) -> dict[str, str]:
    files = _files(root)
    return {name: _read(files[name], name).digest for name in reached(entries, without, root)}


def reached(entries: Iterable[str], without: Iterable[str] = (), root: Path = PACKAGE) -> list[str]:
    """The modules of the package in the folder `root` that the entries are or import, directly or not, sorted.

    `without` names modules, and packages with all that is in them, that are neither followed nor counted;
    `PACKAGE.__init__` is a package's own file alone. An entry counts all the same. Raises ModuleNotFoundError
    where a module of the package is imported and is not there.
    """
    files, given, left_out = _files(root), frozenset(entries), tuple(without)
    found: set[str] = set()
    waiting = dict.fromkeys((name for entry in sorted(given) for name in _with_packages(entry)), "an entry")
    while waiting:
        name, importer = waiting.popitem()
        if name in found or (name not in given and any(_is_in(name, place) for place in left_out)):
            continue
        if name not in files:
            raise ModuleNotFoundError(f"{importer} imports {name}, and there is no such module", name=name)
        found.add(name)
        waiting |= dict.fromkeys(_imports(name, files, root.name), name)
    return sorted(found)


def _is_in(name: str, place: str) -> bool:
    return f"{name}.".startswith(f"{place}.") or f"{name}.__init__" == place


def _with_packages(name: str) -> Iterator[str]:
    """`a`, `a.b` and `a.b.c` for `a.b.c`: to import it is to run them all."""
    return accumulate(name.split("."), "{}.{}".format)


def _imports(name: str, files: Mapping[str, Path], package: str) -> Iterator[str]:
    source = _read(files[name], name)
    members = (member for member in source.members if member in files)  # others are names inside a module
    for imported in (*source.modules, *members):
        if _is_in(imported, package):
            yield from _with_packages(imported)


@cache
def _files(root: Path) -> dict[str, Path]:
    """The file of every module, by name. Listed, as some file systems take Dropout.py for dropout.py."""
    names = {file: (root.name, *file.relative_to(root).with_suffix("").parts) for file in root.rglob("*.py")}
    return {".".join(parts).removesuffix(".__init__"): file for file, parts in names.items()}


class _Source(NamedTuple):
    digest: str
    modules: tuple[str, ...]
    """What stands behind `import`, and between `from` and `import`."""
    members: tuple[str, ...]
    """`a.b` for `from a import b`: a module, or a name inside one."""


@cache
def _read(file: Path, name: str) -> _Source:
    with PARSING:
        tree = _Running().visit(ast.parse(file.read_bytes(), file))
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    modules, members = [], []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules.append(resolve_name("." * node.level + (node.module or ""), package))
            members += [f"{modules[-1]}.{alias.name}" for alias in node.names]
    # in ASCII: which letters `repr` escapes differs between versions of Python
    code = ast.dump(tree).encode("ascii", "backslashreplace")
    return _Source(hashlib.sha256(code).hexdigest(), tuple(modules), tuple(members))


class _Running(ast.NodeTransformer):
    """What runs of a module: without strings that stand alone, and without what type checkers alone read."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if not getattr(node, "type_params", True):
            vars(node).pop("type_params")  # Python 3.12 gives an empty list to what 3.11 does not know
        return super().generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        alone = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if alone else node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        checking = "TYPE_CHECKING" in (getattr(node.test, "id", ""), getattr(node.test, "attr", ""))
        return node.orelse if checking else node
