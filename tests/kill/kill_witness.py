"""Inside a run that is to be killed: writes down what it does to its store, and kills it at the chosen deed.

A deed is a call that every run makes anyway: Python tells of most as audit events (open to write, rename, mkdir,
remove, rmdir, rmtree, utime). Files that native code writes, files that are loaded and training steps are seen by
wrappers. The product knows nothing of all this.
"""

import functools
import json
import logging
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
FOLDER_AT = {"os.mkdir": 2, "os.remove": 1, "os.rmdir": 1}
"""Where an event has the open folder that its path is relative to, if there is one."""
TOLD = {"open", "os.rename", "os.utime", "shutil.rmtree", *FOLDER_AT}


class Point(NamedTuple):
    """Deed number `number` (from 1) of a kind, or of all kinds; `torn` lets it write half of its file before."""

    number: int
    kind: str = ""
    torn: bool = False


class Witness:
    """Writes a line of JSON for every deed; one that comes at the point is the last."""

    def __init__(self, root: Path, trace: Path, point: Point | None):
        self.root, self.point = f"{root}{os.sep}", point
        self.trace = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self.stage, self.done = "between", Counter[str]()

    def tell(self, kind: str, what: object) -> None:
        """Write a line that is not a deed."""
        os.write(self.trace, (json.dumps({"kind": kind, "stage": self.stage, "what": str(what)}) + "\n").encode())

    def deed(self, kind: str, what: object, tears: Callable[[], None] | None = None) -> None:
        """Count a deed and die if it is the one; `tears` leaves half of what it writes."""
        self.tell(kind, what)
        self.done.update(("", kind))
        if self.point is None or self.done[self.point.kind] != self.point.number or self.point.kind not in ("", kind):
            return
        if self.point.torn and tears:
            tears()
        os.kill(os.getpid(), signal.SIGKILL)

    def inside(self, path: object) -> bool:
        """Whether a path lies in the store."""
        return isinstance(path, (str, bytes, os.PathLike)) and os.fsdecode(path).startswith(self.root)

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        """Python's own events."""
        if event not in TOLD or (event == "open" and not (isinstance(args[2], int) and args[2] & WRITING)):
            return
        path, folder = args[0], args[FOLDER_AT[event]] if event in FOLDER_AT else -1
        if isinstance(folder, int) and folder >= 0:  # as rmtree removes what it finds
            path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), os.fsdecode(path))
        if self.inside(path):
            self.deed(event.removeprefix("os.").removeprefix("shutil."), os.fsdecode(path)[len(self.root) :])


HERE: list[Witness] = []
"""The witness of this process, once it is forked."""


def wrap(owner: Any, name: str, kind: str, place: int) -> None:
    """Count the calls of a function whose argument number `place` is a path in the store."""
    real = getattr(owner, name)

    @functools.wraps(real)
    def witnessed(*args: Any, **options: Any) -> Any:
        if HERE and len(args) > place and HERE[0].inside(args[place]):
            path = os.fsdecode(args[place])
            HERE[0].deed(kind, path[len(HERE[0].root) :], lambda: _tear(lambda: real(*args, **options), path))
        return real(*args, **options)

    setattr(owner, name, witnessed)


def _tear(write: Callable[[], Any], path: str) -> None:
    HERE.clear()  # what happens inside counts no more
    write()
    for file in Path(path).glob("*.safetensors") if os.path.isdir(path) else [path]:
        os.truncate(file, os.path.getsize(file) // 2)


def wrap_files() -> None:
    """See native writers and readers; before transformers is imported, which takes its own name for one of them."""
    import shutil

    import pyarrow.parquet as pq
    import safetensors.torch as st

    from pipeline_lib.training.distributed.shard_files import ShardFiles

    wrap(ShardFiles, "write", "write", 2)
    wrap(ShardFiles, "read", "load", 2)
    wrap(st, "save_file", "write", 1)
    wrap(st, "load_file", "load", 0)
    wrap(pq, "write_table", "write", 1)
    wrap(Path, "write_text", "write", 0)
    wrap(shutil, "copyfile", "write", 1)


def wrap_tracking() -> None:
    """See what MLflow writes into its SQLite file, also between two halves of one call."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from mlflow.tracking import MlflowClient

    names = ("create_run", "log_batch", "_set_tags", "set_tag", "update_run_info", "create_logged_model")
    for owner, name in [*((SqlAlchemyStore, name) for name in names), (MlflowClient, "log_model_artifacts")]:
        real = getattr(owner, name)

        @functools.wraps(real)
        def witnessed(*args: Any, real: Callable[..., Any] = real, **options: Any) -> Any:
            if HERE:
                HERE[0].deed(real.__name__, "MLflow")
            return real(*args, **options)

        setattr(owner, name, witnessed)


def watch(root: Path, trace: Path, point: Point | None) -> Witness:
    """From now on see all that this process does."""
    witness = Witness(root, trace, point)
    HERE.append(witness)
    sys.addaudithook(lambda event, args: HERE[0].hear(event, args) if HERE else None)
    _watch_steps(witness)
    warnings = logging.Handler(logging.WARNING)
    warnings.emit = lambda record: witness.tell("warning", record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("tunesmith").addHandler(warnings)
    return witness


def _watch_steps(witness: Witness) -> None:
    from pipeline_lib.store.store import Store
    from pipeline_lib.training import checkpoint_policy
    from pipeline_lib.training.step import Stepper

    make, train = Store._make, Stepper.step

    def making(store: Store, step: Any, *args: Any) -> Any:
        around, witness.stage = witness.stage, step.name  # a training computes its features
        witness.tell("make", step.name)
        try:
            return make(store, step, *args)
        finally:
            witness.stage = around

    def training(stepper: Stepper, rows: Any, step: int, rate: float) -> Any:
        witness.deed("step", step)
        return train(stepper, rows, step, rate)

    Store._make, Stepper.step = making, training  # type: ignore[method-assign]
    checkpoint_policy.time = SimpleNamespace(monotonic=count().__next__)  # type: ignore[assignment]  # no two machines differ
