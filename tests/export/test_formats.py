"""What holds for several formats of an export. `pytest tests/export/test_formats.py`."""

import json
import sys

import onnxruntime
import pyarrow.parquet as pq
import pytest
import torch
from conftest import MOODS, PLACES
from peft import PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from pipeline_lib.errors import RecipeError
from pipeline_lib.export.export import export


@pytest.mark.parametrize(("format", "package"), [("gguf", "gguf"), ("onnx", "onnxruntime")])
def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch, format, package):
    monkeypatch.setitem(sys.modules, package, None)
    problem = rf"needs packages that are not installed \({package}\). Install them: pip .* '.\[{format}\]'"
    with pytest.raises(RecipeError, match=problem):
        export(tmp_path / "recipe.yaml", tmp_path / "out", format=format)


def test_numbers_are_predicted_in_the_unit_of_the_data(ran, document, tiny, tmp_path):
    rows = [
        {"text": f"{text} {place}", "label": 1000.0 + 20 * (mood == "glad")}
        for mood, texts in MOODS.items()
        for text in texts
        for place in PLACES
    ]
    (tmp_path / "numbers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = {"source": {"kind": "jsonl", "train": "numbers.jsonl"}, "columns": {"text": "text", "label": "label"}}
    objective = {"kind": "text_classification", "problem_type": "regression"}
    trained = ran([{"kind": "lora"}], "bert", data=document["data"] | source, objective=objective, evaluation={})
    row = pq.read_table(trained.outcome.scores.folder / "predictions.parquet").to_pylist()[0]

    adapter = export(trained.recipe, tmp_path / "adapter", format="peft")
    config = AutoConfig.from_pretrained(adapter)
    model = PeftModel.from_pretrained(
        AutoModelForSequenceClassification.from_pretrained(tiny["bert"], config=config), adapter
    )
    encoded = AutoTokenizer.from_pretrained(adapter)(row["text"], return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        assert model.eval()(**encoded).logits.item() == pytest.approx(row["prediction"], abs=0.01)

    session = onnxruntime.InferenceSession(export(trained.recipe, trained.out, format="onnx") / "model.onnx")
    (logits,) = session.run(None, {name: values.numpy() for name, values in encoded.items()})
    assert logits.item() == pytest.approx(row["prediction"], abs=0.01)
