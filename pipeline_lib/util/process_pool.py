"""Work side by side in processes of this machine: fresh ones, as a fork copies locks that other threads hold."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

from pipeline_lib.errors import RecipeError
from pipeline_lib.util.cpu import share

Item = TypeVar("Item")
Result = TypeVar("Result")


def one_by_one(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[Item, Result | BaseException]]:
    """Each item with what the work gave, or with the error that it ended in."""
    for item in items:
        try:
            yield item, work(item)
        except Exception as error:
            yield item, error


def side_by_side(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[tuple[Item, Result | BaseException]]:
    """The same from `workers` processes, as they finish; work, items and results are pickled."""
    workers = min(workers, len(items))
    pool = ProcessPoolExecutor(workers, get_context("spawn"), join_in, (workers,))
    try:
        futures = {pool.submit(work, item): item for item in items}
        for future in as_completed(futures):
            error = future.exception()
            yield futures[future], _in_words(error, workers) if error else future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def join_in(workers: int) -> None:
    """What a worker does first: take its share of the cores, and watch the process that it works for."""
    os.environ.update(share(workers))
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Nobody tells a worker that its parent was killed: it would wait for work for ever."""
    if parent := parent_process():
        parent.join()
        os._exit(1)


def _in_words(error: BaseException, workers: int) -> BaseException:
    if not isinstance(error, BrokenProcessPool):
        return error
    hint = "Use fewer workers if memory ran out; a script of yours needs `if __name__ == '__main__':`"
    return RecipeError("execution.workers", workers, "a worker process died", hint)
