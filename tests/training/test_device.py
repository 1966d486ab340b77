"""Where a training computes.

`pytest tests/training/test_device.py`
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline_lib.errors import RecipeError
from pipeline_lib.preflight.device import check_device
from pipeline_lib.recipe.execution import Execution
from pipeline_lib.training.cpu_precision import _has_instructions
from pipeline_lib.training.device import (
    _has_no_gpu,
    _refuse_flash_attention,
    accelerator,
    select_device,
)


@pytest.mark.parametrize(("own", "threads"), [({}, "1"), ({"OMP_NUM_THREADS": "2"}, "2")])
def test_a_containers_quota_bounds_the_threads_unless_the_user_has_said_otherwise(own, threads):
    code = (
        "import torch; torch.set_num_threads(2)\n"
        "from pipeline_lib.recipe.execution import Execution; from pipeline_lib.training.device import accelerator\n"
        "accelerator(Execution(device='cpu')); print(torch.get_num_threads())"
    )
    others = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    quota = {"LOKY_MAX_CPU_COUNT": "1"}  # stands for one, as joblib counts cores
    said = subprocess.run([sys.executable, "-c", code], env=others | quota | own, capture_output=True, text=True)
    assert said.stdout.strip() == threads, said.stderr


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="not Linux")
def test_what_is_found_without_torch_is_what_torch_finds():
    assert _has_instructions() == torch.cpu.get_capabilities().get("avx512_bf16", False)
    assert not (_has_no_gpu() and torch.cuda.is_available())
    assert select_device(Execution(device="auto"))[0] == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("unfit", [{"device": "cpu"}, {"precision": "fp32"}])
def test_flash_attention_without_a_gpu_or_half_precision_is_refused_at_once(unfit):
    with pytest.raises(RecipeError, match=r"execution.attention = 'flash_attention_2': cannot be used, as execution"):
        Execution(attention="flash_attention_2", **unfit)


def test_flash_attention_needs_a_gpu_and_its_package(monkeypatch):
    execution = Execution(attention="flash_attention_2", precision="bf16")
    if not torch.cuda.is_available():
        with pytest.raises(RecipeError, match="needs a GPU"):
            accelerator(execution)
        with pytest.raises(RecipeError, match="needs a GPU"):
            check_device(execution)
    monkeypatch.setattr("transformers.utils.is_flash_attn_2_available", lambda: False)
    with pytest.raises(RecipeError, match="needs the package flash-attn"):
        _refuse_flash_attention(True, "bf16")
    with pytest.raises(RecipeError, match="needs bf16 or fp16"):
        _refuse_flash_attention(True, "fp32")
