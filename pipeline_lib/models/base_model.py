"""The base model: where it is, what its bytes are, and its tokenizer."""

import importlib.util
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.limits import position_limit
from pipeline_lib.models.settings import Model
from pipeline_lib.store.digests import file_digest
from pipeline_lib.util.section import HUB_ID, inside, is_file, is_folder

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

WEIGHTS = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json")
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "vocab.bpe",
    "merges.txt",
    "bpe.codes",
    "*.model",
    "*.spm",
    "chat_template.json",
    "chat_template.jinja",
)
"""Files of a tokenizer. Only data: code that lies beside it is neither copied nor run."""
LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""How every part of a model is loaded. Without the second, transformers asks on the terminal whether to run a folder's
code, and runs it where the answer is yes."""


def locate(model: Model) -> Path:
    """The local folder of the base model, fetched from the hub if need be; raises RecipeError if it is not there."""
    if model.base.startswith("package:"):
        folder = _in_package(model)
    elif is_folder(model.base):
        folder = Path(model.base)
    elif HUB_ID.fullmatch(model.base):
        folder = _from_hub(model)
    else:
        raise RecipeError("model.base", model.base, "no such folder", "Name a folder, a hub id or package:NAME/folder")
    if not is_file(folder / "config.json"):
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
    _refuse_damaged(folder, model.base)
    return folder


def _refuse_damaged(folder: Path, base: str) -> None:
    """Raise RecipeError for a config that is not a JSON object and for weights that are cut off or missing.

    Reads the headers of the weights only.
    """
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.glob("*.json")):
        if file.name == "config.json" or file.name.endswith(".safetensors.index.json"):
            _read_object(file, base)
    for index in folder.glob("*.safetensors.index.json"):
        listed = _read_object(index, base).get("weight_map")
        shards = set(map(str, listed.values())) if isinstance(listed, dict) else set()
        if outside := sorted(name for name in shards if Path(name).name != name):
            problem = f"names a file outside its folder ({outside[0]}) in {index.name}"
            raise RecipeError(
                "model.base", base, problem, "Do not trust this model: download it from where it comes from"
            )
        if missing := sorted(name for name in shards if not is_file(folder / name)):
            problem = f"lacks {missing[0]}, which {index.name} lists"
            raise RecipeError("model.base", base, problem, "Download the model again")
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "numpy"):
                pass
        except (SafetensorError, OSError) as error:
            problem = f"has a damaged weights file, {file.name} ({error})"
            raise RecipeError("model.base", base, problem, "Download the model again") from None


def _read_object(file: Path, base: str) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        problem = f"has a damaged {file.name} ({error})"
        raise RecipeError("model.base", base, problem, "Download the model again") from None
    if not isinstance(content, dict):
        raise RecipeError(
            "model.base", base, f"has a {file.name} that is not a JSON object", "Download the model again"
        )
    return content


def _in_package(model: Model) -> Path:
    package, _, folder = model.base.removeprefix("package:").partition("/")
    home = _package_folder(package)
    if home is None:
        raise RecipeError(
            "model.base",
            model.base,
            f"no Python package {package!r} is installed",
            "Install it with pip (for the demo: pip install -c constraints.txt -e '.[demo]')",
        )
    if not inside(home / folder, home):
        raise RecipeError("model.base", model.base, "leads out of the package", f"Name a folder inside {package}")
    return home / folder


def _package_folder(package: str) -> Path | None:
    """Where a Python package is installed; None where there is none, or only a module such as __main__."""
    try:
        found = importlib.util.find_spec(package) if package.isidentifier() else None
    except (ValueError, ImportError):  # a module without a specification, such as __main__
        return None
    if found is None or found.origin is None or not found.submodule_search_locations:
        return None
    return Path(found.origin).parent


def _from_hub(model: Model) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model.base, revision=model.revision, allow_patterns=[*WEIGHTS, *TOKENIZER]))
    except Exception as error:  # the hub client raises many kinds, for a wrong name and for no network alike
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RecipeError(
            "model.base",
            model.base,
            f"is not a folder, and the hub does not have it ({said})",
            "Check the spelling and the network, or name a folder",
        ) from None


def digests(folder: Path, patterns: Iterable[str]) -> dict[str, str]:
    """SHA-256 by name of the files that any of the patterns names."""
    files = sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})
    return {file.name: file_digest(file) for file in files}


def load_config(folder: Path | str) -> "PreTrainedConfig":
    """The configuration of a local model folder.

    Raises RecipeError where transformers cannot read it, or only by running code that lies in the folder.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, **LOCAL)
    except Exception as error:  # a damaged file raises whatever its values happen to break
        raise _unloadable(folder, "config.json", error) from error


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer of a local folder, with a token to pad with, and no limit beyond the model's positions.

    Raises RecipeError where transformers cannot read it, or only by running code that lies in the folder.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **LOCAL)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        if tokenizer.pad_token is None:
            problem = "has a tokenizer without a token to pad with, to end a text with or for what is unknown"
            raise RecipeError("model.base", str(folder), problem, "Name a pad_token in its tokenizer_config.json")
        positions = position_limit(load_config(folder))
        if positions is not None:
            tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
    except RecipeError:
        raise
    except Exception as error:  # as above; the Rust part raises plain Exception
        raise _unloadable(folder, "tokenizer", error) from error
    return tokenizer


def _unloadable(folder: Path | str, part: str, error: Exception) -> RecipeError:
    """Why a part of a model cannot be loaded, in one sentence of transformers' own."""
    reason = " ".join(str(error).split()) or type(error).__name__
    if "trust_remote_code" in reason:
        problem = f"needs Python code from its own folder to load its {part}, and such code is never run"
        return RecipeError("model.base", str(folder), problem, "Choose a base that transformers knows")
    return RecipeError(
        "model.base", str(folder), f"has a {part} that cannot be loaded ({reason[:300]})", "Check or replace its files"
    )
