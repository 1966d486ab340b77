"""Training loops on a recipe's prepared data, for tests that look inside a training."""

from pipeline_lib.pipeline import steps
from pipeline_lib.store.store import Store
from pipeline_lib.training.finetune import build_loop
from pipeline_lib.training.inputs import Inputs


def loop_of(recipe, folder):
    """A loop over the recipe's prepared data, ready for its first step."""
    prepared = steps.prepare(recipe)
    initial, base = steps.initialise(recipe, prepared), steps.fetch(recipe)
    shards = Store(recipe.execution.store).root / "steps" / "shard"
    folder.mkdir(exist_ok=True)
    return build_loop(recipe, Inputs(prepared.folder, shards, base.folder, initial.folder), folder)
