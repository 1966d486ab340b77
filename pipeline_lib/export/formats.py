"""The formats of an export."""

from typing import Literal

Format = Literal["huggingface", "peft", "onnx", "gguf"]
"""Merged weights for transformers, an adapter for PEFT, a graph for ONNX Runtime, or one file for llama.cpp."""
LIBRARIES: dict[Format, str] = {"huggingface": "transformers", "peft": "peft", "onnx": "onnx", "gguf": "gguf"}
"""The hub's name of the library that loads a format."""
