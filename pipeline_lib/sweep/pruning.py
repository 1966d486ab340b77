"""Hopeless trials of a sweep end early, as a pruner of Optuna's says; Optuna is not needed without one.

What the trials know of one another is an Optuna study in a journal file, which processes of one machine share. It lasts
as long as the sweep: what earlier ones know is in the store, and trials that are complete there are told to it first.
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
from pipeline_lib.training.validation import watched
from pipeline_lib.util.signals import Pruned
from pipeline_lib.util.temporary import temporary_folder

if TYPE_CHECKING:
    import optuna

    from pipeline_lib.training.progress import Show

log = logging.getLogger("tunesmith")
STARTUP = 3
"""Trials that must have ended before the median counts: Optuna's own five are more than many sweeps have."""


@dataclass(frozen=True)
class Study:
    """Where the scores of a sweep's trials are, and who judges them; can be pickled."""

    journal: str
    pruner: str
    higher_is_better: bool

    def open(self) -> "optuna.Study":
        """The study, made where it is not there yet."""
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


class TrialJudge:
    """Reports a training's validation scores to the study, and says why it has no hope."""

    def __init__(self, study: Study, recipe: Recipe):
        self.study, self.metric = study, watched(recipe)[0]
        self.scores: dict[int, float] = {}

    def __call__(self, records: Sequence[dict[str, Any]]) -> str | None:
        """Take new records of the history; what Optuna says of the last of them counts."""
        hopeless = False
        for record in records:
            if (record["split"], record["metric"]) == ("validation", self.metric) and not math.isnan(record["value"]):
                hopeless = self._hopeless(record["epoch"], record["value"])
        return self._why() if hopeless else None

    def _hopeless(self, epoch: int, score: float) -> bool:
        if not self.scores:  # a trial that is reused, or fails before it trains, is none
            self.opened = self.study.open()
            self.trial = self.opened.ask()
        self.scores[epoch] = score
        self.trial.report(score, epoch)
        return self.trial.should_prune()

    def _why(self) -> str:
        epoch, higher = max(self.scores), self.study.higher_is_better
        if self.study.pruner == "median":
            best = (max if higher else min)(self.scores.values())
            side = "below" if higher else "above"
            return f"its best {self.metric} after epoch {epoch} ({best:.4f}) was {side} the median of the others"
        score = self.scores[epoch]
        return f"its {self.metric} after epoch {epoch} ({score:.4f}) was not in the better half of the others"

    def end(self, complete: bool) -> None:
        """Tell the study how the trial has ended."""
        from optuna.trial import TrialState

        if self.scores and complete:
            self.opened.tell(self.trial, self.scores[max(self.scores)])
        elif self.scores:
            self.opened.tell(self.trial, state=TrialState.PRUNED)


def run_trial(trial: Trial, made_by: str, study: Study | None, show: "Show | None" = None) -> RunOutcome | Pruned:
    """Run a trial to its end, or to where its training was ended early."""
    if study is None:
        return run(trial.recipe, made_by, show=show)
    judge = TrialJudge(study, trial.recipe)
    try:
        outcome = run(trial.recipe, made_by, judge, show)
    except Pruned as pruned:
        judge.end(complete=False)
        log.info("%-11s %s stopped early: %s", "finetune", trial.recipe.name, pruned)
        return pruned
    judge.end(complete=True)
    return outcome


@contextmanager
def shared_study(planned: Sequence[Trial], settings: Sweep) -> Iterator[Study | None]:
    """What the trials are judged by while the sweep lasts; None without a pruner."""
    if settings.pruner is None:
        yield None
        return
    with temporary_folder() as place:
        study = Study(str(place / "journal"), settings.pruner, watched(planned[0].recipe)[1])
        for trial in planned:
            judge = TrialJudge(study, trial.recipe)
            judge(_history(trial.recipe))
            judge.end(complete=True)
        yield study


def _history(recipe: Recipe) -> list[dict[str, Any]]:
    """The history of a training that the store has on this machine; empty where it has none."""
    import pyarrow.parquet as pq

    from pipeline_lib.pipeline.plan import plan

    (model,) = (each.artifact for each in plan(recipe).planned if each.step == "finetune")
    path = model and model.folder / "history.parquet"
    return pq.read_table(path).to_pylist() if path and path.is_file() else []


def refuse_unjudged(planned: Sequence[Trial], settings: Sweep) -> None:
    """Raise RecipeError where a pruner is asked for and has nothing to go by."""
    if settings.pruner is None:
        return
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        hint = "Install it: pip install -c constraints.txt -e '.[sweep]'"
        raise RecipeError("sweep.pruner", settings.pruner, f"needs optuna ({error})", hint) from None
    for trial in planned:
        _refuse(trial.recipe)
    if len(metrics := {watched(trial.recipe)[0] for trial in planned}) > 1:
        problem = f"cannot compare trainings that watch different metrics ({', '.join(sorted(metrics))})"
        hint = "Give all the same regularizers.early_stopping.metric, or leave out the pruner"
        raise RecipeError("sweep.pruner", settings.pruner, problem, hint)


def _refuse(recipe: Recipe) -> None:
    split, execution = recipe.data.split, recipe.execution
    if recipe.data.source.validation is None and split.validation == 0:
        hint = "Set aside a share, name data.source.validation, or leave out the pruner"
        raise RecipeError("data.split.validation", 0.0, "leaves the sweep's pruner nothing to judge by", hint)
    if execution.processes > 1:
        problem = "cannot be ended early by a sweep's pruner"
        raise RecipeError("execution.processes", execution.processes, problem, "Set it to 1, or leave out the pruner")
    if execution.cluster:
        problem = "may train on machines that do not see one another's scores"
        raise RecipeError("execution.cluster", execution.cluster, problem, "Leave it out, or leave out the pruner")
