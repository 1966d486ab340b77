"""Score the model on the validation rows, and name the metric that selects the best checkpoint."""

from typing import TYPE_CHECKING

import numpy as np

from pipeline_lib.data.examples import SplitExamples
from pipeline_lib.evaluation.predict import predict
from pipeline_lib.objectives import Objective
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.regularizers import EarlyStopping
from pipeline_lib.training.distributed.collectives import broadcast_from_first

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor
    from transformers import PreTrainedModel

    from pipeline_lib.training.frozen_backbone.backbone import Backbone


def selection_metric(recipe: Recipe) -> tuple[str, bool]:
    """Return the validation metric that selects the checkpoint, and whether higher is better."""
    metrics = (regularizer.metric for regularizer in recipe.regularizers if isinstance(regularizer, EarlyStopping))
    metric = next(metrics, None) or recipe.objective.main_metric
    return metric, metric != "loss" and recipe.objective.metrics()[metric].higher_is_better


def validate(
    objective: Objective, model: "PreTrainedModel", split: SplitExamples, pad: int, batch_tokens: int,
    accelerator: "Accelerator", backbone: "Backbone | None",
) -> dict[str, float]:  # fmt: skip
    """Return the mean loss and every metric of the objective that does not need generated text.

    Several processes each read a share of the rows; all return the scores that rank 0 computes from all of them.
    """

    def read(batch: "dict[str, Tensor]", targets: "Tensor") -> "list[tuple[np.ndarray, np.ndarray]]":
        batch, targets = objective.mask_inputs(model, batch, targets)
        batch = backbone.feed(batch) if backbone else batch
        outputs = objective.outputs(model, batch, targets)
        loss, values = float(objective.loss_sum(outputs, targets)), objective.collect(outputs, targets)
        losses = [loss] + [0.0] * (len(values) - 1)  # the batch's loss stands beside its first value
        return list(zip(values, map(np.asarray, losses), strict=True))

    collected = predict(model, split.encoded, pad, batch_tokens, accelerator, read)

    def scores() -> dict[str, float]:
        values = [value for value, _ in collected]
        inputs = objective.metric_inputs(values, split)
        by_name = {name: metric.function(inputs) for name, metric in objective.metrics().items() if not metric.of_text}
        loss = objective.split_loss(values)
        if loss is None:
            loss = float(sum(loss for _, loss in collected)) / max(1, int(split.encoded.units.sum()))
        return {"loss": loss} | by_name

    return broadcast_from_first(scores, accelerator)
