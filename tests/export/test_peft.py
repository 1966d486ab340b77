"""An exported adapter loads with PEFT, and answers as the evaluation did. `pytest tests/export/test_peft.py`."""

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from typer.testing import CliRunner

from pipeline_lib.cli.main import app
from pipeline_lib.errors import RecipeError
from pipeline_lib.export.export import export
from pipeline_lib.export.peft import write_adapter
from pipeline_lib.store.lineage import lineage_of_folder

LORA, PROMPT = {"kind": "lora", "rank": 2}, {"kind": "prompt", "length": 3}
CAUSAL = {"objective": {"kind": "language_modeling", "modeling": "causal", "block_size": 8}, "evaluation": {}}
MASKED = {"objective": {"kind": "language_modeling", "modeling": "masked", "block_size": 8}, "evaluation": {}}
WORDS = [{"label": "glad", "words": ["fine"]}, {"label": "sad", "words": ["cold"]}]
CLOZE = {"objective": {"kind": "text_classification", "cloze": {"template": "{text} {mask}", "verbalizer": WORDS}}}
ADAPTERS = {
    "lora in an encoder": ("bert", [LORA]),
    "dora in a decoder": ("gpt2", [LORA | {"dora": True}]),
    "rslora": ("llama", [LORA | {"rslora": True}, {"kind": "layerwise_lr", "decay": 0.9}]),
    "lora in an encoder-decoder": ("t5", [LORA]),
    "ia3": ("bert", [{"kind": "ia3"}]),
    "ia3 in a decoder": ("gpt2", [{"kind": "ia3"}]),
    "layer norms": ("bert", [{"kind": "ln_tuning"}]),
}


def with_adapter(kind, base, folder):
    return PeftModel.from_pretrained(
        kind.from_pretrained(base, config=AutoConfig.from_pretrained(folder)), folder
    ).eval()


@pytest.mark.parametrize(
    ("family", "strategies"),
    [
        pytest.param(*adapter, id=name, marks=() if index < 2 else pytest.mark.matrix)
        for index, (name, adapter) in enumerate(ADAPTERS.items())
    ],
)
def test_peft_answers_as_the_evaluation_did(ran, tiny, family, strategies):
    trained = ran(strategies, family)
    out = export(trained.recipe, trained.out, format="peft")
    model = with_adapter(AutoModelForSequenceClassification, tiny[family], out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    for row in pq.read_table(trained.outcome.scores.folder / "predictions.parquet").to_pylist():
        with torch.no_grad():
            logits = model(**tokenizer(row["text"], return_tensors="pt", return_token_type_ids=False)).logits[0]
        assert model.config.id2label[int(logits.argmax())] == row["prediction"]
        assert float(logits.softmax(-1).max()) == pytest.approx(row["probability"], abs=2e-5)
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == str(tiny[family])


def test_an_adapter_has_the_names_that_its_readers_expect(ran):
    trained = ran([LORA], "llama", **CAUSAL)
    weights = load_file(export(trained.recipe, trained.out, format="peft") / "adapter_model.safetensors")
    assert "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" in weights
    assert all(name.endswith((".lora_A.weight", ".lora_B.weight")) for name in weights)
    assert json.loads((trained.out / "adapter_config.json").read_text())["task_type"] == "CAUSAL_LM"
    assert "PeftModel.from_pretrained(base, FOLDER)" in (trained.out / "README.md").read_text()


def test_a_hub_base_is_named_with_its_revision(ran, tmp_path):
    trained = ran([LORA], "llama", **CAUSAL)
    lineage = replace(lineage_of_folder(trained.outcome.model.folder), base_name="org/name", revision="abc")
    write_adapter(lineage, tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/name", "abc")


def test_a_learned_prompt_before_the_whole_text_is_peft_s_prompt_tuning(ran, tiny):
    trained = ran([PROMPT], "gpt2", **CAUSAL)
    out = export(trained.recipe, trained.out, format="peft")
    model = with_adapter(AutoModelForCausalLM, tiny["gpt2"], out)
    ids = torch.tensor([[7, 8, 9]])
    assert list(model(input_ids=ids).logits.shape[:2]) == [1, 6]
    learned = load_file(trained.outcome.model.folder / "model" / "trained.safetensors")
    assert torch.equal(model.get_prompt(1)[0], learned["transformer.wte.prompt"])


REFUSED = {
    "all weights": ("bert", [{"kind": "full"}], {}, "all weights of its base were trained"),
    "the head": ("bert", [{"kind": "partial"}], {}, "the model has no adapter"),
    "a layer beside lora": ("bert", [{"kind": "partial", "last_layers": 1}, LORA], {}, "besides 'lora', such as bert"),
    "two adapters": ("bert", [{"kind": "ln_tuning"}, LORA], {}, "but the model has 'ln_tuning' and 'lora'"),
    "bottleneck": ("bert", [{"kind": "bottleneck", "size": 4}], {}, "'bottleneck' has no counterpart in PEFT"),
    "a head beside a prompt": (
        "gpt2",
        [PROMPT],
        {},
        r"does not save a new head \(score.weight\) together with a learned prompt",
    ),
    "a prompt after a special token": ("bert", [PROMPT], CLOZE, r"puts learned prompts before \[CLS\]"),
    "a prompt in a masked model": ("bert", [PROMPT], MASKED, "no prompt tuning for BertForMaskedLM"),
    "a prompt in all layers": ("gpt2", [PROMPT | {"depth": "all"}], CAUSAL, "with depth all and position before"),
}


@pytest.mark.parametrize(("family", "strategies", "changes", "problem"), REFUSED.values(), ids=REFUSED)
def test_what_peft_cannot_hold_is_refused(ran, family, strategies, changes, problem):
    trained = ran(strategies, family, **changes)
    with pytest.raises(RecipeError, match=problem):
        export(trained.recipe, trained.out, format="peft")
    assert not trained.out.exists()


def test_the_command_takes_the_format(ran):
    trained = ran([LORA])
    said = CliRunner().invoke(app, ["export", str(trained.recipe), str(trained.out), "--format", "peft"])
    assert (said.exit_code, said.stdout.splitlines()[0]) == (0, f"written to {trained.out}")
    assert (trained.out / "adapter_config.json").is_file()
