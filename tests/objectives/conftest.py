"""What the tests of objectives share: a recipe over rows of their own, and the scores of its run."""

import json

import pytest

from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import check

PUBLISHED = {"seq2seq": "t5", "causal_lm": "gpt2", "preference": "llama"}
"""The family whose run MLflow is sent, by objective; BERT's for the others."""


@pytest.fixture
def trained(document, tiny, tmp_path, request):
    """A function: rows, objective, family and further changes -> the run's outcome and its scores by name."""

    def train(rows, family, objective, columns=None, **changes):
        (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
        document["data"]["source"] = {"kind": "jsonl", "train": str(tmp_path / "rows.jsonl")}
        document["data"]["columns"] = columns or {}
        document["model"]["base"], document["objective"] = str(tiny[family]), objective
        document["training"] |= changes.pop("training", {})
        if family != PUBLISHED.get(objective["kind"], "bert"):
            request.getfixturevalue("unpublished")
        outcome = run(check(document | changes))
        metrics = json.loads((outcome.scores.folder / "metrics.json").read_text())
        return outcome, {name: score["value"] for name, score in metrics["metrics"].items()}

    return train
