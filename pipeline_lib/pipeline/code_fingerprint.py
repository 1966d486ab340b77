"""Fingerprint the code of a step: its modules and everything they import from this package.

Sources are parsed, never imported, so that a plan does not load heavy libraries. Imports are followed both at the top
of a module and inside functions; modules that `importlib` loads by a name computed at run time are not found. The Jinja
template next to a module, such as `page.html.jinja` next to `page.py`, is part of the module's code.
A module is read once per process, as a running process does not notice changed files either.
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
REGISTRIES = ("data.sources", "models.quantization", "objectives", "optimizers", "regularizers", "strategies")
PLUMBING = (
    "__init__",
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
    "training.distributed.shared_checkpoints",
    "training.distributed.watchdog",
    "training.settings",
    "util.cpu",
    "util.progress_bar",
    "util.redaction",
    "util.section",
    "util.signals",
    "util.temporary",
)
"""Modules that validate, display, store or call, without affecting an output. (A recipe's values are hashed anyway.)"""
NEVER = (*PLUMBING, *(f"{registry}.__init__" for registry in REGISTRIES))


PARSING = Lock()
"""Held while parsing: CPython 3.11 fails if two threads parse at once, as they share a counter (its issue 106905)."""


class Scope(NamedTuple):
    """The modules that a step's code starts from, and those left out; names without `pipeline_lib.`."""

    entries: tuple[str, ...]
    parts: tuple[str, ...]
    """Recipe fields; the modules of their values' classes are entries too."""
    without: tuple[str, ...]


# Metrics are left out of the steps before `evaluate`, so that a new metric does not cause a new training. If fixing a
# metric changes which checkpoint is selected, the version of `finetune` must be raised. Later steps use `data.shards`
# only for file names, which are part of the shards' digests.
UNSEEN = ("evaluation", "data.shards")
QUANTIZATION = "model.quantization"
OF_TRAINING = ("strategies", "regularizers")
SCOPES = {
    "shard": Scope(("data.shards", "models.base_model"), ("objective", "data.source"), ("evaluation",)),
    "prepare": Scope(("data.splits",), ("objective",), UNSEEN),
    "initialise": Scope(("models.building",), ("objective", "strategies", QUANTIZATION), UNSEEN),
    "checks": Scope(("checks.checks",), ("objective", "strategies", QUANTIZATION), UNSEEN),
    "features": Scope(
        ("training.frozen_backbone.feature_cache",),
        ("objective", QUANTIZATION),
        (*UNSEEN, *OF_TRAINING),
    ),
    "reference": Scope(
        ("training.reference", "evaluation.predict"),
        ("objective", QUANTIZATION),
        (*UNSEEN, *OF_TRAINING),
    ),
    "finetune": Scope(
        ("training.finetune", "evaluation.predict"),
        ("objective", "training.optimizer", *OF_TRAINING, QUANTIZATION),
        UNSEEN,
    ),
    "columns": Scope(("data.slice_columns",), ("data.source",), UNSEEN),
    "evaluate": Scope(("evaluation.evaluate",), ("objective", "strategies", QUANTIZATION), ("data.shards",)),
    "profile": Scope(("retrain.profile",), ("objective",), ("data.shards",)),
    "sweep": Scope(("sweep.comparison",), ("objective",), ("data.shards",)),
    "rescore": Scope(("retrain.rescore",), ("objective",), ("data.shards",)),
}


def step_code(step: str, recipe: "Recipe", root: Path = PACKAGE) -> str:
    """Return the digest of the code that determines the output of a recipe's step."""
    return code_digest(*step_scope(step, recipe), root)


def step_scope(step: str, recipe: "Recipe") -> tuple[list[str], list[str]]:
    """Return the module names that a recipe's step starts from, and those that are left out."""
    scope = SCOPES[step]
    entries = [f"{PACKAGE.name}.{name}" for name in scope.entries]
    for part in scope.parts:
        value = attrgetter(part)(recipe)
        sections = value if isinstance(value, tuple) else (value,)
        entries += [type(section).__module__ for section in sections if section is not None]
    without = [f"{PACKAGE.name}.{name}" for name in (*NEVER, *scope.without)]
    return entries, without


def code_digest(entries: Iterable[str], without: Iterable[str] = (), root: Path = PACKAGE) -> str:
    """Return the SHA-256 of the code reachable from the entries; comments, docstrings and layout do not count."""
    return hashlib.sha256(json.dumps(module_digests(entries, without, root)).encode()).hexdigest()


def module_digests(entries: Iterable[str], without: Iterable[str] = (), root: Path = PACKAGE) -> dict[str, str]:
    """Return the SHA-256 of the code of each module reachable from the entries, by module name."""
    return dict(_module_digests(tuple(entries), tuple(without), root))


@cache
def _module_digests(entries: tuple[str, ...], without: tuple[str, ...], root: Path) -> dict[str, str]:
    files = _files(root)
    return {name: _read(files[name], name).digest for name in find_modules(entries, without, root)}


def find_modules(entries: Iterable[str], without: Iterable[str] = (), root: Path = PACKAGE) -> list[str]:
    """Return the modules that the entries import, directly or indirectly, and the entries themselves, sorted.

    Args:
        entries: Names of modules to start from; they count even if `without` has them.
        without: Modules, and packages with their contents, that are neither followed nor counted. `PACKAGE.__init__`
            means the package's own file only.
        root: Folder of the package.

    Raises:
        ModuleNotFoundError: A module of the package is imported but does not exist.
    """
    files, entry_names, excluded = _files(root), frozenset(entries), tuple(without)
    modules: set[str] = set()
    # module -> its importer, which the error names
    waiting = dict.fromkeys((name for entry in sorted(entry_names) for name in _parent_packages(entry)), "an entry")
    while waiting:
        name, importer = waiting.popitem()
        is_excluded = name not in entry_names and any(_is_in(name, package) for package in excluded)
        if name in modules or is_excluded:
            continue
        if name not in files:
            raise ModuleNotFoundError(f"{importer} imports {name}, and there is no such module", name=name)
        modules.add(name)
        waiting |= dict.fromkeys(_imports(name, files, root.name), name)
    return sorted(modules)


def _is_in(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.") or f"{name}.__init__" == package


def _parent_packages(name: str) -> Iterator[str]:
    """Yield `a`, `a.b` and `a.b.c` for `a.b.c`, as importing a module runs its parent packages."""
    return accumulate(name.split("."), "{}.{}".format)


def _imports(name: str, files: Mapping[str, Path], package: str) -> Iterator[str]:
    source = _read(files[name], name)
    members = (member for member in source.members if member in files)  # the others are not modules
    for imported in (*source.modules, *members):
        if _is_in(imported, package):
            yield from _parent_packages(imported)


@cache
def _files(root: Path) -> dict[str, Path]:
    """Map module names to files. Files are listed because a case-insensitive file system would find Dropout.py too."""
    names = {file: (root.name, *file.relative_to(root).with_suffix("").parts) for file in root.rglob("*.py")}
    return {".".join(parts).removesuffix(".__init__"): file for file, parts in names.items()}


class _Source(NamedTuple):
    digest: str
    modules: tuple[str, ...]
    """The modules named in `import a` and `from a import ...`."""
    members: tuple[str, ...]
    """`a.b` for `from a import b`: a module, or a name inside one."""


@cache
def _read(file: Path, name: str) -> _Source:
    with PARSING:
        tree = ast.parse(file.read_bytes(), file)
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    modules, members = [], []
    for node in _strip(tree):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules.append(resolve_name("." * node.level + (node.module or ""), package))
            members += [f"{modules[-1]}.{alias.name}" for alias in node.names]
    # in ASCII: which characters `repr` escapes differs between Python versions
    code = ast.dump(tree).encode("ascii", "backslashreplace")
    for template in sorted(file.parent.glob(f"{file.stem}.*.jinja")):
        code += template.read_bytes()
    return _Source(hashlib.sha256(code).hexdigest(), tuple(modules), tuple(members))


def _strip(node: ast.AST) -> Iterator[ast.AST]:
    """Remove everything without effect at run time: docstrings and `if TYPE_CHECKING` blocks. Yield what stays.

    Only statements are visited, since expressions contain none. That takes a tenth of the time.
    """
    yield node
    if not getattr(node, "type_params", True):
        vars(node).pop("type_params")  # Python 3.12 adds an empty list that 3.11 does not have
    for part in ("body", "orelse", "finalbody"):
        if isinstance(statements := getattr(node, part, None), list):
            setattr(node, part, [remaining for statement in statements for remaining in _keep(statement)])
    for part in ("body", "handlers", "orelse", "finalbody", "cases"):
        if isinstance(children := getattr(node, part, None), list):
            for child in children:
                yield from _strip(child)


def _keep(statement: ast.stmt) -> list[ast.stmt]:
    """Return the statements that take the place of one."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return [] if isinstance(statement.value.value, str) else [statement]
    if isinstance(statement, ast.If) and _is_type_checking(statement.test):
        return [node for other in statement.orelse for node in _keep(other)]
    return [statement]


def _is_type_checking(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))
