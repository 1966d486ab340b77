"""Check a model against the headers of its weights files: how large it may be, and in which formats its tensors are."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline_lib.errors import RecipeError

if TYPE_CHECKING:
    from torch import nn

NUMBERS = ("F", "BF")
"""Prefixes of the formats of floating-point numbers."""
PER_BYTE = 4
"""Maximum parameters of a model per byte of its files: twice as many as in files of 4 bits per parameter."""
PER_TENSOR = 8
"""Maximum parameter tensors of a model per tensor in its files: files may hold several matrices as one."""
FREE_PARAMETERS, FREE_TENSORS = 100_000_000, 1_000
"""Parameters and tensors that a model may have besides: a new head, a pooler, tables that are computed."""


class Stored(NamedTuple):
    """A tensor in a weights file: its format, by safetensors' name, and its number of dimensions."""

    format: str
    dimensions: int


def stored_tensors(base: Path) -> dict[str, Stored]:
    """Return the tensors in a folder's weights, by name; reads only the headers of the files."""
    from safetensors import safe_open

    stored = {}
    for file in sorted(base.glob("*.safetensors")):
        with safe_open(file, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118  # safe_open is not a mapping
                part = weights.get_slice(name)
                stored[name] = Stored(part.get_dtype(), len(part.get_shape()))
    return stored


@contextmanager
def refuse_oversized(base: Path) -> Iterator[None]:
    """Context that refuses to build a model that is far larger than a folder's weights.

    A wrong number in config.json can describe a model that takes hours to build, or more memory than there is, before
    its weights are compared.

    Raises:
        RecipeError: The model has too many parameters.
    """
    from torch.nn.modules.module import register_module_parameter_registration_hook

    size = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    most_parameters = FREE_PARAMETERS + PER_BYTE * size
    most_tensors = FREE_TENSORS + PER_TENSOR * len(stored_tensors(base))
    thread, parameters, tensors = get_ident(), 0, 0

    def count(module: "nn.Module", name: str, parameter: Any) -> None:
        nonlocal parameters, tensors
        if get_ident() != thread or parameter is None:
            return
        tensors += 1
        if parameter.is_meta:  # those that are read from the files take their places later, and are registered again
            parameters += parameter.numel()
        if parameters > most_parameters or tensors > most_tensors:
            problem = f"has a config.json that describes a far larger model than its weights of {size:,} bytes"
            raise RecipeError("model.base", str(base), problem, "Use the config.json saved with the weights")

    handle: Any = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def find_other_formats(base: Path, model: "nn.Module") -> dict[str, str]:
    """Return the names and formats of tensors in a folder that are no floating-point numbers but belong in parameters.

    transformers converts them without a word. Integers in buffers, such as the numbers of positions, are normal.
    """
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    names = {name for name, _ in model.named_parameters()}
    names |= {name.removeprefix(prefix) for name in names} | {f"{prefix}{name}" for name in names}
    stored = stored_tensors(base).items()
    return {name: part.format for name, part in stored if name in names and not part.format.startswith(NUMBERS)}
