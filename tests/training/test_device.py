"""Where a training computes, and what it leaves behind.

`pytest tests/training/test_device.py`
"""

import ctypes
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
    return_freed_memory,
    select_device,
)

BLOCK = 200 * 2**20


def resident():
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another C library than glibc")
def test_memory_is_kept_from_step_to_step_and_handed_back_at_the_end():
    accelerator(Execution(device="cpu"))
    with return_freed_memory():  # what other tests have kept
        pass
    before = resident()
    with return_freed_memory():
        block = torch.ones(BLOCK // 4)
        assert resident() > before + BLOCK * 0.9
        del block
        assert resident() > before + BLOCK * 0.9
    assert resident() < before + BLOCK * 0.1


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
