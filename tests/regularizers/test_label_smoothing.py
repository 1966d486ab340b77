"""Smoothed targets, against a value worked out by hand. `pytest tests/regularizers/test_label_smoothing.py`."""

import math

import pytest
import torch

from pipeline_lib.objectives import TextClassification
from pipeline_lib.regularizers import LabelSmoothing


def test_the_loss_by_hand():
    # predicted 1/2, 1/4, 1/4 and right is the first: q' = 0.8, 0.1, 0.1 for e = 0.3
    logits, right = torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([0])
    smoothing = LabelSmoothing(kind="label_smoothing", value=0.3).smoothing()
    loss = TextClassification(kind="text_classification").loss_sum(logits, right, smoothing)
    assert loss.item() == pytest.approx(0.8 * math.log(2) + 0.2 * math.log(4))


def test_the_default_is_the_papers():
    assert LabelSmoothing(kind="label_smoothing").smoothing() == 0.1
