"""How a flow run is called, and how a mistake ends it. `pytest tests/flows/test_names.py`."""

import asyncio
from contextlib import suppress

import pytest
from prefect.client.orchestration import get_client
from prefect.utilities.names import generate_slug

from flows.finetune_form import finetune_form
from flows.sweep import sweep
from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe.short_form import UNSET
from tasks.names import describe_run, is_generated

pytestmark = pytest.mark.server


def last_run():
    """The newest flow run."""

    async def read():
        async with get_client() as client:
            return max(await client.read_flow_runs(), key=lambda run: run.expected_start_time)

    return asyncio.run(read())


def test_names_that_prefect_makes_up_are_known_and_typed_ones_are_kept():
    made_up = [*(generate_slug(2) for _ in range(200)), "Rustic-Beagle", "epsilon3-joyanca-a", "psi82-cheron", ""]
    assert [name for name in made_up if not is_generated(name)] == []
    typed = ["night-run", "Night-Run", "my run", "demo", "beta-test", "lr-2e-4", "support-topics"]
    assert [name for name in typed if is_generated(name)] == []


def test_a_name_tells_the_recipe_and_what_was_changed():
    form = {"recipe": "demo", "strategy": "LoRA", "epochs": 2, "learning_rate": 1e-5, "train": UNSET, "seed": UNSET}
    assert (
        describe_run({**form, "overrides": ["training.warmup=0.1"]})
        == "demo LoRA epochs=2 learning_rate=1e-05 warmup=0.1"
    )
    assert describe_run({"recipe": "demo", "strategy": "as in the recipe", "overrides": UNSET}) == "demo"
    assert describe_run({"recipe": {"name": "moods"}}) == "moods"
    assert describe_run({"recipes": [{"name": "moods"}, {"name": "topics"}]}) == "moods, topics"
    request = {"model": "models:/moods@champion", "data": ["rows.parquet", "more.parquet"]}
    assert describe_run({"request": request}) == "models:/moods@champion on rows.parquet, more.parquet"


@pytest.mark.parametrize(
    ("flow", "parameters", "name", "message"),
    [
        (
            finetune_form,
            {"recipe": "demo", "epochs": 0},
            "demo epochs=0",
            "training.epochs = 0: must be greater than 0",
        ),
        (finetune_form, {"recipe": "nope"}, "nope", "recipe = 'nope': there is no such recipe in "),
        (
            sweep,
            {"recipes": [{"name": "x"}]},
            None,
            "data: is required. Add it: training data and how it is split and checked.\nmodel: is ",
        ),
    ],
)
def test_a_mistake_is_the_first_line_of_the_failed_run(flow, parameters, name, message):
    with suppress(RecipeError):
        flow(**parameters)
        raise AssertionError("no error")
    run = last_run()
    assert run.state.name == "Failed"
    assert run.state.message.startswith(message)
    assert name is None or run.name == name
