"""Losses and gradients of preference tuning beside TRL's. `pytest tests/objectives/test_preference_losses.py`."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.append(str(Path(__file__).parent))

from dataclasses import replace

from pipeline_lib.data.examples import IGNORED, Examples, Ragged
from pipeline_lib.objectives import Preference
from pipeline_lib.objectives.preference_tokens import UNDESIRABLE
from pipeline_lib.recipe.execution import Execution
from pipeline_lib.training.batches import collate
from pipeline_lib.training.device import accelerator
from pipeline_lib.training.reference import reference_of

ROWS = [([1, 5, 6], [7, 8, 9, 2], [10, 2]), ([1, 11], [12, 2], [13, 14, 15, 2]), ([1, 6, 7, 8, 9], [3, 2], [4, 4, 2])]
LABELS = [True, False, True]
SETTINGS = {"dpo": {}, "ipo": {"beta": 0.2}, "orpo": {}, "simpo": {"gamma": 0.5}, "kto": {"undesirable_weight": 1.5}}

# What TRL 1.16.0 gives with torch 2.13 on these rows and models: the loss, and the norm of all gradients. Printed by
# `python tests/objectives/test_preference_losses.py`.
RIGHT = {
    "dpo": (0.6921296, 0.1047049),
    "ipo": (6.1930842, 4.3865709),
    "orpo": (2.8481922, 0.6145463),
    "simpo": (0.9302390, 1.0672271),
    "kto": (0.5835454, 0.0325452),
}


def model_of(scale):
    """A llama whose weights are the same with every version of torch."""
    config = {"vocab_size": 16, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(
        LlamaConfig(**config, intermediate_size=32, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    )
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters(), 1):
            places = torch.arange(parameter.numel(), dtype=torch.float64)
            parameter.copy_((scale * torch.sin(places * (index + 0.7) + index)).float().view_as(parameter))
    return model.eval()


def encoded(paired):
    """The rows as this project feeds them: chosen and rejected in turn, or an answer and the next row's."""
    ids, targets = [], []
    for row, (prompt, first, second) in enumerate(ROWS):
        other = second if paired else ROWS[(row + 1) % len(ROWS)][1]
        for answer, wanted in ((first, paired or LABELS[row]), (other, not paired)):
            ids.append(prompt + answer)
            targets.append([IGNORED if wanted else UNDESIRABLE] + [IGNORED] * (len(prompt) - 1) + answer)
    return Examples(
        Ragged.from_lists(ids), Ragged.from_lists(targets), aligned=True, group=2, losses=np.ones(len(ROWS), np.int64)
    )


def objective_of(loss):
    return Preference(kind="preference", loss=loss, **SETTINGS[loss])


def ours(loss, model, reference):
    """Our loss, with its gradients in the model."""
    model.zero_grad()
    objective, inputs = objective_of(loss), encoded(loss != "kto")
    here = accelerator(Execution(device="cpu", precision="fp32"))
    inputs = replace(inputs, reference=reference_of(reference, inputs, 0, here))
    batch, targets = collate(inputs, np.arange(len(inputs)), 0)
    if objective.needs_step_mean:
        total = objective.step_sum(model, batch, targets).detach()
        batch["step_mean"] = total[0] / total[1]
    value = objective.loss_sum(objective.forward(model, batch, targets), targets) / len(ROWS)
    value.backward()
    return value.detach()


def gradients(model):
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def theirs(loss, model, reference):
    from trl_losses import trl_loss

    rows = ROWS
    if loss == "kto":
        rows = [(p, a, ROWS[(row + 1) % 3][1], LABELS[row]) for row, (p, a, _) in enumerate(ROWS)]
    return trl_loss(loss, model, rows, reference, objective_of(loss).strength, 0.5)


@pytest.mark.parametrize("loss", SETTINGS)
def test_losses_and_gradients_are_trls(loss):
    pytest.importorskip("trl")
    model, reference = model_of(0.3), model_of(0.25)
    expected = theirs(loss, model, reference)
    wanted = gradients(model).clone()
    torch.testing.assert_close(ours(loss, model, reference), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(gradients(model), wanted, atol=1e-5, rtol=0)
    assert wanted.abs().max() > 1e-3


@pytest.mark.parametrize("loss", SETTINGS)
def test_losses_are_what_trl_gave(loss):
    model = model_of(0.3)
    value = ours(loss, model, model_of(0.25))
    assert (value.item(), gradients(model).norm().item()) == pytest.approx(RIGHT[loss], abs=1e-5)


if __name__ == "__main__":
    for name in SETTINGS:
        first, second = model_of(0.3), model_of(0.25)
        print(f'    "{name}": ({theirs(name, first, second):.7f}, {gradients(first).norm():.7f}),')
