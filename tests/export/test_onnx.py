"""An exported graph answers in ONNX Runtime as the evaluation did. `pytest tests/export/test_onnx.py`."""

import json

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from pipeline_lib.export.export import export

LORA, PROMPT = {"kind": "lora", "rank": 2}, {"kind": "prompt", "length": 3}
MODELS = {
    "lora in an encoder": ("bert", [LORA]),
    "bottlenecks on lora": ("bert", [LORA | {"targets": ["output.dense"]}, {"kind": "bottleneck", "size": 4}]),
    "a prompt in all layers": ("bert", [PROMPT | {"depth": "all"}]),
    "a decoder": ("gpt2", [{"kind": "full"}]),
    "an encoder-decoder": ("t5", [LORA]),
}


@pytest.mark.parametrize(("family", "strategies"), MODELS.values(), ids=MODELS)
def test_onnx_runtime_answers_as_the_evaluation_did(ran, family, strategies):
    made = ran(strategies, family)
    out = export(made.recipe, made.out, format="onnx")
    rows = pq.read_table(made.outcome.scores.folder / "predictions.parquet").to_pylist()
    tokenizer, session = AutoTokenizer.from_pretrained(out), onnxruntime.InferenceSession(out / "model.onnx")
    encoded = tokenizer([row["text"] for row in rows], padding=True, padding_side="right", return_tensors="np")
    (logits,) = session.run(None, {entry.name: encoded[entry.name] for entry in session.get_inputs()})
    labels = json.loads((out / "config.json").read_text())["id2label"]
    assert [labels[str(best)] for best in logits.argmax(-1)] == [row["prediction"] for row in rows]
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    expected = [row["probability"] for row in rows]
    assert (shares / shares.sum(-1, keepdims=True)).max(-1) == pytest.approx(expected, abs=2e-5)
    assert [entry.shape for entry in session.get_inputs()] == [["rows", "tokens"]] * 2
