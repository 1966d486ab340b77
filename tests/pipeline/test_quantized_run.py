"""A run on a quantised base, from data to a served, scored and exported model, and what is refused.

pytest tests/pipeline/test_quantized_run.py
"""

import json
import re
from importlib import metadata
from pathlib import Path

import mlflow
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from loops import loop_of

from pipeline_lib.api.predictor import Predictor
from pipeline_lib.errors import RecipeError
from pipeline_lib.export import quantized as comparison
from pipeline_lib.export.export import export
from pipeline_lib.models.building import CARD
from pipeline_lib.models.quantized_weights import quantized_modules
from pipeline_lib.pipeline import fingerprints, steps
from pipeline_lib.pipeline.plan import plan
from pipeline_lib.pipeline.run import run
from pipeline_lib.preflight import packages
from pipeline_lib.recipe.schema import check
from pipeline_lib.scoring import score as scoring
from pipeline_lib.scoring.request import Scoring
from pipeline_lib.store import artifacts
from pipeline_lib.util.signals import Pruned

LORA = {"kind": "lora", "rank": 4}
NF4 = {"kind": "nf4"}


@pytest.fixture
def recipe_of(document, tiny):
    """recipe_of(quantization, strategy): the tiny recipe with one strategy on a Llama."""

    def changed(quantization, strategy=LORA, **changes):
        document["model"] = {"base": str(tiny["llama"]), "quantization": quantization}
        document["strategies"] = [strategy]
        document["training"] |= {"epochs": 3, "learning_rate": 1e-3}
        return check(document | changes)

    return changed


def answers_of(outcome):
    return pq.read_table(outcome.scores.folder / "predictions.parquet").to_pandas()


@pytest.mark.parametrize("kind", ["nf4", pytest.param("int8", marks=pytest.mark.matrix)])
def test_a_run_is_served_scored_and_exported(recipe_of, tmp_path, kind):
    recipe = recipe_of({"kind": kind})
    outcome = run(recipe)
    assert json.loads((outcome.model_folder / CARD).read_text())["quantization"]["kind"] == kind
    answers = answers_of(outcome)
    served = Predictor.load(outcome).predict(pd.DataFrame({"text": answers["text"]}))
    assert list(served["prediction"]) == list(answers["prediction"])
    assert list(served["probability"]) == pytest.approx(list(answers["probability"]), abs=1e-6)
    pq.write_table(pa.table({"text": answers["text"]}), tmp_path / "rows.parquet")
    folders = {"data": str(tmp_path / "rows.parquet"), "out": str(tmp_path / "out"), "device": "cpu"}
    request = Scoring(model=str(outcome.model.folder), store=recipe.execution.store, **folders)
    scoring.score(request, scoring.fetch_model(request), *scoring.files(request))
    (scored,) = (tmp_path / "out").glob("*.parquet")
    assert pq.read_table(scored)["prediction"].to_pylist() == list(answers["prediction"])
    mlflow.set_tracking_uri(recipe.execution.tracking_uri)
    needed = Path(mlflow.pyfunc.get_model_dependencies(outcome.published["model"])).read_text()
    assert f"bitsandbytes=={metadata.version('bitsandbytes')}" in needed
    card = (export(outcome.model.folder, tmp_path / "plain") / "README.md").read_text()
    assert re.search(rf"evaluated on its base in {kind}.*\n.*on 12 rows, outputs differ by \d", card)
    assert "quantization_config" not in json.loads((tmp_path / "plain" / "config.json").read_text())


def test_an_export_that_is_too_far_from_what_was_evaluated_is_refused(recipe_of, tmp_path, monkeypatch):
    outcome = run(recipe_of(NF4))
    monkeypatch.setattr(comparison, "TOLERANCE", 1e-4)
    with pytest.raises(RecipeError, match=r"model.quantization = 'nf4': changes the outputs on 12 rows by \d"):
        export(outcome.model.folder, tmp_path / "plain")
    assert not (tmp_path / "plain").exists()


def test_a_resumed_training_ends_with_the_same_bytes(recipe_of, tmp_path):
    recipe = recipe_of(NF4)
    whole = loop_of(recipe, tmp_path / "whole")
    whole.run()
    stopped = loop_of(recipe, tmp_path / "resumed")
    stopped.watch = lambda records, steps: "stop" if any(r["split"] == "validation" for r in records) else None
    with pytest.raises(Pruned):
        stopped.run()
    resumed = loop_of(recipe, tmp_path / "resumed")
    resumed.run()
    expected = dict(whole.model.named_parameters())
    assert list(quantized_modules(resumed.model))
    for name, weight in resumed.model.named_parameters():
        assert torch.equal(weight, expected[name]), name


def test_another_quantisation_is_another_model(recipe_of):
    run(recipe_of(None))
    anew = [step for step in plan(recipe_of(NF4)).planned if not step.artifact]
    assert [step.step for step in anew] == ["initialise", "checks", "finetune", "evaluate"]
    assert 'quantization.kind nothing → "nf4"' in anew[0].why


def test_the_version_of_bitsandbytes_counts_where_it_is_used(recipe_of, monkeypatch):
    def identities(quantization):
        recipe = recipe_of(quantization)
        computed = (fingerprints.checks_step, fingerprints.finetune_step, fingerprints.evaluate_step)
        return [
            fingerprints.initialise_step(recipe, {}, []).fingerprint,
            *(s(recipe, {}).fingerprint for s in computed),
        ]

    used, unused, version = identities(NF4), identities(None), artifacts.version
    monkeypatch.setattr(artifacts, "version", lambda name: "0.51" if name == "bitsandbytes" else version(name))
    assert not set(identities(NF4)) & set(used)
    assert identities(None) == unused


def test_cached_outputs_of_a_quantised_base_are_its_own(recipe_of):
    for step in (
        lambda recipe: fingerprints.features_step(recipe, {}, 1),
        lambda r: fingerprints.reference_step(r, {}),
    ):
        assert len({step(recipe_of(kind)).fingerprint for kind in (None, NF4, {"kind": "int8"})}) == 3


@pytest.mark.parametrize("strategy", [{"kind": "full"}, {"kind": "partial", "last_layers": 1}])
def test_training_the_matrices_themselves_is_refused_with_the_recipe(recipe_of, strategy):
    with pytest.raises(
        RecipeError, match="strategies.0 = '.*': trains matrices in the blocks, which model.quantization"
    ):
        recipe_of(NF4, strategy)


def test_patterns_that_select_quantised_matrices_are_refused_before_training(recipe_of):
    recipe = recipe_of(NF4, {"kind": "partial", "patterns": ["*q_proj*"]})
    with pytest.raises(RecipeError, match=r"selects model.layers.0.self_attn.q_proj.weight, which model.quantization"):
        steps.initialise(recipe, steps.prepare(recipe))


def test_a_missing_package_is_reported_by_plan_and_doctor(recipe_of, monkeypatch):
    recipe, installed = recipe_of(NF4), packages.installed_version
    changed = {"bitsandbytes": None}
    monkeypatch.setattr(packages, "installed_version", lambda name: changed.get(name, installed(name)))
    with pytest.raises(RecipeError, match=r"needs packages that are not installed \(bitsandbytes.*\[quantization\]"):
        plan(recipe)
    assert packages.check_optional_packages(recipe).status == "failed"
    assert packages.check_optional_packages(None).status == "ok"
