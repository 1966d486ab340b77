"""The formats of an export."""

from importlib.util import find_spec
from typing import Literal

from pipeline_lib.errors import RecipeError

Format = Literal["huggingface", "peft", "onnx", "gguf"]
"""Merged weights for transformers, an adapter for PEFT, a graph for ONNX Runtime, or one file for llama.cpp."""
LIBRARIES: dict[Format, str] = {"huggingface": "transformers", "peft": "peft", "onnx": "onnx", "gguf": "gguf"}
"""The hub's name of the library that loads a format."""
PACKAGES: dict[Format, tuple[str, ...]] = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "gguf": ("gguf",)}
"""Modules that a format needs; an extra of the same name installs them."""


def require_packages(format: Format) -> None:
    """Raise RecipeError if packages of a format are not installed."""
    missing = [name for name in PACKAGES.get(format, ()) if find_spec(name) is None]
    if missing:
        problem = f"needs packages that are not installed ({', '.join(missing)})"
        raise RecipeError("--format", format, problem, f"Install them: pip install -c constraints.txt -e '.[{format}]'")
