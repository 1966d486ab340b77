"""Choose the precision on a CPU by a measurement, once per processor and version of torch.

Instruction flags do not tell: with AVX512-BF16 alone, products of bf16 matrices can take almost twice as long as those
of fp32, and a third of the time with AMX. The answer is kept, since the same command must give the same bytes.
"""

import json
import logging
import platform
import re
import time
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from filelock import FileLock

from pipeline_lib.store.durable import write_durably
from pipeline_lib.util.cache_folder import cache_folder

log = logging.getLogger("tunesmith")
WORTH = 0.8
"""Largest share of the time in fp32 at which bf16 is chosen; what surrounds the products gains nothing from it."""
ROWS, WIDTH = 512, 768
"""Tokens and width of the measured layer, a feed-forward layer as in BERT-base."""
TURNS = 6
"""Measurements of each precision; the fastest counts, so that other work on the machine does not."""
Answer = Literal["fp32", "bf16"]


@cache
def cpu_precision() -> Answer:
    """Return bf16 if this processor multiplies matrices faster in it, else fp32; imports torch only to measure."""
    if not _has_instructions():
        return "fp32"
    return "bf16" if _known_share() <= WORTH else "fp32"


def _has_instructions() -> bool:
    """Return whether the processor has instructions for bf16, which torch's kernels need to be of any use."""
    if facts := _cpu_facts():
        return re.search(r"^flags\s*:.*\bavx512_bf16\b", facts, re.MULTILINE) is not None
    import torch

    return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


def _cpu_facts() -> str:
    """Return what Linux says about the processor; empty on other systems."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""


def _known_share() -> float:
    """Return the measured share from the cache, measuring it first if necessary."""
    file, key = cache_folder() / "precision.json", f"{_processor()}, torch {version('torch')}"
    if (share := _read(file).get(key)) is not None:
        return share
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):
            known = _read(file)  # another process may have measured meanwhile
            if key not in known:
                known[key] = round(measure(), 3)
                write_durably(file, json.dumps(known, indent=1))
            return known[key]
    except OSError as error:
        log.warning("%-11s cannot save which precision is faster: %s", "precision", error)
        return measure()


def _read(file: Path) -> dict[str, float]:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        return {key: float(share) for key, share in known.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _processor() -> str:
    if not (facts := _cpu_facts()):
        return platform.processor()
    # the same name can stand for several models on virtual machines
    parts = [re.search(rf"^{name}\s*:\s*(.*)$", facts, re.MULTILINE) for name in ("model name", "model", "stepping")]
    return " ".join(part[1] for part in parts if part) + (" with AMX" if " amx_bf16" in facts else "")


def measure() -> float:
    """Return the time of a layer's training step in bf16 as a share of its time in fp32, on one core; a second."""
    import torch
    from torch import nn

    def seconds(bf16: bool) -> float:
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            output = layer(tokens)
        output.float().square().mean().backward()
        layer.zero_grad()
        return time.perf_counter() - begin

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # other processes on the machine then disturb it least
    try:
        with torch.random.fork_rng([]):
            layer = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))
            tokens = torch.randn(ROWS, WIDTH)
        times = [(seconds(False), seconds(True)) for _ in range(TURNS)][1:]  # the first turn makes the kernels
    finally:
        torch.set_num_threads(threads)
    fp32, bf16 = (min(column) for column in zip(*times, strict=True))
    return bf16 / fp32
