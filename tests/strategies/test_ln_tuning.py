"""Layer norm tuning trains the norms of any family and nothing else. `pytest tests/strategies/test_ln_tuning.py`."""

import pytest

from pipeline_lib.models.parameter_depth import parameter_infos
from pipeline_lib.strategies import LNTuning
from pipeline_lib.strategies.base import ParameterInfo
from pipeline_lib.training.parameters import freeze_and_resolve

STRATEGY = LNTuning(kind="ln_tuning", rate=4.0)


def of_norms(model):
    """The parameters of all norms, told by the class of their module."""
    norms = {name for name, module in model.named_modules() if "Norm" in type(module).__name__}
    assert norms
    return {name for name, _ in model.named_parameters() if name.rpartition(".")[0] in norms}


@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2", "llama", "t5", "mpnet", "mobilebert"])
def test_norms_are_found_by_their_names(make, family):
    model = make(family)
    infos = parameter_infos(model, set())
    assert {name for name, info in infos.items() if STRATEGY.is_trainable(info)} == of_norms(model)


@pytest.mark.parametrize(("module", "is_norm"), [("attention.LayerNorm", True), ("output.dense", False)])
def test_a_family_that_is_named_after_its_norms_has_other_weights(module, is_norm):
    info = ParameterInfo(f"roberta_prelayernorm.encoder.layer.0.{module}.weight", 1, 2)
    assert STRATEGY.is_trainable(info) == is_norm


def test_norms_and_head_learn_at_the_rate(make):
    head = {"classifier.weight", "classifier.bias"}
    table = freeze_and_resolve(make("bert"), head, [STRATEGY], 1e-3, 0.0)
    rates = {row.name: row.learning_rate for row in table if row.trained}
    assert rates.keys() > head
    assert set(rates.values()) == {4e-3}
