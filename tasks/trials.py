"""The trials of a sweep, each in its own task run and in parallel as `execution` says, and their comparison."""

from collections.abc import Sequence
from typing import Any, cast

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed
from prefect.utilities.annotations import unmapped

from pipeline_lib.pipeline.run import RunOutcome
from pipeline_lib.store.artifacts import Artifact
from pipeline_lib.sweep import sweep
from pipeline_lib.sweep.links import links, trial_places
from pipeline_lib.sweep.pruning import Study, open_study, run_trial
from pipeline_lib.sweep.trials import Sweep, Trial
from pipeline_lib.util.signals import Pruned
from tasks.progress import ProgressArtifact
from tasks.runners import task_runner
from tasks.states import current_flow_run
from tasks.steps import step


@task(task_run_name="{planned_trial.recipe.name}", cache_policy=NO_CACHE, persist_result=False)
def trial(by: str, planned_trial: Trial, study: Study | None) -> RunOutcome | Pruned:
    """Fine-tune and evaluate one recipe, reusing steps in the store; an unpromising trial is stopped early."""
    outcome = run_trial(planned_trial, by, study, ProgressArtifact(planned_trial.recipe.name))
    if isinstance(outcome, Pruned):
        name, message = "Stopped early", str(outcome)
    else:
        name, message = "Reused" if outcome.scores.reused else "Completed", outcome.model.message
    state: Any = Completed(name=name, message=message, data=outcome)
    return state


def run_trials(planned: Sequence[Trial], settings: Sweep) -> sweep.Ended:
    """Run all trials and return the outcome of each, or its error; one failure does not stop the others."""
    with open_study(planned, settings) as study, task_runner(planned[0].recipe.execution) as runner:
        parameters = {"by": unmapped(current_flow_run()), "planned_trial": list(planned), "study": unmapped(study)}
        futures = runner.map(cast(Any, trial), parameters)
        for future in futures:
            future.wait()
        states = [future.state for future in futures]
    results = [state.result(raise_on_failure=False) for state in states]
    return {entry.recipe.name: result for entry, result in zip(planned, results, strict=True)}


@step
def compare(planned: Sequence[Trial], ended: sweep.Ended, settings: Sweep) -> Artifact:
    """Compare the successful trials; fails if a trial failed."""
    comparison = sweep.compare_trials(planned, ended, settings, current_flow_run())
    page = (comparison.folder / "comparison.md").read_text(encoding="utf-8") + f"\n{links(trial_places(ended))}\n"
    create_markdown_artifact(page, key="sweep-comparison", description=str(comparison.folder))
    return comparison
