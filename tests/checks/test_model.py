"""What a small batch tells of a model: planted flaws are found, and what is sound passes.

pytest tests/checks/test_model.py
"""

import pytest
import torch

from pipeline_lib.checks import model as checked
from pipeline_lib.data.prepared import read_labels, read_split
from pipeline_lib.pipeline import steps
from pipeline_lib.recipe.schema import check

STRATEGIES = {
    "full": [{"kind": "full"}],
    "head alone": [{"kind": "partial"}],
    "gradual": [{"kind": "partial", "last_layers": 1, "gradual": True}],
    "head first": [{"kind": "full", "start_epoch": 1}],
    "lora, whose B is nothing at first": [{"kind": "lora", "rank": 2}],
    "bottleneck, whose way out is nothing at first": [{"kind": "bottleneck", "size": 4}],
    "ia3": [{"kind": "ia3"}],
    "a layer and lora": [{"kind": "partial", "last_layers": 1}, {"kind": "lora", "rank": 2}],
    "deep prompt": [{"kind": "prompt", "length": 2, "depth": "all"}],
}


@pytest.fixture
def findings(document):
    """What the check says of a recipe with these strategies."""

    def find(strategies=None):
        recipe = check(document | ({"strategies": strategies} if strategies else {}))
        data = steps.prepare(recipe)
        start, base = steps.initialise(recipe, data), steps.fetch_base(recipe)
        rows = read_split(data.folder, data.folder.parents[1] / "shard", "train")
        return [*checked.model_findings(recipe, base.folder, start.folder, rows, read_labels(data.folder))]

    return find


@pytest.mark.parametrize("strategies", STRATEGIES.values(), ids=STRATEGIES)
def test_a_sound_model_has_no_findings(findings, strategies):
    assert findings(strategies) == []


@pytest.fixture
def planted(monkeypatch):
    """Lets a test spoil the model before the check sees it."""

    def plant(flaw):
        load = checked.load_initial

        def spoiled(base, initial, **options):
            model, head = load(base, initial, **options)
            flaw(model)
            return model, head

        monkeypatch.setattr(checked, "load_initial", spoiled)

    return plant


def test_a_parameter_that_nothing_reads_is_not_trained(findings, planted):
    planted(lambda model: model.register_parameter("forgotten", torch.nn.Parameter(torch.ones(2))))
    assert not findings(), "what the output does not depend on is not trained"


def test_what_stands_before_a_detached_layer_is_found(findings, planted):
    def detach(model):
        model.bert.encoder.layer[0].register_forward_hook(lambda module, inputs, output: output.detach())

    planted(detach)
    (found,) = findings()
    assert found.count == 16  # six products and two norms
    assert "bert.encoder.layer.0.attention" in found.problem


def test_weights_whose_output_is_multiplied_by_nothing_are_found(findings, planted):
    planted(lambda model: model.bert.pooler.dense.register_forward_hook(lambda module, inputs, output: output * 0))
    (found,) = findings([{"kind": "partial", "patterns": ["bert.pooler.*"]}])
    names = "bert.pooler.dense.weight, classifier.weight"
    assert found.problem == f"2 trainable parameters get no gradient: {names}"


def test_a_model_that_is_detached_from_its_loss_is_found(findings, planted):
    planted(lambda model: model.classifier.register_forward_hook(lambda *passed: passed[2].detach().requires_grad_()))
    (found,) = findings()
    assert found.problem.startswith("none of")


def test_a_parameter_that_is_not_frozen_is_found(findings, monkeypatch):
    resolve = checked.freeze_and_resolve

    def leave_one(model, *rest):
        table = resolve(model, *rest)
        model.bert.embeddings.word_embeddings.weight.requires_grad_(True)
        return table

    monkeypatch.setattr(checked, "freeze_and_resolve", leave_one)
    (found,) = findings([{"kind": "partial"}])
    assert found.problem == ("1 frozen parameters get a gradient: bert.embeddings.word_embeddings.weight")


def test_an_odd_head_is_found(findings, planted):
    def spoil(model):
        torch.nn.init.ones_(model.classifier.weight)
        model.config.id2label = {0: "sad", 1: "glad"}

    planted(spoil)
    flat, named = findings()
    assert flat.problem == "the new head starts with equal weights: classifier.weight"
    assert named.problem == "the model's labels differ from the data's: sad, glad instead of glad, sad"
