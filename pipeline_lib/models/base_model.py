"""Locate the base model, compute digests of its files, and load its configuration and tokenizer."""

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
    "additional_chat_templates/*.jinja",
)
"""Files of a tokenizer. Data only: Python code in the folder is neither copied nor run."""
SMALL_VOCABULARY = 1000
LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""Arguments for loading any part of a model. Without `trust_remote_code=False`, transformers asks on the terminal
whether to run a folder's code."""


def locate(model: Model) -> Path:
    """Return the local folder of the base model, downloading it from the hub if necessary.

    Raises:
        RecipeError: The base does not exist, is incomplete or is damaged.
    """
    if model.base.startswith("package:"):
        folder = _find_in_package(model)
    elif is_folder(model.base):
        folder = Path(model.base)
    elif HUB_ID.fullmatch(model.base):
        folder = _download_from_hub(model)
    else:
        raise RecipeError("model.base", model.base, "no such folder", "Set a folder, a hub id or package:NAME/folder")
    if not is_file(folder / "config.json"):
        _refuse_adapter(folder, model.base)
        raise RecipeError("model.base", model.base, "has no config.json", "Set the folder of a transformers model")
    _refuse_without_weights(folder, model.base)
    if not any(file for pattern in TOKENIZER for file in folder.glob(pattern)):
        raise RecipeError("model.base", model.base, "has no tokenizer", "Save the tokenizer in the same folder")
    _refuse_damaged(folder, model.base)
    return folder


def _refuse_adapter(folder: Path, base: str) -> None:
    """Raise RecipeError if a folder has an adapter's weights only."""
    if is_file(folder / "adapter_config.json"):
        hint = "Merge it into its base with PEFT's merge_and_unload, and use the folder of the merged model"
        raise RecipeError("model.base", base, "is an adapter, not a whole model", hint)


def _refuse_without_weights(folder: Path, base: str) -> None:
    """Raise RecipeError if a folder has no weights under the names that transformers looks for."""
    if is_file(folder / "model.safetensors") or is_file(folder / "model.safetensors.index.json"):
        return
    _refuse_adapter(folder, base)
    if others := sorted(file.name for file in folder.glob("*.safetensors")):
        problem = f"has no model.safetensors or model.safetensors.index.json, only {', '.join(others[:3])}"
        raise RecipeError("model.base", base, problem, "Save the model again with save_pretrained, or rename the file")
    hint = "Convert the weights first: pickled weights are never loaded"
    raise RecipeError("model.base", base, "has no *.safetensors weights", hint)


def _refuse_damaged(folder: Path, base: str) -> None:
    """Raise RecipeError if config.json is not a JSON object, or if weights are truncated or missing.

    Reads only the headers of the weights.
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
            hint = "Do not trust this model: download it from its original source"
            raise RecipeError("model.base", base, problem, hint)
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


def _find_in_package(model: Model) -> Path:
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
        raise RecipeError("model.base", model.base, "is outside the package", f"Set a folder inside {package}")
    return home / folder


def _package_folder(package: str) -> Path | None:
    """Return the folder of an installed Python package; None if there is none, or if it is only a module."""
    try:
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
    except (ValueError, ImportError):  # a module without a spec, such as __main__
        return None
    if spec is None or spec.origin is None or not spec.submodule_search_locations:
        return None
    return Path(spec.origin).parent


def _download_from_hub(model: Model) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model.base, revision=model.revision, allow_patterns=[*WEIGHTS, *TOKENIZER]))
    except Exception as error:  # the hub client raises many types, both for a wrong name and without a network
        lines = str(error).strip().splitlines()
        reason = lines[0] if lines else type(error).__name__
        raise RecipeError(
            "model.base",
            model.base,
            f"is not a folder, and could not be downloaded from the hub ({reason})",
            "Check the spelling and the network, or set a folder",
        ) from None


def digests(folder: Path, patterns: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 digests, by path in the folder, of the files that match any of the patterns."""
    files = sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})
    return {file.relative_to(folder).as_posix(): file_digest(file) for file in files}


def load_config(folder: Path | str) -> "PreTrainedConfig":
    """Load the configuration from a local model folder.

    Raises:
        RecipeError: transformers cannot read it, or only by running Python code from the folder.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, **LOCAL)
    except Exception as error:  # a damaged file can raise any type of error
        raise _unloadable(folder, "config.json", error) from error


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Load the tokenizer from a local folder; set its padding token and limit its length to the model's positions.

    Raises:
        RecipeError: transformers cannot read it, or only by running Python code from the folder; or it has no token
            that can serve as padding.
    """
    from transformers import AutoTokenizer

    positions = position_limit(load_config(folder))
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **LOCAL)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        if tokenizer.pad_token is None:
            problem = "has a tokenizer without a padding, end-of-text or unknown token"
            raise RecipeError("model.base", str(folder), problem, "Set pad_token in its tokenizer_config.json")
        _refuse_without_vocabulary(tokenizer, folder)
        if not isinstance(tokenizer.model_max_length, (int, float)) or tokenizer.model_max_length < 1:
            problem = f"has a tokenizer with model_max_length {tokenizer.model_max_length!r}"
            raise RecipeError("model.base", str(folder), problem, "Correct it in its tokenizer_config.json")
        if positions is not None:
            tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
    except RecipeError:
        raise
    except Exception as error:  # any type of error, as above; the Rust code raises plain Exception
        raise _unloadable(folder, "tokenizer", error) from error
    return tokenizer


def _refuse_without_vocabulary(tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Raise RecipeError for a tokenizer of special tokens only: transformers makes one if it finds no vocabulary."""
    if tokenizer.vocab_size > SMALL_VOCABULARY:
        return
    special = {*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens}
    if len(tokenizer.get_vocab().keys() - special) < 2:  # a T5 without a vocabulary has a token for the space
        problem = (
            "has a tokenizer without a vocabulary: its file is not there, or has another name than its class expects"
        )
        raise RecipeError("model.base", str(folder), problem, "Save the tokenizer again with save_pretrained")


def _unloadable(folder: Path | str, part: str, error: Exception) -> RecipeError:
    """Build the error for a part of a model that cannot be loaded, with transformers' own message."""
    reason = " ".join(str(error).split()) or type(error).__name__
    if "trust_remote_code" in reason:
        problem = f"needs Python code from its own folder to load its {part}, but such code is never run"
        return RecipeError("model.base", str(folder), problem, "Choose a base that transformers supports")
    return RecipeError(
        "model.base", str(folder), f"has a {part} that cannot be loaded ({reason[:300]})", "Check or replace its files"
    )
