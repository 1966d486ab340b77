"""A base whose weights do not fit its configuration, or that brings code along. `pytest tests/models`."""

import json
import os
import shutil
import time

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForQuestionAnswering, AutoModelForSequenceClassification

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.base_model import load_config, load_tokenizer, locate_base
from pipeline_lib.models.building import copy_base
from pipeline_lib.models.generation import write
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
        (lambda base: rename(base, lambda name: None), "named for another architecture"),
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
        locate_base(Model(base=str(base)))


@pytest.mark.parametrize("content", ["[]", "{", ""])
def test_a_config_that_is_no_object_is_refused(base, content):
    (base / "config.json").write_text(content)
    with pytest.raises(RecipeError, match=r"config\.json"):
        locate_base(Model(base=str(base)))


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({"weight_map": {"x": "model-2.safetensors"}}, r"lacks model-2\.safetensors"),
        ({"weight_map": {"x": "../model.safetensors"}}, "outside its folder"),
        ({"weight_map": {"x": "pytorch_model.bin"}}, "pickled weights are never loaded"),
        ({"weight_map": {"x": "config.json"}}, "in another format"),
        ({"weight_map": []}, "without a weight_map"),
        ({"weight_map": {}}, "without a weight_map"),
        ({"metadata": {}}, "without a weight_map"),
        ([], "not a JSON object"),
    ],
)
def test_an_index_that_names_no_weights_of_the_folder_is_refused(base, index, words):
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(RecipeError, match=words):
        locate_base(Model(base=str(base)))


@pytest.mark.parametrize("folder", ["{outside}", "..", "a"])
def test_a_tokenizer_file_outside_the_folder_is_refused(base, tmp_path, folder):
    """transformers reads the file that tokenizer_config.json names for its version, an absolute path too."""
    shutil.copy(base / "tokenizer.json", tmp_path / "tokenizer.4.0.0.json")
    config = json.loads((base / "tokenizer_config.json").read_text())
    config["fast_tokenizer_files"] = [f"{folder.format(outside=tmp_path)}/tokenizer.4.0.0.json"]
    (base / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(RecipeError, match=r"names a file outside its folder .* in tokenizer_config\.json"):
        locate_base(Model(base=str(base)))


def test_a_tokenizer_file_for_a_version_counts_as_part_of_the_base(base, tmp_path):
    config = json.loads((base / "tokenizer_config.json").read_text()) | {
        "fast_tokenizer_files": ["tokenizer.4.0.0.json"]
    }
    (base / "tokenizer_config.json").write_text(json.dumps(config))
    (base / "tokenizer.json").rename(base / "tokenizer.4.0.0.json")
    (tmp_path / "copy").mkdir()
    copy_base(locate_base(Model(base=str(base))), tmp_path / "copy")
    assert load_tokenizer(tmp_path / "copy")("what a day").input_ids == load_tokenizer(base)("what a day").input_ids


def test_a_named_pipe_in_place_of_weights_is_refused_and_not_waited_for(base):
    os.mkfifo(base / "more.safetensors")
    with pytest.raises(RecipeError, match=r"not a regular file, more\.safetensors"):
        locate_base(Model(base=str(base)))


def test_an_adapter_is_refused_and_not_left_out(base):
    (base / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "elsewhere"}))
    with pytest.raises(RecipeError, match="has an adapter .* Merge the adapter into its base"):
        locate_base(Model(base=str(base)))


@pytest.mark.parametrize("format", [torch.int64, torch.uint8, torch.bool, torch.complex64])
def test_weights_that_are_no_floating_point_numbers_are_refused(base, format):
    tensors = load_file(base / "model.safetensors")
    name = "bert.encoder.layer.0.output.dense.weight"
    save_file(tensors | {name: tensors[name].to(format)}, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(RecipeError, match=f"not floating-point numbers, such as {name}"):
        load_pretrained(AutoModelForSequenceClassification, str(base), ["a", "b"])


def test_integers_that_are_no_parameters_are_normal(base):
    """Older checkpoints of BERT have the numbers of positions."""
    tensors = load_file(base / "model.safetensors") | {"bert.embeddings.position_ids": torch.arange(64)[None]}
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    load_pretrained(AutoModelForSequenceClassification, str(base), ["a", "b"])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"num_hidden_layers": 999_999}, "a far larger model"),
        ({"vocab_size": 10**9}, "a far larger model"),
        ({"intermediate_size": 10**9}, "a far larger model"),
        ({"num_hidden_layers": 0}, "without layers"),
        ({"num_hidden_layers": -1}, "without layers"),
        ({"text_config": {"vocab_size": 1}}, "not a configuration of a known family"),
        ({"save_pretrained": "x"}, "the name of a method"),
    ],
)
def test_a_config_with_extreme_numbers_is_refused_within_seconds(base, values, words):
    configure(base, **values)
    began = time.process_time()
    with pytest.raises(RecipeError, match=words):
        load_pretrained(AutoModelForSequenceClassification, str(base), ["a", "b"])
    assert time.process_time() - began < 20  # and not hours: a second each


@pytest.mark.parametrize("values", [{"num_labels": 10**9}, {"num_hidden_layers": 10**12}, {"a": {"n_layer": 10**8}}])
def test_a_config_with_endless_lists_is_refused_before_transformers_makes_them(base, values):
    configure(base, **values)
    with pytest.raises(RecipeError, match=r"has a config\.json with 1[0,]+ as"):
        locate_base(Model(base=str(base)))


def test_nan_in_a_config_is_refused_and_infinity_is_not(base):
    configure(base, time_step_limit=[0.0, float("inf")])
    locate_base(Model(base=str(base)))
    configure(base, attention_probs_dropout_prob=float("nan"))
    with pytest.raises(RecipeError, match="NaN is not a number"):
        locate_base(Model(base=str(base)))


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"eos_token_id": "x"}, "with 'x' as eos_token_id"), ({"eos_token_id": [1, None]}, "as eos_token_id")],
)
def test_tokens_to_generate_with_are_numbers(tiny, tmp_path, settings, words):
    base = shutil.copytree(tiny["gpt2"], tmp_path / "gpt2")
    (base / "generation_config.json").write_text(json.dumps(settings))
    with pytest.raises(RecipeError, match=words):
        load_pretrained(AutoModelForCausalLM, str(base))


@pytest.mark.parametrize("settings", [{"stop_strings": 7}, {"constraints": [1]}])
def test_settings_that_cannot_generate_are_the_bases_fault(tiny, tmp_path, settings):
    base = shutil.copytree(tiny["gpt2"], tmp_path / "gpt2")
    (base / "generation_config.json").write_text(json.dumps(settings))
    model, _ = load_pretrained(AutoModelForCausalLM, str(base))
    with pytest.raises(RecipeError, match=r"cannot generate text .* Check its generation_config\.json"):
        write(model, load_tokenizer(base), 1, inputs=torch.tensor([[5]]), max_new_tokens=2)


def test_a_config_does_not_decide_what_a_model_returns(base):
    configure(base, return_dict=False, output_attentions=True, output_hidden_states=True)
    model, _ = load_pretrained(AutoModelForSequenceClassification, str(base), ["a", "b"])
    assert set(model(input_ids=torch.tensor([[2, 5, 3]]))) == {"logits"}


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
        locate_base(Model(base=str(base)))
    if "adapter" in name:
        (base / "config.json").unlink()
        with pytest.raises(RecipeError, match=words):
            locate_base(Model(base=str(base)))


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
