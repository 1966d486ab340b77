"""Seconds per step and memory of a training in one and in two processes; the traffic of 64 GPUs, calculated.

    python tests/benchmarks/scaling.py [--width 512 --layers 8] [--steps 6] [--turns 3]

A Llama of random weights is trained in full, in fp32 on the CPU with one thread per process: whole in one process,
whole in two (`none`: one sum of gradients per step by our own code), whole in two with PyTorch's replication (`hybrid`
on machines of one process each), and divided between two (`full`). The variants take turns. The table of 64 GPUs is no
measurement: it divides the bytes that each rank sends and receives per step by the rates of the links.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.append(str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parents[2]))

VARIANTS = {"one process": (1, "none", 1), "two, none": (2, "none", 2), "two, hybrid": (2, "hybrid", 1)}
"""Name -> processes, sharding, and processes per machine."""
VARIANTS |= {"two, full": (2, "full", 2)}
ROWS, BATCH = 40, 8


def measure(base: Path, sharding: str, steps: int) -> dict[str, Any]:
    """Train a few steps as one rank; the first step is not counted."""
    import numpy as np
    import torch
    from decoder_memory import begun_loop

    from pipeline_lib.models.shards import local
    from pipeline_lib.recipe.schema import check

    recipe = check(
        {
            "name": "scaling",
            "data": {"source": {"kind": "csv", "train": "none.csv"}},
            "model": {"base": str(base), "dtype": "fp32"},
            "objective": {"kind": "causal_lm"},
            "strategies": [{"kind": "full"}],
            "training": {"batch_size": BATCH},
            "execution": {"device": "cpu", "precision": "fp32", "sharding": sharding},
        }
    )
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        loop = begun_loop(recipe, base, Path(folder), sharding)
        seconds = []
        for step in range(steps + 1):
            begun = time.perf_counter()
            loop.stepper.step(np.arange(BATCH) + BATCH * step % ROWS, step, 1.0)
            seconds.append(time.perf_counter() - begun)
        tensors = [weight.detach() for weight in loop.model.parameters()]
        tensors += [value for state in loop.optimizer.optimizer.state.values() for value in state.values()]
        state_bytes = sum(local(tensor).nbytes for tensor in tensors)
    return {"seconds": statistics.median(seconds[1:]), "mib": state_bytes >> 20}


def run(base: str, variant: str, steps: int) -> dict[str, Any]:
    """Run all ranks of a variant; return what rank 0 measured."""
    count, sharding, of_machine = VARIANTS[variant]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(count):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": of_machine}
        place |= {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"} if count > 1 else {}
        environment = os.environ | {name: str(value) for name, value in place.items() if count > 1}
        command = [sys.executable, __file__, "--rank-of", sharding, "--base", base, "--steps", str(steps)]
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"{variant} failed")
    return json.loads(outputs[0].splitlines()[-1])


class Cluster(NamedTuple):
    """Machines of eight GPUs each."""

    machines: int = 8
    gpus: int = 8
    rate: float = 400e12
    """Bf16 operations per second that a GPU reaches in training: 40 % of an H200's 989 TFLOPS."""
    inside: float = 450e9
    """Bytes per second and direction between the GPUs of a machine: NVLink 4."""
    between: float = 50e9
    """Bytes per second and direction of one GPU's network adapter: 400 Gbit/s."""


def calculate(parameters: float, tokens: int, cluster: Cluster) -> dict[str, tuple[float, float]]:
    """Return the seconds of computation and of communication of one step, by sharding.

    Each rank computes 6 operations per parameter and token (Kaplan et al. 2020, section 2.1) on `tokens` tokens. A ring
    moves (n - 1) / n of the bytes through each link once to gather or to reduce and scatter, twice to sum everywhere
    (Patarasuk and Yuan 2009). fp32 numbers are sent: weights are gathered for the forward and again for the backward
    pass.
    """
    ranks, size = cluster.machines * cluster.gpus, 4 * parameters
    compute = 6 * parameters * tokens / cluster.rate
    around, inside = (ranks - 1) / ranks, (cluster.gpus - 1) / cluster.gpus
    between = (cluster.machines - 1) / cluster.machines
    # the adapters of a machine carry a ring each, and a part of the bytes
    through_all = around * size / cluster.gpus / cluster.between + inside * size / cluster.inside
    return {
        "none": (compute, 2 * through_all),
        "full": (compute, 3 * through_all),
        "hybrid": (
            compute,
            3 * inside * size / cluster.inside + 2 * between * size / cluster.gpus / cluster.between,
        ),
    }


def main() -> None:
    """Measure the variants in turns, then print what 64 GPUs would do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--vocabulary", type=int, default=8000)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--rank-of", help=argparse.SUPPRESS)
    parser.add_argument("--base", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.rank_of:
        print(json.dumps(measure(given.base, given.rank_of, given.steps)))
        return
    from decoder_memory import write_base

    results: dict[str, list[dict[str, Any]]] = {name: [] for name in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        write_base(Path(folder), given.width, given.layers, given.vocabulary)
        for _ in range(given.turns):
            for name, measured in results.items():
                measured.append(run(folder, name, given.steps))
    print(f"{'':14} {'s per step':>11} {'speedup':>8} {'MiB of weights and averages per process':>40}")
    single = statistics.median(result["seconds"] for result in results["one process"])
    for name, measured in results.items():
        seconds = statistics.median(result["seconds"] for result in measured)
        print(f"{name:14} {seconds:11.3f} {single / seconds:8.2f} {measured[0]['mib']:40}")
    print("\n8 machines of 8 H200, calculated: seconds of computation and communication per step, and the share of")
    print("computation if nothing overlaps and if everything does")
    for parameters, tokens in ((1e9, 16384), (8e9, 16384)):
        for sharding, (compute, communication) in calculate(parameters, tokens, Cluster()).items():
            alone, overlapped = compute / (compute + communication), compute / max(compute, communication)
            what = f"{parameters / 1e9:.0f} B, {tokens:,} tokens per GPU, {sharding}"
            print(f"{what:40} {compute:6.3f} {communication:6.3f} {alone:6.0%} {overlapped:6.0%}")


if __name__ == "__main__":
    main()
