"""What the processes of one training share: the sum of their gradients, and the first one's word.

This is not a DistributedDataParallel. That averages where a step needs the sum, and it reduces within a backward pass
in which the same parameters must get a gradient on every rank; here ranks take different numbers of passes, one may
have no row at all, and parameters thaw between epochs. One sum after the last pass asks for none of that. The price:
no byte travels while gradients are still computed.

With one process nothing here imports or computes anything.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn

Plain = TypeVar("Plain")
BUCKET = 2**25
"""Most numbers that are sent at once, one parameter at least: room for a copy of these, not of all gradients."""


def sum_gradients(weights: "Iterable[nn.Parameter]", loss: float, accelerator: "Accelerator") -> float:
    """Put the sum over all ranks in the place of each gradient; the sum of the losses.

    The sums have the same bits on every rank. A parameter without a gradient on any rank stays without one, so that
    AdamW passes it over as it does with one process.
    """
    if accelerator.num_processes == 1:
        return loss
    import torch
    from torch.distributed import all_reduce

    trained = [weight for weight in weights if weight.requires_grad]
    there = [float(weight.grad is not None) for weight in trained]
    counts = torch.tensor([*there, loss], dtype=torch.float64, device=accelerator.device)
    all_reduce(counts)
    *counted, whole = counts.tolist()
    for bucket in _buckets(weight for weight, count in zip(trained, counted, strict=True) if count):
        flat = torch.cat([(torch.zeros_like(w) if w.grad is None else w.grad).flatten() for w in bucket])
        all_reduce(flat)
        for weight, gradient in zip(bucket, flat.split([weight.numel() for weight in bucket]), strict=True):
            weight.grad = gradient.view_as(weight)
    return whole


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
    """What rank 0 makes, plain as JSON, on every rank: all decide by the same numbers. The others wait."""
    if accelerator.num_processes == 1:
        return make()
    import torch
    from torch.distributed import broadcast

    text = json.dumps(make()).encode() if accelerator.is_main_process else b""
    size = torch.tensor(len(text), device=accelerator.device)
    broadcast(size, 0)
    letters = torch.tensor(list(text) or [0] * int(size), dtype=torch.uint8, device=accelerator.device)
    broadcast(letters, 0)
    return json.loads(bytes(letters.tolist()))


def refuse_drift(weights: "Iterable[nn.Parameter]", step: int, accelerator: "Accelerator") -> None:
    """Raise RuntimeError where a rank stands at another step than rank 0, or has weights of other bits."""
    if accelerator.num_processes == 1:
        return
    import torch

    mine = [step, *(int(torch.hash_tensor(weight.detach()).view(torch.int64)) for weight in weights)]
    if broadcast_from_first(lambda: mine, accelerator) != mine:
        raise RuntimeError(f"process {accelerator.process_index} no longer has the weights of process 0: run again")
