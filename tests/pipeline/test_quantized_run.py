"""A run over a quantised base, from data to a scored, served and exported model.

pytest tests/pipeline/test_quantized_run.py
"""

import json

import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipeline_lib.api.predictor import Predictor
from pipeline_lib.export.export import export
from pipeline_lib.models.building import CARD
from pipeline_lib.pipeline.plan import plan
from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import check

LORA = {"kind": "lora", "rank": 4}


@pytest.fixture
def quantized(document, tiny):
    """quantized(kind, family): the tiny recipe with LoRA on a quantised base."""

    def recipe_of(kind, family="llama", strategies=(LORA,), **changes):
        document["model"] = {"base": str(tiny[family]), "quantization": {"kind": kind} if kind else None}
        document["strategies"] = list(strategies)
        document["regularizers"] = [{"kind": "dropout", "value": 0.0}]
        document["training"] |= {"epochs": 4, "learning_rate": 1e-3}
        return check(document | changes)

    return recipe_of


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_run_is_scored_served_and_exported(quantized, tmp_path, kind):
    recipe = quantized(kind)
    outcome = run(recipe)
    assert all(step.artifact for step in plan(recipe).planned if step.kept)
    model = outcome.model.folder / "model"
    assert json.loads((model / CARD).read_text())["quantization"]["kind"] == kind
    summary = json.loads((outcome.model.folder / "summary.json").read_text())
    plain = run(quantized(None))
    assert summary["parameters"] == json.loads((plain.model.folder / "summary.json").read_text())["parameters"]
    rows = pq.read_table(outcome.scores.folder / "predictions.parquet").to_pandas()
    served = Predictor.load(outcome.model.folder).predict(pd.DataFrame({"text": rows["text"]}))
    assert list(served["prediction"]) == list(rows["prediction"])
    assert list(served["probability"]) == pytest.approx(list(rows["probability"]), abs=1e-6)
    out = export(outcome.model.folder, tmp_path / "plain")
    card = (out / "README.md").read_text()
    assert f"trained and evaluated on its base in {kind}" in card
    assert "quantization_config" not in json.loads((out / "config.json").read_text())
