"""What the weights score on the validation rows, and which of the scores picks the checkpoint."""

from typing import TYPE_CHECKING, Any

from pipeline_lib.data.examples import SplitExamples
from pipeline_lib.evaluation.predict import predict
from pipeline_lib.objectives import Objective
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.regularizers import EarlyStopping

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor
    from transformers import PreTrainedModel

    from pipeline_lib.training.frozen_backbone.backbone import Backbone


def watched(recipe: Recipe) -> tuple[str, bool]:
    """The validation metric that picks the checkpoint, and whether higher is better."""
    named = (each.metric for each in recipe.regularizers if isinstance(each, EarlyStopping))
    metric = next(named, None) or recipe.objective.main_metric
    return metric, metric != "loss" and recipe.objective.metrics()[metric].higher_is_better


def validate(
    objective: Objective, model: "PreTrainedModel", split: SplitExamples, pad: int, batch_tokens: int,
    accelerator: "Accelerator", trunk: "Backbone | None",
) -> dict[str, float]:  # fmt: skip
    """The mean loss, and every metric of the objective that needs no written text."""
    losses = []

    def read(batch: "dict[str, Tensor]", targets: "Tensor") -> list[Any]:
        batch, targets = objective.mask_inputs(model, batch, targets)
        batch = trunk.feed(batch) if trunk else batch
        logits = objective.forward(model, batch, targets)
        losses.append(float(objective.loss_sum(logits, targets)))
        return objective.collect(logits, targets)

    kept = predict(model, split.encoded, pad, batch_tokens, accelerator, read)
    outcome = objective.metric_inputs(kept, split)
    known = {name: metric.function(outcome) for name, metric in objective.metrics().items() if not metric.of_text}
    loss = objective.split_loss(kept)
    return {"loss": sum(losses) / max(1, int(split.encoded.units.sum())) if loss is None else loss} | known
