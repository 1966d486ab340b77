"""Load what a training needs: the initial model, and the training and validation rows."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.data.examples import SplitExamples
from pipeline_lib.data.prepared import load_split
from pipeline_lib.models.base_model import load_tokenizer
from pipeline_lib.models.building import load_initial
from pipeline_lib.models.parameter_depth import parameter_infos
from pipeline_lib.models.prompt_inputs import insert_prompt_tokens
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.training.device import accelerator
from pipeline_lib.training.distributed.sharding import Sharding
from pipeline_lib.training.fast_paths.attention import attend_faster
from pipeline_lib.training.fast_paths.dropout import draw_faster
from pipeline_lib.training.frozen_backbone.backbone import Backbone, NotCached
from pipeline_lib.training.frozen_backbone.feature_cache import with_features, write_features
from pipeline_lib.training.frozen_backbone.layers import frozen_layers
from pipeline_lib.training.inputs import Inputs
from pipeline_lib.training.reference import with_reference

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel


@dataclass
class TrainingSetup:
    """The initial model, the names of its head's parameters, and the training and validation rows."""

    recipe: Recipe
    model: "PreTrainedModel"
    head: set[str]
    train: SplitExamples
    validation: SplitExamples
    pad: int
    here: "Accelerator"

    @property
    def sharding(self) -> Sharding:
        """How the model is divided among the processes of this training."""
        return "none" if self.here.num_processes == 1 else self.recipe.execution.sharding

    @classmethod
    def load(cls, recipe: Recipe, inputs: Inputs) -> "TrainingSetup":
        """Load model and rows, with fast paths, scaled targets and reference log-probabilities applied."""
        prepared, shards, base, initial, _, reference = inputs
        attention = recipe.execution.attention
        model, head = load_initial(base, initial, recipe.regularizers, recipe.model.dtype, attention)
        draw_faster(model)
        attend_faster(model)
        tokenizer = load_tokenizer(initial)
        splits = [load_split(prepared, shards, name, recipe.objective) for name in ("train", "validation")]
        if scale := recipe.objective.target_scale(splits[0].rows):
            splits = [split.standardise(scale) for split in splits]
        if reference:
            names = ("train", "validation")
            splits = [
                split._replace(encoded=with_reference(split.encoded, reference, name))
                for split, name in zip(splits, names, strict=True)
            ]
        train, validation = (
            split._replace(encoded=insert_prompt_tokens(split.encoded, recipe.strategies, tokenizer))
            for split in splits
        )
        return cls(recipe, model, head, train, validation, tokenizer.pad_token_id, accelerator(recipe.execution))

    def backbone(self) -> Backbone | None:
        """Split off the model's frozen backbone; None if it has none or cannot be split."""
        layers = frozen_layers(self.recipe, parameter_infos(self.model, self.head).values())
        try:
            return self._backbone(layers) if layers else None
        except NotCached:
            return None  # already logged by `cached_features`

    def cache_features(self, layers: int, lower: tuple[int, Path] | None, folder: Path) -> None:
        """Cache the outputs of the lowest `layers` layers for all rows.

        Args:
            layers: Number of frozen layers.
            lower: A smaller number of layers and the folder with their cached outputs, to continue from.
            folder: Empty folder to write to.

        Raises:
            NotCached: The model cannot be split, or the outputs take too much space.
        """
        splits, below = {"train": self.train.encoded, "validation": self.validation.encoded}, None
        if lower:
            below = self._backbone(lower[0])
            splits = {name: with_features(encoded, below, lower[1], name) for name, encoded in splits.items()}
        backbone = self._backbone(layers)
        backbone.lower = below
        write_features(backbone, splits, self.pad, folder)

    def _backbone(self, layers: int) -> Backbone:
        return Backbone(self.model, layers, self.recipe.objective, self.train.encoded, self.pad, self.here)
