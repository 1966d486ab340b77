"""A short run to export."""

import json
from types import SimpleNamespace

import pytest

from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import check


@pytest.fixture
def ran(document, tiny, tmp_path):
    """ran(strategies, family): the outcome of a short run, its recipe's file, and a folder that is still free."""

    def train(strategies, family="bert", **changes):
        document["model"]["base"], document["strategies"] = str(tiny[family]), strategies
        document["training"]["epochs"] = 2
        document["evaluation"] = {"baselines": ["majority"], "slices": [{"kind": "length", "edges": [8]}]}
        path = tmp_path / "moods.yaml"
        path.write_text(json.dumps(document | changes), encoding="utf-8")
        return SimpleNamespace(outcome=run(check(document | changes)), recipe=path, out=tmp_path / "plain")

    return train
