"""Training loops on a recipe's prepared data, for tests that look inside a training."""

from types import SimpleNamespace

from pipeline_lib.pipeline import steps
from pipeline_lib.store.store import Store
from pipeline_lib.training.finetune import build_loop
from pipeline_lib.training.inputs import Inputs

ALONE = SimpleNamespace(num_processes=1, process_index=0, is_main_process=True, is_local_main_process=True)
"""What a checkpoint needs to know of a training in a single process."""


def loop_of(recipe, folder):
    """A loop over the recipe's prepared data, ready for its first step."""
    prepared = steps.prepare(recipe)
    initial, base = steps.initialise(recipe, prepared), steps.fetch_base(recipe)
    shards = Store(recipe.execution.store).root / "steps" / "shard"
    folder.mkdir(exist_ok=True)
    return build_loop(recipe, Inputs(prepared.folder, shards, base.folder, initial.folder), folder)
