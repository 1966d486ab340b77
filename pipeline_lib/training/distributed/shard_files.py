"""Write and read the tensors of a checkpoint with PyTorch's distributed checkpoints: each rank its own shards.

The files are safetensors with the place of each shard in their headers, so any number of ranks can read them. (The
library's other format has a pickled index, which is never read here.)
"""

import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup

Tensors = Mapping[str, "Tensor"]


class Pending(Protocol):
    """Something being written."""

    def result(self) -> Any:
        """Wait until all ranks have written, and raise the error of one that could not."""


class ShardFiles:
    """Reads and writes shards; with several ranks through a process group of its own, beside the training."""

    def __init__(self, ranks: int, timeout: timedelta | None = None) -> None:
        from torch.distributed import new_group

        # threads write while the training communicates, which needs another group
        self.group: ProcessGroup | None = new_group(backend="gloo", timeout=timeout) if ranks > 1 else None

    def write(self, tensors: Tensors, folder: Path) -> Pending:
        """Write this rank's shards of some tensors; all ranks must call it.

        With several ranks it returns when the shards are copied, and a thread writes the copies. With a single one it
        returns when they are written: a copy would take as much memory as the training itself.
        """
        from torch.distributed.checkpoint import HuggingFaceStorageWriter, async_save, save

        writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
        options: Any = {"storage_writer": writer, "process_group": self.group}
        if self.group is not None:
            return async_save(dict(tensors), **options)  # type: ignore[return-value]
        with _quiet():
            save(dict(tensors), no_dist=True, **options)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def read(self, tensors: Tensors, folder: Path) -> None:
        """Read this rank's shards into the tensors; all ranks must call it."""
        from torch.distributed.checkpoint import HuggingFaceStorageReader, load

        with _quiet():
            load(
                dict(tensors),
                storage_reader=HuggingFaceStorageReader(str(folder)),
                process_group=self.group,
                no_dist=self.group is None,
            )


def stored_names(folder: Path) -> set[str]:
    """Return the names of all tensors in a folder."""
    from safetensors import safe_open

    names: set[str] = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            names.update(tensors.keys())
    return names


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress torch's warning that a single process has no process group."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield
