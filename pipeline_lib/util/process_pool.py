"""Run work in parallel processes on this machine.

Processes are spawned, not forked: a fork would copy locks held by other threads.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

from pipeline_lib.errors import RecipeError
from pipeline_lib.util.cpu import thread_limits

Item = TypeVar("Item")
Result = TypeVar("Result")


def one_by_one(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[Item, Result | BaseException]]:
    """Process items one after the other; yield each item with its result or the error it raised."""
    for item in items:
        try:
            yield item, work(item)
        except Exception as error:
            yield item, error


def side_by_side(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[tuple[Item, Result | BaseException]]:
    """Process items in `workers` processes; yield each item with its result or error, in the order they finish.

    The work, the items and the results must be picklable.
    """
    workers = min(workers, len(items))
    pool = ProcessPoolExecutor(workers, get_context("spawn"), join_in, (workers,))
    try:
        futures = {pool.submit(work, item): item for item in items}
        for future in as_completed(futures):
            error = future.exception()
            yield futures[future], _explain(error, workers) if error else future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def join_in(workers: int) -> None:
    """Initialise a worker: limit its threads to its share of the cores, and exit when its parent dies."""
    os.environ.update(thread_limits(workers))
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit when the parent does; a worker whose parent was killed would otherwise wait for work forever."""
    if parent := parent_process():
        parent.join()
        os._exit(1)


def _explain(error: BaseException, workers: int) -> BaseException:
    """Replace the error of a broken pool with one that suggests likely causes."""
    if not isinstance(error, BrokenProcessPool):
        return error
    hint = "Use fewer workers if memory ran out; a script must guard its code with `if __name__ == '__main__':`"
    return RecipeError("execution.workers", workers, "a worker process died", hint)
