"""Stop unpromising trials of a sweep early with a pruner of Optuna, which is not needed otherwise.

Trials share their scores in an Optuna study, kept in a journal file that processes of one machine can access. The study
lasts as long as the sweep; scores of trials that are already complete come from the store and are reported first.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline_lib.errors import RecipeError
from pipeline_lib.pipeline.run import RunOutcome, run
from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.sweep.trials import Sweep, Trial
from pipeline_lib.training.validation import selection_metric
from pipeline_lib.util.signals import Pruned
from pipeline_lib.util.temporary import temporary_folder

if TYPE_CHECKING:
    import optuna

    from pipeline_lib.training.progress import Show

log = logging.getLogger("tunesmith")
STARTUP = 3
"""Trials that must have completed before the median is used; many sweeps have fewer than Optuna's default of five."""


@dataclass(frozen=True)
class Study:
    """The journal file, the pruner and the direction of a sweep's Optuna study; can be pickled."""

    journal: str
    pruner: str
    higher_is_better: bool

    def open(self) -> "optuna.Study":
        """Open the Optuna study, creating it if necessary."""
        import optuna
        from optuna.pruners import MedianPruner, SuccessiveHalvingPruner
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        halving = SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
        return optuna.create_study(
            storage=JournalStorage(JournalFileBackend(self.journal)),
            pruner=MedianPruner(n_startup_trials=STARTUP) if self.pruner == "median" else halving,
            study_name="sweep",
            direction="maximize" if self.higher_is_better else "minimize",
            load_if_exists=True,
        )


class TrialPruner:
    """Reports a training's validation scores to the study, and decides whether to stop it."""

    def __init__(self, study: Study, recipe: Recipe):
        self.study, self.metric = study, selection_metric(recipe)[0]
        self.validations = 0
        self.scores: dict[int, float] = {}
        """Number of the validation, from 1 -> its score; an undefined score is left out."""

    def __call__(self, records: Sequence[dict[str, Any]]) -> str | None:
        """Report new records of the history, and return why to stop after the last of them, or None."""
        prune = False
        for record in records:
            if (record["split"], record["metric"]) == ("validation", self.metric):
                self.validations += 1
                if not math.isnan(record["value"]):
                    prune = self._report(record["value"])
        return self._explain_decision() if prune else None

    def _report(self, score: float) -> bool:
        """Report a score to Optuna, and return whether it would prune the trial."""
        if not self.scores:  # registered late: a trial that is reused or fails before training must not count
            self.opened = self.study.open()
            self.trial = self.opened.ask()
        self.scores[self.validations] = score
        self.trial.report(score, self.validations)
        return self.trial.should_prune()

    def _explain_decision(self) -> str:
        """Explain the pruner's decision."""
        last, higher = max(self.scores), self.study.higher_is_better
        if self.study.pruner == "median":
            best = (max if higher else min)(self.scores.values())
            side = "below" if higher else "above"
            return f"its best {self.metric} up to validation {last} ({best:.4f}) was {side} the median of the others"
        score = self.scores[last]
        return f"its {self.metric} in validation {last} ({score:.4f}) was not in the better half of the others"

    def end(self, complete: bool) -> None:
        """Tell the study how the trial ended."""
        from optuna.trial import TrialState

        if self.scores and complete:
            self.opened.tell(self.trial, self.scores[max(self.scores)])
        elif self.scores:
            self.opened.tell(self.trial, state=TrialState.PRUNED)


def run_trial(trial: Trial, made_by: str, study: Study | None, show: "Show | None" = None) -> RunOutcome | Pruned:
    """Run a trial until it completes or the study stops it early."""
    if study is None:
        return run(trial.recipe, made_by, show=show)
    stop_check = TrialPruner(study, trial.recipe)
    try:
        outcome = run(trial.recipe, made_by, stop_check, show)
    except Pruned as pruned:
        stop_check.end(complete=False)
        log.info("%-11s %s stopped early: %s", "finetune", trial.recipe.name, pruned)
        return pruned
    stop_check.end(complete=True)
    return outcome


@contextmanager
def open_study(planned: Sequence[Trial], settings: Sweep) -> Iterator[Study | None]:
    """Provide the study for the time of the sweep, with the scores of completed trials; None without a pruner."""
    if settings.pruner is None:
        yield None
        return
    with temporary_folder() as folder:
        study = Study(str(folder / "journal"), settings.pruner, selection_metric(planned[0].recipe)[1])
        for trial in planned:
            stop_check = TrialPruner(study, trial.recipe)
            stop_check(_history(trial.recipe))
            stop_check.end(complete=True)
        yield study


def _history(recipe: Recipe) -> list[dict[str, Any]]:
    """The history of a training in the store on this machine; empty if there is none."""
    import pyarrow.parquet as pq

    from pipeline_lib.pipeline.plan import plan

    (model,) = (step.artifact for step in plan(recipe).planned if step.step == "finetune")
    path = model and model.folder / "history.parquet"
    return pq.read_table(path).to_pylist() if path and path.is_file() else []


def check_pruner(planned: Sequence[Trial], settings: Sweep) -> None:
    """Raise RecipeError if the sweep has a pruner that cannot work with its trials."""
    if settings.pruner is None:
        return
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        hint = "Install it: pip install -c constraints.txt -e '.[sweep]'"
        raise RecipeError("sweep.pruner", settings.pruner, f"needs optuna ({error})", hint) from None
    for trial in planned:
        _refuse(trial.recipe)
    if len(metrics := {selection_metric(trial.recipe)[0] for trial in planned}) > 1:
        problem = f"cannot compare trainings with different validation metrics ({', '.join(sorted(metrics))})"
        hint = "Set the same regularizers.early_stopping.metric in all, or remove the pruner"
        raise RecipeError("sweep.pruner", settings.pruner, problem, hint)


def _refuse(recipe: Recipe) -> None:
    """Raise RecipeError if a recipe has no validation rows, or trains where the study cannot be shared."""
    split, execution = recipe.data.split, recipe.execution
    if recipe.data.source.validation is None and split.validation == 0:
        hint = "Set it above 0, set data.source.validation, or remove the pruner"
        raise RecipeError("data.split.validation", 0.0, "leaves no validation rows for the sweep's pruner", hint)
    for field, count in (("processes", execution.processes), ("machines", execution.machines)):
        if count > 1:
            problem = "cannot be stopped early by a sweep's pruner"
            raise RecipeError(f"execution.{field}", count, problem, "Set it to 1, or remove the pruner")
    if execution.cluster:
        problem = "may train on machines that cannot share their scores with the pruner"
        raise RecipeError("execution.cluster", execution.cluster, problem, "Remove it, or remove the pruner")
