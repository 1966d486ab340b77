"""Which runs a sweep consists of, and the mistakes in it. `pytest tests/sweep/test_trials.py`."""

import pytest

from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe.schema import check
from pipeline_lib.sweep.trials import Sweep, trials

DOCUMENT = {
    "name": "moods",
    "data": {"source": {"kind": "csv", "train": "moods.csv"}},
    "model": {"base": "a/b"},
    "objective": {"kind": "text_classification"},
}


@pytest.fixture
def recipe():
    return check(DOCUMENT)


def test_all_combinations_of_values_and_seeds_on_the_same_rows(recipe):
    found = trials([recipe], Sweep(vary=["training.learning_rate=[1e-4, 5e-5]", "training.epochs=[1, 2]"], seeds=2))
    assert [(t.variant, t.recipe.training.learning_rate, t.recipe.training.epochs, t.recipe.seed) for t in found] == [
        (f"moods learning_rate={rate} epochs={epochs}", float(rate), epochs, seed)
        for rate in ("1e-4", "5e-5")
        for epochs in (1, 2)
        for seed in (7, 8)
    ]
    assert {t.recipe.drawing_seed for t in found} == {7}
    assert found[1].recipe.name == "moods-learning_rate-1e-4-epochs-1-seed-8"


def test_lists_of_strategies_are_values_too_and_are_named_by_their_kinds(recipe):
    vary = "strategies=[[{kind: full}], [{kind: lora, rank: 4}, {kind: layerwise_lr, decay: 0.9}]]"
    assert [t.variant for t in trials([recipe], Sweep(vary=[vary]))] == [
        "moods strategies=full",
        "moods strategies=lora,rank:4+layerwise_lr,decay:0.9",
    ]


def test_nothing_varied_is_the_recipe_itself(recipe):
    (only,) = trials([recipe], Sweep())
    assert only.recipe == recipe


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        (
            {"vary": ["training.epochs=3"]},
            "must be a list of values. Write, for example, training.learning_rate=[1e-5, 5e-5]",
        ),
        ({"vary": ["training.epochs=[1, many]"]}, "training.epochs = 'many': must be an integer"),
        ({"vary": ["training.epoch=[1]"]}, "training.epoch = 1: there is no such field. Did you mean 'epochs'?"),
        ({"vary": ["training.epochs=[1, 1]"]}, "is the name of two runs. Give each recipe its own name"),
        ({"metric": "bleu"}, "sweep.metric = 'bleu': is not a metric of moods. Choose one of accuracy"),
    ],
)
def test_mistakes_are_reported_before_anything_runs(recipe, sweep, message):
    with pytest.raises(RecipeError) as error:
        trials([recipe], Sweep(**sweep))
    assert message in str(error.value)
