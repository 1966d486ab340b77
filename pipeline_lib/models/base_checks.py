"""Check the files of a base model before anything loads them: damaged, incomplete, or made to do harm."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline_lib.errors import RecipeError
from pipeline_lib.util.section import is_file

COUNTED, MOST_COUNTED = re.compile("block|label|layer"), 1_000_000
"""Names of counts in config.json, and the largest one."""


def refuse_damaged(folder: Path, base: str) -> None:
    """Raise RecipeError if config.json is not a JSON object, or if weights are truncated or missing.

    Reads only the headers of the weights.
    """
    from safetensors import SafetensorError, safe_open

    _refuse_extreme(_read_object(folder / "config.json", base), base)
    if is_file(folder / "tokenizer_config.json"):
        versions = _read_object(folder / "tokenizer_config.json", base).get("fast_tokenizer_files") or []
        names = versions if isinstance(versions, list) else [versions]
        _refuse_outside([str(name) for name in names], "tokenizer_config.json", base)
    for index in folder.glob("*.safetensors.index.json"):
        listed = _read_object(index, base).get("weight_map")
        if not isinstance(listed, dict) or not listed:
            problem = f"has an {index.name} without a weight_map, which names the file of each tensor"
            raise RecipeError("model.base", base, problem, "Download the model again")
        shards = set(map(str, listed.values()))
        _refuse_outside(shards, index.name, base)
        if pickled := sorted(name for name in shards if not name.endswith(".safetensors")):
            problem = f"lists weights in another format ({pickled[0]}) in {index.name}"
            raise RecipeError("model.base", base, problem, "Convert them first: pickled weights are never loaded")
        if missing := sorted(name for name in shards if not is_file(folder / name)):
            problem = f"lacks {missing[0]}, which {index.name} lists"
            raise RecipeError("model.base", base, problem, "Download the model again")
    for file in sorted(folder.glob("*.safetensors")):
        if not is_file(file):  # reading a named pipe would wait forever
            problem = f"has a weights file that is not a regular file, {file.name}"
            raise RecipeError("model.base", base, problem, "Download the model again")
        try:
            with safe_open(file, "numpy"):
                pass
        except (SafetensorError, OSError) as error:
            problem = f"has a damaged weights file, {file.name} ({error})"
            raise RecipeError("model.base", base, problem, "Download the model again") from None


def _refuse_outside(names: Iterable[str], file: str, base: str) -> None:
    """Raise RecipeError if a file of a model names another one that is not beside it."""
    if outside := sorted(name for name in names if Path(name).name != name):
        problem = f"names a file outside its folder ({outside[0]}) in {file}"
        hint = "Do not trust this model: download it from its original source"
        raise RecipeError("model.base", base, problem, hint)


def _refuse_extreme(config: dict[str, Any], base: str) -> None:
    """Raise RecipeError for a count in config.json that is too large: transformers makes lists of that length."""
    sections: list[dict[str, Any]] = [config]
    while sections:
        for name, value in sections.pop().items():
            if isinstance(value, dict):
                sections.append(value)
            elif isinstance(value, int) and value > MOST_COUNTED and COUNTED.search(name):
                problem = f"has a config.json with {value:,} as {name}"
                raise RecipeError("model.base", base, problem, "Use the config.json saved with the weights")


def _refuse_nan(name: str) -> float:
    """Parse JSON's additional constants, of which Infinity is a limit in some configurations; NaN has no meaning."""
    if name == "NaN":
        raise ValueError("NaN is not a number")
    return float(name)


def _read_object(file: Path, base: str) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse_nan)
    except (OSError, ValueError, RecursionError) as error:
        problem = f"has a damaged {file.name} ({error})"
        raise RecipeError("model.base", base, problem, "Download the model again") from None
    if not isinstance(content, dict):
        raise RecipeError(
            "model.base", base, f"has a {file.name} that is not a JSON object", "Download the model again"
        )
    return content
