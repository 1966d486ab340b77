"""Which trials of a sweep end early, and what a rerun does with them. `pytest tests/sweep/test_pruning.py`."""

import json
import sys

import pytest
from mlflow.tracking import MlflowClient

from pipeline_lib.errors import RecipeError
from pipeline_lib.pipeline import input_checks
from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import check
from pipeline_lib.sweep.pruning import Study, TrialPruner
from pipeline_lib.sweep.sweep import plan_trials, sweep
from pipeline_lib.sweep.trials import Sweep
from pipeline_lib.training.loop import Loop
from pipeline_lib.util.signals import Pruned


def validated(epoch, value, metric="accuracy"):
    return [
        {"step": epoch * 9, "epoch": epoch, "split": "train", "metric": "loss", "value": 1.0},
        {"step": epoch * 9, "epoch": epoch, "split": "validation", "metric": metric, "value": value},
    ]


def answers(study, recipe, scores, complete=True, metric="accuracy"):
    pruner = TrialPruner(study, recipe)
    said = [pruner(validated(epoch, score, metric)) for epoch, score in enumerate(scores, 1)]
    pruner.end(complete)
    return said


def test_the_median_of_those_that_have_ended_judges_the_best_score_so_far(recipe, tmp_path):
    study = Study(str(tmp_path / "journal"), "median", True)
    for scores in ([0.2, 0.9], [0.5, 0.7], [0.6, 0.6]):  # medians: 0.5 and 0.7
        assert answers(study, recipe, scores) == [None, None]
    assert answers(study, recipe, [0.5, 0.69], complete=False) == [
        None,
        "its best accuracy up to validation 2 (0.6900) was below the median of the others",
    ]
    assert answers(study, recipe, [0.71, 0.1]) == [None, None]  # what it once had counts


def test_a_loss_is_better_where_it_is_lower(document, tmp_path):
    recipe = check(document | {"regularizers": [{"kind": "early_stopping", "metric": "loss"}]})
    study = Study(str(tmp_path / "journal"), "median", False)
    for score in (0.1, 0.2, 0.3):
        assert answers(study, recipe, [score], metric="loss") == [None]
    assert answers(study, recipe, [0.21], False, "loss") == [
        "its best loss up to validation 1 (0.2100) was above the median of the others"
    ]


def test_halving_asks_at_validations_1_2_and_4_and_counts_all_that_got_there(recipe, tmp_path):
    study = Study(str(tmp_path / "journal"), "halving", True)
    assert answers(study, recipe, [0.5, 0.5, 0.1, 0.6]) == [None] * 4
    (why,) = answers(study, recipe, [0.4], complete=False)
    assert why == "its accuracy in validation 1 (0.4000) was not in the better half of the others"
    assert answers(study, recipe, [0.6, 0.7, 0.1, 0.5]) == [None, None, None, why.replace("1 (0.4", "4 (0.5")]
    assert answers(study, recipe, [0.55], complete=False) == [None]  # the second of four


def test_a_training_that_goes_on_is_judged_by_where_it_stands(recipe, tmp_path):
    study = Study(str(tmp_path / "journal"), "median", True)
    for _ in range(3):
        answers(study, recipe, [0.5, 0.5])
    assert TrialPruner(study, recipe)([*validated(1, 0.4), *validated(2, 0.6)]) is None
    assert TrialPruner(study, recipe)([*validated(1, 0.4), *validated(2, 0.4)])


@pytest.fixture
def settings():
    """Three that learn, and one at a rate of nearly nothing, which can only be below their median."""
    return Sweep(vary=["training.learning_rate=[5e-3, 4e-3, 3e-3, 1e-9]"], pruner="median")


def runs_of(document):
    client = MlflowClient(document["execution"]["tracking_uri"])
    experiment = client.get_experiment_by_name(document["execution"]["experiment"]).experiment_id
    return {run.info.run_name: run for run in client.search_runs([experiment])}


def test_a_hopeless_trial_ends_early_is_reported_and_can_continue_alone_later(
    document, settings, tmp_path, monkeypatch
):
    document["training"]["epochs"] = 3
    began, epoch = [], Loop._epoch
    monkeypatch.setattr(Loop, "_epoch", lambda loop: began.append(loop.recipe.name) or epoch(loop))
    found = sweep([check(document)], settings)
    hopeless = "moods-learning_rate-1e-9"
    assert 0 < began.count(hopeless) < 3
    comparison = json.loads((found.folder / "comparison.json").read_text())
    why = comparison["stopped"][hopeless]
    assert [*comparison["stopped"]] == [hopeless]
    assert why.startswith("its best accuracy up to validation ")
    assert f"- {hopeless} stopped early: {why}" in (found.folder / "comparison.md").read_text()
    assert len(comparison["variants"]) == len([*(tmp_path / "store" / "steps" / "finetune").iterdir()]) == 3
    training = runs_of(document)[f"{hopeless} training"]
    assert (training.info.status, training.data.tags["tunesmith.pruned"]) == ("KILLED", why)

    before = len(began)
    again = sweep([check(document)], settings)  # judged by the same scores, and no step is trained
    assert (again.fingerprint, len(began)) == (found.fingerprint, before)

    (varied,) = (trial.recipe for trial in plan_trials([check(document)], settings) if trial.recipe.name == hopeless)
    alone = run(varied)
    assert began.count(hopeless) == 3  # the rest of its epochs
    training = runs_of(document)[f"{hopeless} training"]
    assert training.info.status == "FINISHED"
    assert "tunesmith.pruned" not in training.data.tags
    whole = document["execution"] | {"store": str(tmp_path / "unbroken")}
    assert run(check(varied.model_dump(mode="json") | {"execution": whole})).model.digest == alone.model.digest


def test_all_pruned_is_reported(document, settings, monkeypatch):
    from pipeline_lib.sweep import sweep as module

    monkeypatch.setattr(module, "run_trial", lambda trial, by, study: Pruned("planted"))
    with pytest.raises(RecipeError, match="pruner.* stopped every run early .*planted"):
        sweep([check(document)], settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"split": {"validation": 0, "test": 0.2}}}, "leaves no validation rows for the sweep's pruner"),
        ({"execution": {"processes": 2}}, "execution.processes = 2: cannot be stopped early by a sweep's pruner"),
        ({"execution": {"task_runner": "ray", "cluster": "ray://a"}}, "cannot share their scores with the pruner"),
    ],
)
def test_a_pruner_needs_something_to_go_by(document, settings, change, message, monkeypatch):
    monkeypatch.setattr(input_checks, "require_extras", lambda recipe: None)  # Ray need not be installed
    for part, values in change.items():
        document[part] |= values
    with pytest.raises(RecipeError) as error:
        plan_trials([check(document)], settings)
    assert message in str(error.value)


def test_trainings_that_watch_different_metrics_cannot_be_compared(document, settings):
    other = document | {"name": "other", "regularizers": [{"kind": "early_stopping", "metric": "loss"}]}
    with pytest.raises(RecipeError, match=r"different validation metrics \(accuracy, loss\)"):
        plan_trials([check(document), check(other)], settings)


def test_a_missing_package_is_reported_with_the_command(recipe, settings, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(RecipeError, match=r"needs optuna .*pip install -c constraints.txt -e '.\[sweep\]'"):
        plan_trials([recipe], settings)
