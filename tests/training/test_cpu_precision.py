"""Which precision a CPU is given, and that it stays the same. `pytest tests/training/test_cpu_precision.py`."""

import logging

import pytest
import torch

from pipeline_lib.recipe.execution import Execution
from pipeline_lib.training import cpu_precision as module
from pipeline_lib.training.cpu_precision import cpu_precision, measure
from pipeline_lib.training.device import select_device


@pytest.fixture
def ask(monkeypatch, tmp_path):
    """Ask like a new process on a processor with bf16, whose measurements are given; returns what was chosen."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_has_instructions", lambda: True)
    yield lambda *shares: _ask(monkeypatch, list(shares))
    cpu_precision.cache_clear()


def _ask(monkeypatch, shares):
    monkeypatch.setattr(module, "measure", lambda: shares.pop(0))
    cpu_precision.cache_clear()
    precision = cpu_precision()
    assert not shares  # every measurement was needed
    return precision


@pytest.mark.parametrize(("share", "precision"), [(0.35, "bf16"), (0.79, "bf16"), (0.95, "fp32"), (1.8, "fp32")])
def test_bf16_is_chosen_where_it_is_faster_and_measured_once(ask, share, precision):
    assert ask(share) == precision
    assert ask() == precision


def test_another_processor_is_measured_on_its_own(ask, monkeypatch):
    assert ask(0.4) == "bf16"
    monkeypatch.setattr(module, "_processor", lambda: "another one")
    assert ask(1.5) == "fp32"
    assert ask() == "fp32"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": "b"}'])
def test_a_damaged_file_is_measured_again(ask, tmp_path, text):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "precision.json").write_text(text)
    assert ask(0.4) == "bf16"
    assert ask() == "bf16"


def test_a_folder_that_cannot_be_written_only_costs_time(ask, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file")
    with caplog.at_level(logging.WARNING, "tunesmith"):
        assert ask(0.4) == "bf16"
    assert "cannot save which precision is faster" in caplog.text
    assert ask(0.4) == "bf16"


def test_without_instructions_for_bf16_nothing_is_measured(ask, monkeypatch):
    monkeypatch.setattr(module, "_has_instructions", lambda: False)
    assert ask() == "fp32"
    assert select_device(Execution(device="cpu")) == ("cpu", "fp32")


def test_a_measurement_leaves_no_trace(monkeypatch):
    monkeypatch.setattr(module, "ROWS", 8)
    monkeypatch.setattr(module, "WIDTH", 16)
    torch.manual_seed(3)
    expected, threads = torch.rand(1), torch.get_num_threads()
    torch.manual_seed(3)
    assert 0 < measure() < 1000
    assert torch.equal(torch.rand(1), expected)
    assert torch.get_num_threads() == threads
