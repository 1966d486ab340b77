"""Compare an export with the model that was trained on a quantised base.

Updates are merged into the base in the precision of its files, never into quantised weights, which would round the
updates away. So an export computes slightly differently from what was trained and evaluated.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from pipeline_lib.errors import RecipeError
from pipeline_lib.export.verification import model_outputs, verification_inputs
from pipeline_lib.models.base_model import load_tokenizer
from pipeline_lib.models.building import load_trained, read_card
from pipeline_lib.store.lineage import Lineage

if TYPE_CHECKING:
    import pyarrow
    from torch import Tensor

COMPARED_ROWS = 64
"""Test rows on which an export is compared with the model that was trained on a quantised base."""

TOLERANCE = 0.25
"""Maximum difference of an export's outputs, relative to the size of the outputs."""


class Deviation(NamedTuple):
    """How far the outputs of an export are from those of the trained model."""

    kind: str
    """Kind of the base's quantisation in training."""
    rows: int
    difference: float
    """Root mean square of the outputs' differences, divided by that of the outputs."""
    agreement: float | None
    """Share of answers (of rows, or of tokens) with the same highest output; None if there is one output only."""

    def __str__(self) -> str:
        """Describe the measurement in one sentence."""
        sentence = (
            f"on {self.rows} rows, outputs differ by {self.difference:.1%} from those with the base in {self.kind}"
        )
        if self.agreement is None:
            return sentence
        return f"{sentence}, and {self.agreement:.1%} of the highest ones are the same"


def deviation_of(lineage: Lineage, rows: "pyarrow.Table | None") -> Deviation | None:
    """Compare a model on its base in the base's own precision with the same model on the quantised base.

    Returns None if the model was not trained on a quantised base.

    Raises:
        RecipeError: The outputs differ by more than TOLERANCE.
    """
    folder, base = lineage.model, lineage.base
    quantization = read_card(folder)["quantization"]
    if not quantization:
        return None
    inputs = verification_inputs(load_tokenizer(folder), rows, COMPARED_ROWS)
    trained = model_outputs(load_trained(folder, base), inputs)
    return measure_deviation(quantization.kind, trained, model_outputs(load_trained(folder, base, plain=True), inputs))


def measure_deviation(kind: str, trained: "Sequence[Tensor]", exported: "Sequence[Tensor]") -> Deviation:
    """Compare outputs, [1, ..., classes] for each row; constants added to all classes do not count.

    Raises:
        RecipeError: The outputs differ by more than TOLERANCE.
    """
    import torch

    single = trained[0].shape[-1] == 1
    expected, found = (torch.cat([out.flatten(0, -2).float() for out in outputs]) for outputs in (trained, exported))
    agreement = None if single else float((expected.argmax(-1) == found.argmax(-1)).float().mean())
    if not single:
        expected, found = (outputs - outputs.mean(-1, keepdim=True) for outputs in (expected, found))
    difference = float((found - expected).norm() / expected.norm())
    if not difference <= TOLERANCE:
        problem = f"changes the outputs on {len(trained)} rows by {difference:.0%} when the base is not quantised"
        hint = f"At most {TOLERANCE:.0%} is exported: train with model.quantization.kind int8 or without, or serve the"
        raise RecipeError("model.quantization", kind, problem, f"{hint} model with MLflow")
    return Deviation(kind, len(trained), difference, agreement)
