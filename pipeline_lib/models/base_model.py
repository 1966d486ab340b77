"""Locate the base model, compute digests of its files, and load its configuration and tokenizer."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.base_checks import refuse_damaged
from pipeline_lib.models.limits import position_limit
from pipeline_lib.models.settings import Model
from pipeline_lib.store.digests import file_digest
from pipeline_lib.util.section import HUB_ID, inside, is_file, is_folder

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

WEIGHTS = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json")
TOKENIZER = (
    "tokenizer.json",
    "tokenizer.*.json",
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
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")
"""The names under which transformers looks for weights: one file, or the list of several."""
ADAPTER = "adapter_config.json"
"""PEFT's configuration of an adapter. It is not copied with a base, so that the adapter would be left out silently."""
NO_LIMIT = int(1e30)
"""Value of model_max_length in tokenizer_config.json that means no limit."""
SMALL_VOCABULARY = 1000
"""Only vocabularies up to this size are searched for tokens that are not special."""
LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""Arguments for loading any part of a model. Without `trust_remote_code=False`, transformers asks on the terminal
whether to run a folder's code."""


def locate_base(model: Model) -> Path:
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
    _refuse_adapter(folder, model.base)
    if not is_file(folder / "config.json"):
        raise RecipeError("model.base", model.base, "has no config.json", "Set the folder of a transformers model")
    _refuse_without_weights(folder, model.base)
    if not any(file for pattern in TOKENIZER for file in folder.glob(pattern)):
        raise RecipeError("model.base", model.base, "has no tokenizer", "Save the tokenizer in the same folder")
    refuse_damaged(folder, model.base)
    return folder


def _refuse_adapter(folder: Path, base: str) -> None:
    """Raise RecipeError if a folder has an adapter, alone or beside a whole model."""
    if not is_file(folder / ADAPTER):
        return
    if any(is_file(folder / name) for name in WEIGHT_FILES):
        problem = f"has an adapter ({ADAPTER}), which would not be loaded with the base"
        hint = f"Merge the adapter into its base with PEFT's merge_and_unload, or remove {ADAPTER}"
    else:
        problem = "is an adapter, not a whole model"
        hint = "Merge it into its base with PEFT's merge_and_unload, and use the folder of the merged model"
    raise RecipeError("model.base", base, problem, hint)


def _refuse_without_weights(folder: Path, base: str) -> None:
    """Raise RecipeError if a folder has no weights under the names that transformers looks for."""
    if any(is_file(folder / name) for name in WEIGHT_FILES):
        return
    if others := sorted(file.name for file in folder.glob("*.safetensors")):
        problem = f"has no {' or '.join(WEIGHT_FILES)}, only {', '.join(others[:3])}"
        raise RecipeError("model.base", base, problem, "Save the model again with save_pretrained, or rename the file")
    hint = "Convert the weights first: pickled weights are never loaded"
    raise RecipeError("model.base", base, "has no *.safetensors weights", hint)


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
        config: PreTrainedConfig = AutoConfig.from_pretrained(folder, **LOCAL)
        _refuse_shadows(config)
        return config
    except Exception as error:  # a damaged file can raise any type of error
        raise _unloadable(folder, "config.json", error) from error


def _refuse_shadows(config: "PreTrainedConfig") -> None:
    """Raise ValueError for a field that hides a method of its class, or a section that is not one of the family's."""
    for name in vars(config):
        if callable(getattr(type(config), name, None)):
            raise ValueError(f"its field {name} has the name of a method")
    if isinstance(config.get_text_config(), dict):
        raise ValueError("its text_config is not a configuration of a known family")


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
        tokenizer.model_max_length = _length_limit(tokenizer.model_max_length, positions)
    except RecipeError:
        raise
    except Exception as error:  # any type of error, as above; the Rust code raises plain Exception
        raise _unloadable(folder, "tokenizer", error) from error
    return tokenizer


def _length_limit(named: Any, positions: int | None) -> int:
    """Return the number of tokens that a tokenizer and its model allow.

    Tokenizers without a limit have 10 to the power of 30, or infinity.
    """
    if not isinstance(named, (int, float)) or not named >= 1:
        raise ValueError(f"its model_max_length is {named!r}")
    return int(min(named, positions or NO_LIMIT, NO_LIMIT))


def _refuse_without_vocabulary(tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Raise RecipeError for a tokenizer of special tokens only: transformers makes one if it finds no vocabulary."""
    if tokenizer.vocab_size > SMALL_VOCABULARY:
        return
    special = {*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens}
    if len(tokenizer.get_vocab().keys() - special) < 2:  # a T5 without a vocabulary has a token for the space
        problem = "has a tokenizer without a vocabulary: its file is missing or not named as its class expects"
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
