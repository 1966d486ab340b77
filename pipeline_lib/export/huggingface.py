"""Write a trained model as a plain transformers folder: full weights under the names of its architecture."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import RecipeError
from pipeline_lib.export.model_files import copy_tokenizer, write_config
from pipeline_lib.export.plain_weights import load_plain, round_weights, weights_format
from pipeline_lib.export.verification import ATOL, RTOL, model_outputs
from pipeline_lib.models.base_model import LOCAL
from pipeline_lib.models.building import read_card
from pipeline_lib.store.lineage import Lineage

if TYPE_CHECKING:
    import pyarrow
    from torch import Tensor
    from transformers import PreTrainedModel


def write_plain(lineage: Lineage, out: Path, rows: "pyarrow.Table | None" = None) -> None:
    """Write config, weights and tokenizer of a trained model, and verify the result.

    The outputs of model and export are compared in fp32. Then the weights are rounded to the base's data type, if
    that is known and not float32.

    Args:
        lineage: The trained model, and the folder of its base if it is stored without it.
        out: The folder to write to.
        rows: Encoded rows to verify on; without any, a built-in sentence.

    Raises:
        RecipeError: If a strategy cannot be merged into the weights of the architecture.
    """
    folder, base = lineage.model, lineage.base
    model, inputs, expected = load_plain(folder, base, rows)
    model.save_pretrained(out)
    write_config(folder, out)
    copy_tokenizer(folder, out)
    _verify(model, inputs, expected, out)
    is_scaled = read_card(folder)["target_scale"] is not None
    dtype = weights_format(base) if base and not is_scaled else "float32"  # the mean of a target scale needs fp32
    if dtype != "float32":
        _round(model, dtype, out)
        write_config(folder, out, dtype)


def _round(model: "PreTrainedModel", dtype: str, out: Path) -> None:
    """Write the weights again in another data type."""
    round_weights(model, dtype)
    for file in out.glob("*.safetensors*"):
        file.unlink()
    model.save_pretrained(out)


def _verify(model: "PreTrainedModel", inputs: "list[Tensor]", expected: "list[Tensor]", out: Path) -> None:
    """Load the folder with transformers, and compare tensors and outputs, to detect lost ties or names.

    Raises:
        RecipeError: transformers writes weights of this class under names that it does not read, such as those of
            LlamaForQuestionAnswering.
    """
    import torch

    model_class: Any = type(model)
    reloaded, report = model_class.from_pretrained(out, **LOCAL, output_loading_info=True)
    tensors = reloaded.state_dict()
    wrong = [name for name, tensor in model.state_dict().items() if not torch.equal(tensors[name], tensor.cpu())]
    wrong += [*report["missing_keys"], *report["unexpected_keys"], *(key[0] for key in report["mismatched_keys"])]
    if wrong:
        names = ", ".join(sorted(map(str, wrong))[:3])
        problem = f"transformers does not restore a saved {model_class.__name__} unchanged: {names} differ"
        raise RecipeError("--format", "huggingface", problem, "Serve or score the model with Tunesmith")
    size = max(1.0, *(float(output.abs().max()) for output in expected))  # regression outputs have the data's unit
    torch.testing.assert_close(model_outputs(reloaded.eval(), inputs), expected, atol=ATOL * size, rtol=RTOL)
