"""Communication between the processes of a training: summed gradients, and values broadcast from rank 0.

The gradients of a sharded training are summed by `fully_shard` (`sharding.py`); those of a training in which every
process has the whole model are summed here, once per step. DistributedDataParallel averages them where a step needs
their sum, and it reduces during each backward pass, in which the same parameters must get a gradient on every rank.
With one sum after the last pass ranks run different numbers of passes, a rank may have no rows, and parameters are
unfrozen between epochs; in exchange, communication does not overlap with computation.

With a single process nothing here imports or computes anything.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from pipeline_lib.models.shards import is_sharded

if TYPE_CHECKING:
    import numpy as np
    import torch
    from accelerate import Accelerator
    from torch import nn
    from torch.distributed import ProcessGroup

Plain = TypeVar("Plain")
BUCKET = 2**25
"""Maximum numbers per message, but at least one parameter: limits the memory for the copy of the gradients."""


def sum_gradients(weights: "Iterable[nn.Parameter]", loss: float, accelerator: "Accelerator") -> float:
    """Replace each gradient by its sum over all ranks; return the sum of the losses.

    The sums are bitwise equal on every rank. A parameter that has no gradient on any rank stays without one, so that
    optimizers skip it as with a single process.
    """
    if accelerator.num_processes == 1:
        return loss
    import torch
    from torch.distributed import all_reduce

    trained = [weight for weight in weights if weight.requires_grad and not is_sharded(weight)]
    # one reduction tells how many ranks have a gradient for each parameter, and sums the losses
    has_gradient = [float(weight.grad is not None) for weight in trained]
    totals = torch.tensor([*has_gradient, loss], dtype=torch.float64, device=accelerator.device)
    all_reduce(totals)
    *counts, total_loss = totals.tolist()
    for bucket in _buckets(weight for weight, count in zip(trained, counts, strict=True) if count):
        flat = torch.cat([(torch.zeros_like(w) if w.grad is None else w.grad).flatten() for w in bucket])
        all_reduce(flat)
        for weight, gradient in zip(bucket, flat.split([weight.numel() for weight in bucket]), strict=True):
            weight.grad = gradient.view_as(weight)
    return total_loss


def any_rank(here: bool, accelerator: "Accelerator") -> bool:
    """Return, on every rank, whether `here` is true on any of them."""
    return bool(max_over_ranks(int(here), accelerator))


def max_over_ranks(here: int, accelerator: "Accelerator") -> int:
    """Return, on every rank, the largest of the ranks' numbers."""
    if accelerator.num_processes == 1:
        return here
    import torch
    from torch.distributed import ReduceOp, all_reduce

    largest = torch.tensor(here, device=accelerator.device)
    all_reduce(largest, ReduceOp.MAX)
    return int(largest)


def _buckets(weights: "Iterable[nn.Parameter]") -> "Iterator[list[nn.Parameter]]":
    bucket: list[nn.Parameter] = []
    for weight in weights:
        if bucket and sum(w.numel() for w in bucket) + weight.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(weight)
    if bucket:
        yield bucket


def broadcast_from_first(make: Callable[[], Plain], accelerator: "Accelerator") -> Plain:
    """Call `make` on rank 0 and return its result, plain JSON data, on every rank, so that all decide alike."""
    if accelerator.num_processes == 1:
        return make()
    import torch
    from torch.distributed import broadcast

    text = json.dumps(make()).encode() if accelerator.is_main_process else b""
    size = torch.tensor(len(text), device=accelerator.device)
    broadcast(size, 0)
    data = torch.tensor(list(text) or [0] * int(size), dtype=torch.uint8, device=accelerator.device)
    broadcast(data, 0)
    return json.loads(bytes(data.tolist()))


def gather_arrays(
    values: "dict[int, tuple[np.ndarray, ...]]", accelerator: "Accelerator"
) -> "dict[int, tuple[np.ndarray, ...]]":
    """Return, on every rank, the values of all ranks; with a single process they may be anything."""
    if accelerator.num_processes == 1:
        return values
    from safetensors.numpy import load, save

    tensors = {f"{key}.{index}": array for key, arrays in values.items() for index, array in enumerate(arrays)}
    gathered: dict[int, dict[int, np.ndarray]] = {}
    for data in gather_bytes(save(tensors), accelerator.device):
        for name, array in load(data).items():
            key, index = map(int, name.split("."))
            gathered.setdefault(key, {})[index] = array
    return {key: tuple(arrays[index] for index in sorted(arrays)) for key, arrays in gathered.items()}


def gather_bytes(data: bytes, device: "torch.device | str" = "cpu", group: "ProcessGroup | None" = None) -> list[bytes]:
    """Return the bytes of every rank of a group, on every rank; they are padded to the longest on their way."""
    import torch
    from torch.distributed import all_gather, get_world_size

    sizes = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(get_world_size(group))]
    all_gather(sizes, torch.tensor([len(data)], device=device), group)
    longest = max(int(size) for size in sizes)
    own = torch.frombuffer(bytearray(data.ljust(longest, b"\0")), dtype=torch.uint8).to(device)
    gathered = [torch.empty_like(own) for _ in sizes]
    all_gather(gathered, own, group)
    return [part[: int(size)].cpu().numpy().tobytes() for part, size in zip(gathered, sizes, strict=True)]


def refuse_drift(weights: "Iterable[nn.Parameter]", step: int, accelerator: "Accelerator") -> None:
    """Raise RuntimeError if a rank is at another step than rank 0 or its weights differ in any bit.

    Of a sharded training, in which every rank has other weights, only the step is compared.
    """
    if accelerator.num_processes == 1:
        return
    import torch

    whole = [weight for weight in weights if not is_sharded(weight)]
    own_state = [step, *(int(torch.hash_tensor(weight.detach()).view(torch.int64)) for weight in whole)]
    if broadcast_from_first(lambda: own_state, accelerator) != own_state:
        raise RuntimeError(f"process {accelerator.process_index} no longer has the weights of process 0: run again")
