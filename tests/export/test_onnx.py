"""An exported graph answers in ONNX Runtime as the evaluation did. `pytest tests/export/test_onnx.py`."""

import json
import shutil

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline_lib.errors import RecipeError
from pipeline_lib.export.export import export

LORA, PROMPT = {"kind": "lora", "rank": 2}, {"kind": "prompt", "length": 3}
CAUSAL, SPANS = (
    {"objective": {"kind": "language_modeling", "modeling": kind, "block_size": 8}, "evaluation": {}}
    for kind in ("causal", "span_corruption")
)
MODELS = {
    "bottlenecks on lora": ("bert", [LORA | {"targets": ["output.dense"]}, {"kind": "bottleneck", "size": 4}]),
    "a prompt in all layers": ("bert", [PROMPT | {"depth": "all"}]),
    "a decoder": ("gpt2", [{"kind": "full"}]),
}


@pytest.mark.parametrize(
    ("family", "strategies"),
    [
        pytest.param(*model, id=name, marks=() if name == "bottlenecks on lora" else pytest.mark.matrix)
        for name, model in MODELS.items()
    ],
)
def test_onnx_runtime_answers_as_the_evaluation_did(ran, family, strategies):
    trained = ran(strategies, family)
    out = export(trained.recipe, trained.out, format="onnx")
    rows = pq.read_table(trained.outcome.scores.folder / "predictions.parquet").to_pylist()
    tokenizer, session = AutoTokenizer.from_pretrained(out), onnxruntime.InferenceSession(out / "model.onnx")
    encoded = tokenizer([row["text"] for row in rows], padding=True, padding_side="right", return_tensors="np")
    (logits,) = session.run(None, {entry.name: encoded[entry.name] for entry in session.get_inputs()})
    labels = json.loads((out / "config.json").read_text())["id2label"]
    assert [labels[str(best)] for best in logits.argmax(-1)] == [row["prediction"] for row in rows]
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    expected = [row["probability"] for row in rows]
    assert (shares / shares.sum(-1, keepdims=True)).max(-1) == pytest.approx(expected, abs=2e-5)
    assert [entry.shape for entry in session.get_inputs()] == [["rows", "tokens"]] * 2


@pytest.mark.matrix
def test_a_pair_says_which_text_a_token_belongs_to(ran, document, tiny, tmp_path):
    base = shutil.copytree(tiny["bert"], tmp_path / "base")
    settings = json.loads((base / "tokenizer_config.json").read_text())
    settings["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    (base / "tokenizer_config.json").write_text(json.dumps(settings))
    columns = document["data"]["columns"] | {"text_pair": "mood"}
    trained = ran([{"kind": "partial"}], model={"base": str(base)}, data=document["data"] | {"columns": columns})
    out = export(trained.recipe, trained.out, format="onnx")
    row = pq.read_table(trained.outcome.scores.folder / "predictions.parquet").to_pylist()[0]
    encoded = AutoTokenizer.from_pretrained(out)(row["text"], row["text_pair"], return_tensors="np")
    session = onnxruntime.InferenceSession(out / "model.onnx")
    assert [entry.name for entry in session.get_inputs()] == ["input_ids", "attention_mask", "token_type_ids"]
    (logits,) = session.run(None, dict(encoded))
    assert float(torch.tensor(logits[0]).softmax(-1).max()) == pytest.approx(row["probability"], abs=2e-5)


@pytest.mark.matrix
def test_a_decoder_gives_the_logits_of_each_token(ran):
    trained = ran([LORA], "llama", **CAUSAL)
    plain, out = (
        export(trained.recipe, trained.out.with_name("merged")),
        export(trained.recipe, trained.out, format="onnx"),
    )
    ids = torch.tensor([[120, 121, 122, 123, 124]])
    session = onnxruntime.InferenceSession(out / "model.onnx")
    (logits,) = session.run(None, {"input_ids": ids.numpy(), "attention_mask": torch.ones_like(ids).numpy()})
    assert logits == pytest.approx(AutoModelForCausalLM.from_pretrained(plain)(ids).logits.detach().numpy(), abs=1e-4)
    assert [entry.shape[:2] for entry in session.get_outputs()] == [["rows", "tokens"]]


REFUSED = {
    "a writer": ("t5", [LORA], SPANS, "runs its decoder once per generated token"),
    "a prompt after the text": (
        "bert",
        [PROMPT | {"position": "after"}],
        {},
        "a different position in each padded row",
    ),
}


@pytest.mark.parametrize(("family", "strategies", "changes", "problem"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_one_graph_is_refused(ran, family, strategies, changes, problem):
    trained = ran(strategies, family, **changes)
    with pytest.raises(RecipeError, match=problem):
        export(trained.recipe, trained.out, format="onnx")
    assert not trained.out.exists()
