"""A base without a chat template learns a behaviour of two turns, and shows it when served."""

import itertools
import json

import mlflow
import pandas as pd
import pytest

from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import check

TEMPLATE = (
    "{% for m in messages %}{{ ' by ' if m.role == 'user' else ' my ' }}{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content }} [SEP] {% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %} my {% endif %}"
)
THINGS = ["soup", "song", "tea", "mill"]
KINDS = ["cold", "fine", "sweet", "warm"]
PLACES = ["home", "town", "sea", "train"]


def conversations():
    """What the user has, and where; then which kind of thing it was, or where."""
    for thing, kind, place, question in itertools.product(THINGS, KINDS, PLACES, ("what", "in")):
        yield [
            {"role": "user", "content": f"the {kind} {thing} at {place}"},
            {"role": "assistant", "content": f"a {thing}"},
            {"role": "user", "content": question},
            {"role": "assistant", "content": kind if question == "what" else place},
        ]


@pytest.fixture
def outcome(document, tiny, tmp_path):
    """A run on conversations of which a third is set aside."""
    rows = "\n".join(json.dumps({"messages": messages}) for messages in conversations())
    (tmp_path / "chats.jsonl").write_text(rows, encoding="utf-8")
    document["data"] = {
        "source": {"kind": "jsonl", "train": str(tmp_path / "chats.jsonl")},
        "columns": {"messages": "messages"},
        "split": {"validation": 0.1, "test": 0.3},
        "checks": {"near_duplicates": "ignore"},
    }
    document["model"]["base"] = str(tiny["llama"])
    document["objective"] = {"kind": "causal_lm", "chat_template": TEMPLATE, "max_answer": 4}
    document["training"] = {"epochs": 30, "learning_rate": 1e-2, "batch_size": 16}
    document["evaluation"] = {"baselines": ["untrained"], "metrics": ["exact_match"]}
    return run(check(document))


def test_the_second_answer_depends_on_the_first_turn_when_served(outcome, tracking_uri, tmp_path):
    metrics = json.loads((outcome.scores.folder / "metrics.json").read_text())
    assert metrics["metrics"]["exact_match"]["value"] > 0.9
    mlflow.set_tracking_uri(tracking_uri)
    served = mlflow.pyfunc.load_model(outcome.published["model"])
    begun = lambda kind, place: [  # noqa: E731
        {"role": "user", "content": f"the {kind} soup at {place}"},
        {"role": "assistant", "content": "a soup"},
    ]
    requests = [
        [*begun("cold", "home"), {"role": "user", "content": "what"}],
        [*begun("warm", "home"), {"role": "user", "content": "what"}],
        [*begun("cold", "sea"), {"role": "user", "content": "in"}],
    ]
    answers = served.predict(pd.DataFrame({"prompt": requests}))
    assert answers["prediction"].tolist() == ["cold", "warm", "sea"]
