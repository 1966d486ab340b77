"""A model's life behind the gate: first, unchanged, challenged, rolled back. `pytest tests/retrain/test_retrain.py`."""

import json
import shutil

import numpy as np
import pytest
from conftest import moods_recipe, send_nothing, write_moods
from typer.testing import CliRunner

from pipeline_lib.cli.main import app
from pipeline_lib.errors import RecipeError
from pipeline_lib.recipe.schema import check
from pipeline_lib.retrain import promotion
from pipeline_lib.retrain import retrain as whole
from pipeline_lib.retrain.gate import Gate
from pipeline_lib.retrain.retrain import retrain
from pipeline_lib.store.pins import pins
from pipeline_lib.strategies import LoRA
from pipeline_lib.tracking.registry import Registry, Version


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_bert, tracking_uri):
    """The store of what most tests train first: the recipe, and the same untaught; MLflow knows nothing of it."""
    folder = tmp_path_factory.mktemp("finished")
    recipe = recipe_in(folder, moods_recipe(folder, tiny_bert, write_moods(folder / "moods.csv"), tracking_uri))
    with pytest.MonkeyPatch.context() as patch:
        send_nothing(patch)
        whole.run(recipe)
        whole.run(untaught(recipe))
    return folder / "store"


@pytest.fixture
def recipe(document, tmp_path, moods_csv, finished):
    """Named after the test, as one MLflow serves all tests; its data is a folder that can grow."""
    shutil.copytree(finished, tmp_path / "store")
    return recipe_in(tmp_path, document)


def recipe_in(folder, document):
    (folder / "rows").mkdir()
    (folder / "moods.csv").rename(folder / "rows" / "1.csv")
    test = folder / "test.csv"
    rows = [f"{text} {place},{mood}" for mood, text in MOODS for place in ("here", "at home", "in town", "today")]
    test.write_text("\n".join(["text,mood", *rows]) + "\n")
    document["name"] = folder.name
    document["training"]["epochs"] = 1
    document["data"]["source"] |= {"train": str(folder / "rows"), "test": str(test)}
    return check(document)


MOODS = [("glad", "a sweet song"), ("glad", "what a fine day"), ("sad", "the soup is cold"), ("sad", "a long wait")]


@pytest.fixture
def registry(recipe):
    return Registry(recipe.execution, recipe.name)


def grow(tmp_path, name="2.csv", rows=("a fine song in the sun,glad", "the soup is lost,sad")):
    (tmp_path / "rows" / name).write_text("\n".join(["text,mood", *rows]) + "\n")


def untaught(recipe):
    """The same recipe at a rate at which nothing is learned."""
    idle = recipe.training.model_copy(update={"epochs": 1, "learning_rate": 1e-9})
    return recipe.model_copy(update={"training": idle})


def test_a_first_model_is_promoted_and_the_same_again_is_nothing_to_do(recipe, registry, monkeypatch):
    first = retrain(recipe, Gate())
    assert (first.verdict, first.version, first.champion) == ("promoted", 1, None)
    champion = registry.champion()
    assert champion.tags["tunesmith.verdict"] == "promoted"
    assert f"models:/{recipe.name}/1" in {name for names in pins(_root(recipe)).values() for name in names}
    monkeypatch.setattr(whole.steps, "prepare", lambda *_, **__: pytest.fail("something was done"))
    again = retrain(recipe, Gate())
    assert again.verdict == "nothing to do"
    assert again.reason == "every step is reused, and the champion is this model (version 1)"


def _root(recipe):
    from pipeline_lib.store.remote import open_store

    return open_store(recipe.execution.store).root


def test_a_better_challenger_takes_the_place_and_a_rollback_gives_it_back(recipe, registry, tmp_path):
    retrain(untaught(recipe), Gate())
    grow(tmp_path)
    training = recipe.training.model_copy(update={"epochs": 20})
    recipe = recipe.model_copy(update={"training": training})  # all rows right, so that the difference is certain
    better = retrain(recipe, Gate())
    assert (better.verdict, better.version, better.champion) == ("promoted", 2, 1)
    assert better.numbers["accuracy.bound"] > 0
    assert better.numbers["new_rows"] == 2
    assert registry.champion().number == 2
    assert json.loads(registry.champion().tags["tunesmith.numbers"])["accuracy.gain"] > 0
    said = CliRunner().invoke(app, ["rollback", recipe.name, "--tracking-uri", recipe.execution.tracking_uri])
    assert said.exit_code == 0, said.output
    assert f"{recipe.name}: version 1 is the champion again" in said.output
    assert registry.champion().number == 1
    again = retrain(recipe, Gate())
    assert (again.verdict, registry.champion().number) == ("nothing to do", 1)
    assert "(version 2) was rolled back by" in again.reason
    said = CliRunner().invoke(app, ["rollback", recipe.name, "--tracking-uri", recipe.execution.tracking_uri])
    assert said.exit_code == 2
    assert "had no champion before version 1. There is no version to roll back to." in said.output


def test_a_worse_challenger_is_registered_with_the_reason_and_refused(recipe, registry, tmp_path):
    retrain(recipe, Gate())
    grow(tmp_path)
    worse = retrain(untaught(recipe), Gate(margin=0.1))
    assert (worse.verdict, worse.version, worse.champion) == ("refused", 2, 1)
    assert "the challenger is not shown to be no more than 0.1 worse than the champion in accuracy" in worse.reason
    assert registry.champion().number == 1
    assert registry.versions()[0].tags["tunesmith.reason"] == worse.reason
    again = retrain(untaught(recipe), Gate(margin=0.1))
    assert again.verdict == "nothing to do"
    assert f"(version 2) was refused: {worse.reason}" in again.reason
    eased = retrain(untaught(recipe), Gate(margin=1))  # another gate judges anew, with nothing trained
    assert (eased.verdict, eased.version, registry.champion().number) == ("promoted", 2, 2)


def test_a_floor_holds_back_even_a_first_model(recipe, registry):
    refused = retrain(untaught(recipe), Gate(floors=[{"metric": "accuracy", "bound": 0.99}]))
    assert refused.verdict == "refused"
    assert "beyond its bound of 0.99" in refused.reason
    assert registry.champion() is None


def test_the_champion_answers_today_as_its_own_evaluation_did(recipe, registry, tmp_path):
    """Fetched from MLflow, with its own tokenizer, on rows that another run has encoded."""
    from pipeline_lib.evaluation.predictions_file import read_predictions
    from pipeline_lib.pipeline import steps
    from pipeline_lib.pipeline.run import run
    from pipeline_lib.retrain.steps import rescore

    recipe = recipe.model_copy(update={"strategies": (LoRA(kind="lora", rank=2),)})
    retrain(recipe, Gate())
    before = read_predictions(run(recipe).scores.folder)
    grow(tmp_path)
    prepared = steps.prepare(recipe)
    found = read_predictions(rescore(recipe, prepared, registry, registry.champion(), "a test").folder)
    assert (found.rows == before.rows).all()
    np.testing.assert_allclose(found.outcome.probabilities, before.outcome.probabilities, atol=1e-5)


def test_other_labels_stop_before_anything_is_trained(recipe, registry, tmp_path, monkeypatch):
    retrain(recipe, Gate())
    grow(tmp_path, rows=["the sky is grey,calm", "a grey sky,calm"])
    monkeypatch.setattr(whole, "run", lambda *_: pytest.fail("was trained"))
    with pytest.raises(RecipeError, match=r"has other labels than the champion \(new: calm\). Fix the data"):
        retrain(recipe, Gate())
    assert registry.champion().number == 1


def test_drift_is_reported_and_blocks_above_its_limit(recipe, tmp_path, monkeypatch):
    retrain(recipe, Gate())
    grow(tmp_path, rows=[f"unheard words {index},glad" for index in range(30)])
    monkeypatch.setattr(whole, "run", lambda *_: pytest.fail("was trained"))
    blocked = retrain(recipe, Gate(drift={"labels": 0.2, "words": 0.5, "least_rows": 20}))
    assert (blocked.verdict, blocked.version) == ("blocked", None)
    assert "words drifted by 1.000 (limit 0.5)" in blocked.reason
    assert "labels drifted by 0.5" in blocked.reason
    assert "over 30 new rows" in blocked.reason


def test_the_default_gate_warns_before_training_of_few_rows_and_blocks_many(recipe, tmp_path, monkeypatch, caplog):
    retrain(untaught(recipe), Gate())
    grow(tmp_path, rows=[f"unheard words {index},glad" for index in range(20)])
    decision = retrain(untaught(recipe), Gate())
    assert decision.verdict != "blocked"
    warned = "The 20 new rows differ from the champion's data, too few to block (gate.drift.least_rows is 100)"
    assert warned in caplog.text and "words drifted by 1.000 (limit 0.5)" in caplog.text
    monkeypatch.setattr(whole, "run", lambda *_: pytest.fail("was trained"))
    grow(tmp_path, "3.csv", rows=[f"unheard things {index},glad" for index in range(100)])
    blocked = retrain(untaught(recipe), Gate())
    assert blocked.verdict == "blocked"
    assert "words drifted by 1.000 (limit 0.5)" in blocked.reason


EMBEDDINGS_ONLY = {"embeddings": 0.5, "labels": None, "length": None, "words": None, "least_rows": 50}


def test_drift_by_embeddings_blocks_past_its_limit_and_is_left_out_for_another_base(recipe, tmp_path, tiny):
    recipe = untaught(recipe)
    retrain(recipe, Gate())
    grow(tmp_path, rows=[f"unheard words {index},{mood}" for index in range(30) for mood in ("glad", "sad")])
    blocked = retrain(recipe, Gate(drift=EMBEDDINGS_ONLY))
    assert (blocked.verdict, blocked.notes) == ("blocked", ())
    assert blocked.reason.startswith("embeddings drifted by 1.000 (limit 0.5) over 60 new rows")
    other = recipe.model_copy(update={"model": recipe.model.model_copy(update={"base": str(tiny["bert"])})})
    decision = retrain(other, Gate(drift=EMBEDDINGS_ONLY))
    assert decision.notes == ("drift of embeddings is unknown: the champion was trained from another base",)
    assert decision.version == 2
    assert "drift.words" in decision.numbers and "drift.embeddings" not in decision.numbers


def test_several_seeds_are_judged_together_on_the_same_rows(recipe, registry):
    retrain(untaught(recipe), Gate())
    decision = retrain(recipe, Gate(seeds=3, margin=1))
    assert decision.verdict == "promoted", decision.reason
    assert {"accuracy.bound", "accuracy.seeds.bound"} <= decision.numbers.keys()
    assert len(registry.versions()) == 2  # of three challengers one is registered
    assert retrain(recipe, Gate(seeds=3, margin=1)).verdict == "nothing to do"


def test_a_champion_is_not_judged_against_itself(recipe, registry, monkeypatch):
    retrain(recipe, Gate())
    monkeypatch.setattr(promotion, "median", lambda _: 0)  # the recipe's own seed
    decision = retrain(recipe, Gate(seeds=2))
    assert decision.reason == "the median of 2 challengers was chosen, and the champion is this model (version 1)"
    assert registry.champion().tags["tunesmith.verdict"] == "promoted"


ANY = Gate(margin=1)
"""A challenger passes, whatever it has learned."""


@pytest.mark.parametrize("moment", ["register", "promote"])
def test_a_kill_before_the_alias_leaves_the_champion_and_a_rerun_goes_on(recipe, registry, moment, monkeypatch):
    retrain(untaught(recipe), Gate())
    monkeypatch.setattr(Registry, moment, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        retrain(recipe, ANY)
    monkeypatch.undo()
    assert registry.champion().number == 1
    done = retrain(recipe, ANY)
    assert (done.verdict, done.version) == ("promoted", 2)
    assert (registry.champion().number, len(registry.versions())) == (2, 2)


def test_a_champion_that_changed_meanwhile_is_not_replaced_unjudged(recipe, registry, tmp_path):
    retrain(untaught(recipe), Gate())
    stale = registry.champion()
    retrain(recipe, ANY)
    with pytest.raises(RecipeError, match=r"has another champion now \(version 2\). Run again"):
        registry.promote(Version(3, "models:/m-0", {}), stale)


def test_another_objective_is_another_model(recipe, document):
    retrain(recipe, Gate())
    document["objective"] = {"kind": "language_modeling", "modeling": "masked"}
    document["data"]["source"].pop("test")
    with pytest.raises(RecipeError, match="has a champion that was trained for text_classification. Set another"):
        retrain(check(document), Gate())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["mood", "glad"], "data.columns.text = 'text': is not a column of 2.csv"),
        (["text,mood", *["a song,glad"] * 9, "no mood,"], "1 of 10 rows of 2.csv are unusable"),
    ],
    ids=["schema changed", "too many bad rows"],
)
def test_data_that_is_not_fit_stops_before_anything_is_trained(recipe, registry, tmp_path, monkeypatch, rows, message):
    retrain(recipe, Gate())
    (tmp_path / "rows" / "2.csv").write_text("\n".join(rows) + "\n")
    monkeypatch.setattr(whole, "run", lambda *_: pytest.fail("was trained"))
    with pytest.raises(RecipeError, match=message):
        retrain(recipe, Gate())
    assert registry.champion().number == 1
