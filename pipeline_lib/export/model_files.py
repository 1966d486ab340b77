"""Copy the files of a trained model that exports keep: configuration and tokenizer."""

import json
import shutil
from pathlib import Path

from pipeline_lib.models.base_model import TOKENIZER, digests


def copy_tokenizer(folder: Path, out: Path) -> None:
    """Copy the tokenizer's files."""
    for name in digests(folder, TOKENIZER):
        (out / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(folder / name, out / name)


def write_config(folder: Path, out: Path, dtype: str = "float32") -> None:
    """Write the stored config, which the regularizers of training did not change, with the weights' data type."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = json.dumps(config | {"dtype": dtype}, indent=2, sort_keys=True)
    (out / "config.json").write_text(text + "\n", encoding="utf-8")
