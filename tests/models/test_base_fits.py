"""A base whose weights do not fit its configuration, or that brings code along. `pytest tests/models`."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForQuestionAnswering, AutoModelForSequenceClassification

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.base_model import load_config, load_tokenizer, locate
from pipeline_lib.models.building import copy_base
from pipeline_lib.models.loading import load_pretrained
from pipeline_lib.models.settings import Model


@pytest.fixture
def base(tiny, tmp_path):
    """A copy of the tiny BERT, to be damaged."""
    return shutil.copytree(tiny["bert"], tmp_path / "base")


def rename(base, change):
    """Save the weights under other names; `change` gives the new name, or None to drop the tensor."""
    tensors = load_file(base / "model.safetensors")
    renamed = {change(name): tensor for name, tensor in tensors.items() if change(name)}
    save_file(renamed, base / "model.safetensors", {"format": "pt"})


def configure(base, **values):
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | values))


def test_only_the_head_is_new(base):
    _, new = load_pretrained(AutoModelForSequenceClassification, str(base), ["a", "b"])
    assert new == {"classifier.weight", "classifier.bias", "bert.pooler.dense.weight", "bert.pooler.dense.bias"}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda base: rename(base, lambda name: name.replace("bert.", "model.")), "named for another architecture"),
        (lambda base: rename(base, lambda name: None if "layer.1." in name else name), "incomplete"),
        (lambda base: configure(base, num_hidden_layers=3), "too many layers"),
        (lambda base: configure(base, num_hidden_layers=1), "fewer layers than the weights"),
        (lambda base: configure(base, hidden_size=16), "a model of another size"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_not_drawn_at_random(base, damage, words):
    damage(base)
    with pytest.raises(RecipeError, match=words) as error:
        load_pretrained(AutoModelForSequenceClassification, str(base), ["a", "b"])
    assert error.value.field == "model.base"
    assert "bert." in str(error.value)  # names of tensors


def test_a_backbone_that_its_head_calls_otherwise_is_found(tiny):
    """transformers' LlamaForQuestionAnswering calls its backbone `transformer`; every checkpoint calls it `model`."""
    model, new = load_pretrained(AutoModelForQuestionAnswering, str(tiny["llama"]))
    assert new == {"qa_outputs.weight", "qa_outputs.bias"}
    saved = load_file(tiny["llama"] / "model.safetensors")
    assert torch.equal(model.state_dict()["transformer.norm.weight"], saved["model.norm.weight"])
    assert torch.equal(model.state_dict()["transformer.embed_tokens.weight"], saved["model.embed_tokens.weight"])


def test_weights_cut_off_are_refused_before_any_work(base):
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(RecipeError, match=r"model\.safetensors"):
        locate(Model(base=str(base)))


@pytest.mark.parametrize("content", ["[]", "{", ""])
def test_a_config_that_is_no_object_is_refused(base, content):
    (base / "config.json").write_text(content)
    with pytest.raises(RecipeError, match=r"config\.json"):
        locate(Model(base=str(base)))


def test_a_missing_shard_is_refused(base):
    (base / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "model-2.safetensors"}}))
    with pytest.raises(RecipeError, match=r"lacks model-2\.safetensors"):
        locate(Model(base=str(base)))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "weights.safetensors",
            r"has no model\.safetensors or model\.safetensors\.index\.json, only weights\.safetensors",
        ),
        ("model-00001-of-00002.safetensors", "only model-00001-of-00002"),
        ("pytorch_model.bin", "pickled weights are never loaded"),
        ("adapter_model.safetensors", "is an adapter, not a whole model"),
    ],
)
def test_weights_under_other_names_are_refused_before_any_work(base, name, words):
    (base / "model.safetensors").rename(base / name)
    if "adapter" in name:
        (base / "adapter_config.json").write_text("{}")
    with pytest.raises(RecipeError, match=words):
        locate(Model(base=str(base)))
    if "adapter" in name:
        (base / "config.json").unlink()
        with pytest.raises(RecipeError, match=words):
            locate(Model(base=str(base)))


def test_a_base_that_writes_text_needs_its_output_layer_unless_it_is_tied(tiny, tmp_path):
    base = shutil.copytree(tiny["llama"], tmp_path / "base")
    configure(base, tie_word_embeddings=False)
    tensors = load_file(base / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(RecipeError, match=r"no weights for its output layer \(lm_head\.weight\)"):
        load_pretrained(AutoModelForCausalLM, str(base))
    configure(base, tie_word_embeddings=True)
    assert load_pretrained(AutoModelForCausalLM, str(base))[1] == set()


@pytest.mark.parametrize("limit", [0, -1, "64"])
def test_a_tokenizer_without_a_possible_limit_is_refused(base, limit):
    settings = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": limit}))
    with pytest.raises(RecipeError, match="model_max_length"):
        load_tokenizer(base)


def test_a_vocabulary_under_a_name_that_its_class_does_not_know_is_refused(tiny, tmp_path):
    base = shutil.copytree(tiny["t5"], tmp_path / "base")
    (base / "tokenizer.json").unlink()
    (base / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer"}')
    (base / "sentencepiece.model").write_bytes(b"a vocabulary")
    with pytest.raises(RecipeError, match="has a tokenizer without a vocabulary"):
        load_tokenizer(base)


def test_a_config_that_cannot_be_read_is_not_called_a_tokenizer(base):
    configure(base, num_hidden_layers="2")
    with pytest.raises(RecipeError, match=r"has a config\.json that cannot be loaded"):
        load_tokenizer(base)


def test_templates_for_tools_are_part_of_the_base(base, tmp_path):
    tokenizer = load_tokenizer(base)
    tokenizer.chat_template = {"default": "plain", "tool_use": "with tools"}
    tokenizer.save_pretrained(base)
    (tmp_path / "copy").mkdir()
    copy_base(base, tmp_path / "copy")
    assert load_tokenizer(tmp_path / "copy").get_chat_template(tools=[{}]) == "with tools"


def test_code_in_a_folder_is_neither_copied_nor_run(base, tmp_path, monkeypatch):
    """As `yes | tunesmith run` would: whoever asks on stdin gets a yes."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    ran = tmp_path / "ran"
    for name in ("evil.py", "tokenizer_evil.py", "modeling_evil.py", "configuration_evil.py"):
        (base / name).write_text(f"open({str(ran)!r}, 'w').write({name!r})\n")
    (base / "custom_generate").mkdir()
    (base / "custom_generate" / "generate.py").write_text(f"open({str(ran)!r}, 'w')\n")
    configure(base, auto_map={"AutoConfig": "configuration_evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"})
    tokenizer = json.loads((base / "tokenizer_config.json").read_text())
    tokenizer["auto_map"] = {"AutoTokenizer": ["tokenizer_evil.Evil", "tokenizer_evil.Evil"]}
    (base / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    load_tokenizer(base)
    load_pretrained(AutoModelForSequenceClassification, str(base), ["a", "b"])
    (tmp_path / "copy").mkdir()
    copy_base(base, tmp_path / "copy")
    assert not list((tmp_path / "copy").rglob("*.py"))
    configure(base, model_type="evil")
    with pytest.raises(RecipeError, match="such code is never run"):
        load_config(base)
    with pytest.raises(RecipeError):
        load_pretrained(AutoModelForCausalLM, str(base))
    assert not ran.exists()
