"""An export loads with plain transformers, and answers as the evaluation did. `pytest tests/export/test_export.py`."""

import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import yaml
from conftest import word_tokenizer
from contract import keeps_its_promises
from families import write_family
from typer.testing import CliRunner

from pipeline_lib.cli.main import app
from pipeline_lib.errors import RecipeError
from pipeline_lib.export.export import export
from pipeline_lib.export.huggingface import write_plain
from pipeline_lib.models.building import TRAINED
from pipeline_lib.pipeline.run import run
from pipeline_lib.recipe.schema import check
from pipeline_lib.store.lineage import Lineage

LORA, PARTIAL = {"kind": "lora", "rank": 2}, {"kind": "partial", "last_layers": 1}
STRATEGIES = {
    "full": [{"kind": "full"}],
    "partial": [PARTIAL],
    "lora": [LORA],
    "dora": [LORA | {"dora": True}],
    "ia3": [{"kind": "ia3"}],
    "partial and lora": [PARTIAL, LORA],
}
pytestmark = pytest.mark.usefixtures("unpublished")
PLAIN = """
import json, sys, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

def answer(folder, texts):
    model, told = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    answers = []
    for text in texts:
        with torch.no_grad():
            logits = model.eval()(**tokenizer(text, return_tensors="pt", return_token_type_ids=False)).logits[0]
        best = int(logits.argmax())
        answers.append([model.config.id2label[best], float(logits.softmax(-1)[best])])
    ours = [name for name in sys.modules if name.startswith("pipeline_lib") or name == "peft"]
    lost = [str(key) for name in ("missing_keys", "unexpected_keys", "mismatched_keys") for key in told[name]]
    facts = {"class": type(model).__name__, "ours": ours, "lost": lost, "problem": model.config.problem_type}
    return facts | {"answers": answers, "names": list(model.state_dict())}

for line in sys.stdin:
    print(json.dumps(answer(*json.loads(line))), flush=True)
"""


@pytest.fixture(scope="module")
def plainly(tmp_path_factory):
    """plainly(folder, texts): what a process with nothing but transformers makes of an export; one for all tests."""
    process = subprocess.Popen(
        [sys.executable, "-c", PLAIN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path_factory.mktemp("plain"),
    )

    def ask(folder, texts):
        process.stdin.write(json.dumps([str(folder), texts]) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    with process:
        yield ask
        process.stdin.close()


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("strategies", STRATEGIES.values(), ids=STRATEGIES)
def test_plain_transformers_answers_as_the_evaluation_did(ran, plainly, strategies, family):
    trained = ran(strategies, family)
    rows = pq.read_table(trained.outcome.scores.folder / "predictions.parquet").to_pylist()
    predictions = plainly(export(trained.recipe, trained.out), [row["text"] for row in rows])
    assert [answer[0] for answer in predictions["answers"]] == [row["prediction"] for row in rows]
    expected = [row["probability"] for row in rows]
    assert [answer[1] for answer in predictions["answers"]] == pytest.approx(expected, abs=2e-5)
    assert (predictions["ours"], predictions["lost"]) == ([], [])
    assert predictions["problem"] == "single_label_classification"
    assert (
        predictions["class"]
        == {"bert": "BertForSequenceClassification", "gpt2": "GPT2ForSequenceClassification"}[family]
    )
    assert not [name for name in predictions["names"] if "base_layer" in name or "lora" in name or "ia3" in name]
    assert not (trained.out / TRAINED).exists()


def test_a_folder_of_the_store_gives_the_same_as_its_recipe(ran, tmp_path):
    trained = ran([LORA])
    export(trained.recipe, trained.out)
    export(trained.outcome.model.folder, tmp_path / "again")
    files = [sorted(file.name for file in folder.iterdir()) for folder in (trained.out, tmp_path / "again")]
    assert files[0] == files[1]
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (trained.out / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_model_that_writes_keeps_how_it_writes(document, tiny, tmp_path):
    from transformers import AutoModelForCausalLM

    document["objective"] = {"kind": "language_modeling", "modeling": "causal", "block_size": 8}
    document["model"]["base"], document["training"]["epochs"] = str(tiny["gpt2"]), 1
    document["strategies"] = [LORA]
    outcome = run(check(document))
    export(outcome.model.folder / "model", tmp_path / "plain")
    assert (tmp_path / "plain" / "generation_config.json").is_file()
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "plain")
    assert model.lm_head.weight.data_ptr() == model.transformer.wte.weight.data_ptr()  # tied, as the base's are


REFUSED = {
    "prompt": ([{"kind": "prompt", "length": 3}], "'prompt' cannot be written as plain weights"),
    "bottleneck": ([{"kind": "bottleneck", "size": 4}], "'bottleneck' cannot be written as plain weights"),
    "lora on which adapters hang": (
        [LORA | {"targets": ["output.dense"]}, {"kind": "bottleneck", "size": 4}],
        "'lora' and 'bottleneck' cannot be written as plain weights",
    ),
}


@pytest.mark.parametrize(("strategies", "problem"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_plain_weights_is_refused(ran, strategies, problem):
    trained = ran(strategies)
    with pytest.raises(RecipeError, match=f"{problem}.* Serve the model with MLflow"):
        export(trained.recipe, trained.out)
    assert not trained.out.exists()
    assert not [file for file in trained.out.parent.iterdir() if file.name.startswith(".plain")]


def test_a_class_that_transformers_does_not_read_back_is_refused(tmp_path):
    write_family("qwen3", word_tokenizer("gpt2"), tmp_path / "base")
    it = keeps_its_promises(tmp_path / "base", "reading", "full", tmp_path, steps=1)
    with pytest.raises(RecipeError, match="transformers does not restore a saved Qwen3ForQuestionAnswer"):
        write_plain(Lineage(tmp_path / "model", tmp_path / "base"), tmp_path / "plain", it.table)


def test_a_recipe_that_was_not_run_is_refused_with_the_command(document, tmp_path):
    path = tmp_path / "moods.yaml"
    path.write_text(json.dumps(document), encoding="utf-8")
    said = CliRunner().invoke(app, ["export", str(path), str(tmp_path / "plain"), "seed=8"])
    assert said.exit_code == 2
    lacking = "base, shard, prepare, initialise, checks, finetune, evaluate"
    assert f"has not been run: the store lacks {lacking}" in said.output
    assert f"tunesmith run {path} seed=8" in said.output


def test_nothing_is_written_over(ran):
    trained = ran([{"kind": "partial"}])
    trained.out.mkdir()
    (trained.out / "mine").touch()
    with pytest.raises(RecipeError, match="already exists and is not empty"):
        export(trained.recipe, trained.out)
    with pytest.raises(RecipeError, match="is not a trained model"):
        export(trained.out, trained.out / "deeper")
    with pytest.raises(RecipeError, match="overrides a recipe"):
        export(trained.outcome.model.folder, trained.out / "deeper", ["seed=8"])


def test_the_card_says_what_from_what_how_well_and_on_what(ran, moods_csv):
    import hashlib

    trained = ran([LORA], regularizers=[{"kind": "weight_decay", "value": 0.01}])
    text = (export(trained.recipe, trained.out) / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(text.split("---\n")[1])
    scores = json.loads((trained.outcome.scores.folder / "metrics.json").read_text(encoding="utf-8"))
    assert front["library_name"] == "transformers"
    assert front["pipeline_tag"] == "text-classification"
    assert front["tags"] == ["tunesmith", "text-classification", "lora"]
    assert front["metrics"] == list(scores["metrics"])
    assert not {"language", "license", "base_model"} & front.keys()  # a folder of this machine is not a name of a base
    accuracy = scores["metrics"]["accuracy"]
    assert f"| accuracy | {accuracy['value']:.4f} | {accuracy['low']:.4f} to {accuracy['high']:.4f} |" in text
    assert "majority" in text
    for part in scores["slices"]:
        assert f"| {part['name']} | {part['rows']} (few) | {part['metrics']['accuracy']['value']:.4f} (" in text
    assert f"| train | moods.csv | 60 | 0 | `{hashlib.sha256(moods_csv.read_bytes()).hexdigest()}` |" in text
    assert "Rows used: 36 train, 12 validation, 12 test." in text
    assert (
        json.loads((trained.outcome.model.folder / "model" / "tunesmith.json").read_text())["base"]["model.safetensors"]
        in text
    )
    for words in ("lora (", "rank 2", "weight_decay (value 0.01)", "| learning rate | 0.005 |", "| epochs | 2 |"):
        assert words in text
    assert str(trained.out.parent) not in text


def test_a_classifier_of_an_encoder_and_a_decoder_is_exported(ran, plainly):
    trained = ran([LORA], "t5")
    rows = pq.read_table(trained.outcome.scores.folder / "predictions.parquet").to_pylist()
    predictions = plainly(export(trained.recipe, trained.out), [row["text"] for row in rows])
    assert [answer[0] for answer in predictions["answers"]] == [row["prediction"] for row in rows]
    assert predictions["class"] == "T5ForSequenceClassification"


def test_weights_are_written_in_the_number_format_of_the_base(ran, plainly, tiny, tmp_path):
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    half = tmp_path / "half"
    AutoModelForMaskedLM.from_pretrained(tiny["bert"], dtype=torch.bfloat16).save_pretrained(half)
    AutoTokenizer.from_pretrained(tiny["bert"]).save_pretrained(half)
    trained = ran([LORA], family="bert", model={"base": str(half)})
    out = export(trained.recipe, trained.out)
    assert {weight.dtype for weight in load_file(out / "model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    assert plainly(out, ["what a fine day"])["lost"] == []
