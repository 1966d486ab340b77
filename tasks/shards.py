"""Encode each source file in its own task run, so that Prefect shows each file and why it failed."""

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import TaskRunner
from prefect.utilities.annotations import unmapped

from pipeline_lib.data.encoding import FileToEncode, Outcomes, Spread, encode_file
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.artifacts import Artifact
from tasks.states import as_state


@task(task_run_name="{source.file.name}", cache_policy=NO_CACHE, persist_result=False)
def shard(recipe: Recipe, base: Artifact, by: str, source: FileToEncode) -> Artifact:
    """Encode one source file."""
    return as_state(encode_file(recipe, base, by, source))


def spread_over(runner: TaskRunner[Any]) -> Spread:
    """Return a function that encodes files on a task runner, which is shut down when they are done."""
    return partial(_encode_files, runner)


def _encode_files(
    runner: TaskRunner[Any], recipe: Recipe, base: Artifact, files: Sequence[FileToEncode], by: str
) -> Outcomes:
    constants = {"recipe": unmapped(recipe), "base": unmapped(base), "by": unmapped(by)}
    with runner:
        futures = list(runner.map(cast(Any, shard), {**constants, "source": list(files)}))
        file_of = dict(zip(futures, files, strict=True))
        for future in as_completed(futures):
            yield file_of[future], _error(future)


def _error(future: PrefectFuture[Artifact]) -> BaseException | None:
    try:
        future.result()
    except Exception as error:
        return error
    return None
