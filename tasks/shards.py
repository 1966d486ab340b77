"""Encode each group of source files in a task run, so that Prefect shows it and why it failed.

Up to 32 files, and all large ones, are groups of their own.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import TaskRunner
from prefect.utilities.annotations import unmapped

from pipeline_lib.data.encoding import Outcomes, Spread, encode_group
from pipeline_lib.data.file_groups import FileGroup
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.store.artifacts import Artifact
from tasks.states import as_state


@task(task_run_name="{group.name}", cache_policy=NO_CACHE, persist_result=False)
def shard(recipe: Recipe, base: Artifact, by: str, group: FileGroup) -> Artifact:
    """Encode a group of source files."""
    return as_state(encode_group(recipe, base, by, group))


def spread_over(runner: TaskRunner[Any]) -> Spread:
    """Return a function that encodes files on a task runner, which is shut down when they are done."""
    return partial(_encode_groups, runner)


def _encode_groups(
    runner: TaskRunner[Any], recipe: Recipe, base: Artifact, groups: Sequence[FileGroup], by: str
) -> Outcomes:
    constants = {"recipe": unmapped(recipe), "base": unmapped(base), "by": unmapped(by)}
    with runner:
        futures = list(runner.map(cast(Any, shard), {**constants, "group": list(groups)}))
        group_of = dict(zip(futures, groups, strict=True))
        for future in as_completed(futures):
            yield group_of[future], _error(future)


def _error(future: PrefectFuture[Artifact]) -> BaseException | None:
    try:
        future.result()
    except Exception as error:
        return error
    return None
