"""What a training starts with: the model as it was initialised, and the rows that it is to learn from."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_lib.data.dataset import Split, encoded_split
from pipeline_lib.models.base import load_tokenizer
from pipeline_lib.models.build import load_initial
from pipeline_lib.models.places import places
from pipeline_lib.models.prompts import prompted
from pipeline_lib.recipe import Recipe
from pipeline_lib.training.attention import attend_faster
from pipeline_lib.training.device import accelerator
from pipeline_lib.training.dropout import draw_faster
from pipeline_lib.training.frozen import trunk_layers
from pipeline_lib.training.inputs import Inputs
from pipeline_lib.training.kept import with_kept, write_kept
from pipeline_lib.training.trunk import NotKept, Trunk

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel


@dataclass
class Begun:
    """The model of a starting point, the names of its head's parameters, and the rows to train on and to validate."""

    recipe: Recipe
    model: "PreTrainedModel"
    head: set[str]
    train: Split
    validation: Split
    pad: int
    here: "Accelerator"

    @classmethod
    def of(cls, recipe: Recipe, inputs: Inputs) -> "Begun":
        """Read all of it."""
        prepared, shards, base, initial, _ = inputs
        model, head = load_initial(base, initial, recipe.regularizers)
        draw_faster(model)
        attend_faster(model)
        tokenizer = load_tokenizer(initial)
        splits = [encoded_split(prepared, shards, name, recipe.objective) for name in ("train", "validation")]
        if scale := recipe.objective.target_scale(splits[0].rows):
            splits = [split.standardised(scale) for split in splits]
        train, validation = (
            split._replace(encoded=prompted(split.encoded, recipe.strategies, tokenizer)) for split in splits
        )
        return cls(recipe, model, head, train, validation, tokenizer.pad_token_id, accelerator(recipe.execution))

    def trunk(self) -> Trunk | None:
        """The model's trunk where it has one, which from now on computes apart from the rest."""
        layers = trunk_layers(self.recipe, places(self.model, self.head).values())
        try:
            return self._trunk(layers) if layers else None
        except NotKept:
            return None  # told when it was to be kept

    def write_trunk(self, layers: int, lower: tuple[int, Path] | None, folder: Path) -> None:
        """Keep what a trunk of so many layers puts out for all rows, from what a lower one of them is known to.

        Raises NotKept where that can't be or takes too much room.
        """
        splits, below = {"train": self.train.encoded, "validation": self.validation.encoded}, None
        if lower:
            below = self._trunk(lower[0])
            splits = {name: with_kept(encoded, below, lower[1], name) for name, encoded in splits.items()}
        trunk = self._trunk(layers)
        trunk.lower = below
        write_kept(trunk, splits, self.pad, folder)

    def _trunk(self, layers: int) -> Trunk:
        return Trunk(self.model, layers, self.recipe.objective, self.train.encoded, self.pad, self.here)
