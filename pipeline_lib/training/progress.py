"""Show the progress of a training: a bar on a terminal, else log lines, and a callback for other displays."""

import contextvars
import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline_lib.recipe.schema import Recipe
from pipeline_lib.training.loop import Watch
from pipeline_lib.training.validation import selection_metric
from pipeline_lib.util.progress_bar import Bar

log = logging.getLogger("tunesmith")
SHOW_EVERY = 5.0
"""Seconds between calls of `show`."""
LOG_EVERY = 15.0
"""Seconds between log lines."""


@dataclass(frozen=True)
class ProgressSnapshot:
    """Progress of a training. Loss and tokens per second are averages since the previous report."""

    step: int
    steps: int
    epoch: int
    epochs: int | None
    """Number of epochs; None if a number of steps ends the training."""
    loss: float | None = None
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    validation: str = ""
    """Loss and selection metric on the validation rows when they were last scored, as text."""
    page: str | None = None
    """URL of the training run in MLflow."""
    stopped: bool = False
    """Whether the training ended before its last step, by a request to stop or an error."""

    @property
    def percent(self) -> float:
        """Percentage of completed steps; early stopping may end below 100."""
        return 100 * self.step / max(1, self.steps)

    def facts(self) -> list[str]:
        """Return the numbers as short phrases."""
        of = f" of {self.epochs}" if self.epochs else ""
        phrases = [f"epoch {self.epoch}{of}", f"step {self.step:,} of {self.steps:,}"]
        if self.loss is not None:
            phrases.append(f"loss {self.loss:.4f}")
        if self.learning_rate is not None:
            phrases.append(f"learning rate {self.learning_rate:.2e}")
        if self.tokens_per_second is not None:
            phrases.append(f"{self.tokens_per_second:,.0f} tokens/s")
        if self.seconds_left is not None and self.step < self.steps:
            phrases.append(f"about {duration(self.seconds_left)} left")
        if self.validation:
            phrases.append(self.validation)
        if self.stopped:
            phrases.append("stopped; a retry continues from the last checkpoint")
        return phrases


Show = Callable[[ProgressSnapshot], None]


class TrainingProgress:
    """Collects the records that a training sends to its watch, and shows the progress from a separate thread.

    `show` is called every few seconds and at the end. If it raises an error, this is logged once, `show` is not called
    again and the training continues.
    """

    def __init__(self, recipe: Recipe, show: Show | None):
        training = recipe.training
        self.epochs, self.show = None if training.max_steps else training.epochs, show
        self.watched = {"loss", selection_metric(recipe)[0]}
        self.page: Callable[[], str | None] = lambda: None
        self.step, self.steps, self.epoch, self.first_step = 0, 0, 1, 0
        self.losses: list[float] = []
        self.tokens, self.learning_rate, self.validation = 0, None, ""
        self.began_at = self.counted_since = 0.0
        self.lock, self.ended, self.stopped = threading.Lock(), threading.Event(), False
        self.bar: Bar | None = None
        context = contextvars.copy_context()  # Prefect uses it to assign log lines to a run
        self.thread = threading.Thread(target=context.run, args=(self._work,), name="progress", daemon=True)

    def __enter__(self) -> "TrainingProgress":
        return self

    def wrap_watch(self, watch: Watch, page: Callable[[], str | None]) -> Watch:
        """Wrap a watch so that its records are counted here; `page` returns the run's MLflow URL once it exists."""
        self.page = page

        def count_and_watch(records: Sequence[dict[str, Any]], steps: int) -> str | None:
            with self.lock:
                if not self.began_at:  # the first call has the records of a resumed training
                    self._begin(records, steps)
                else:
                    self._count(records)
            return watch(records, steps)

        return count_and_watch

    def __exit__(self, kind: type | None, *_: object) -> None:
        self.stopped = kind is not None
        self.ended.set()
        if self.began_at:
            self.thread.join(timeout=SHOW_EVERY)  # with a timeout: a hanging orchestrator must not block the training
        if self.bar:
            self.bar.close()

    def _begin(self, earlier: Sequence[dict[str, Any]], steps: int) -> None:
        self.began_at = self.counted_since = time.monotonic()
        self.steps = steps
        for record in earlier:
            self.step, self.epoch = record["step"], max(1, record["epoch"])
        self.first_step = self.step
        if sys.stderr.isatty():
            self.bar = Bar("training", "steps", steps, self.step)
        else:
            event = f"resumed after step {self.step:,}" if self.step else "started"
            epochs = {None: "", 1: "1 epoch, "}.get(self.epochs, f"{self.epochs} epochs, ")
            log.info("%-11s %s: %s%s steps", "finetune", event, epochs, f"{steps:,}")
        self.thread.start()

    def _count(self, records: Sequence[dict[str, Any]]) -> None:
        validation = [
            record for record in records if record["split"] == "validation" and record["metric"] in self.watched
        ]
        for record in records:
            if record["split"] == "train" and record["metric"] == "loss":
                self.losses.append(record["value"])
                self.step, self.epoch = record["step"], record["epoch"]
                if self.bar:
                    of = f"/{self.epochs}" if self.epochs else ""
                    self.bar.advance(f"epoch {self.epoch}{of} loss {record['value']:.4f}")
            elif record["split"] == "train" and record["metric"] == "learning_rate":
                self.learning_rate = record["value"]
            elif record["split"] == "train" and record["metric"] == "tokens":
                self.tokens += int(record["value"])
        if validation:
            scores = ", ".join(f"{record['metric']} {record['value']:.4f}" for record in validation)
            self.validation = f"validation after step {validation[0]['step']:,}: {scores}"

    def _work(self) -> None:
        logged, shown, show = time.monotonic(), (0, ""), self.show
        while True:
            last = self.ended.wait(SHOW_EVERY)
            snapshot = self._take_snapshot()
            if show is not None:
                try:
                    show(snapshot)
                except Exception as error:  # a problem of the orchestrator must not end the training
                    log.info("%-11s stopped showing progress: %s", "finetune", error)
                    show = None
            news = (snapshot.step, snapshot.validation) != shown  # the last line must not repeat the one before
            news = news and not snapshot.stopped  # the reason is logged elsewhere and must remain the last line
            if self.bar is None and news and (last or time.monotonic() - logged >= LOG_EVERY):
                logged, shown = time.monotonic(), (snapshot.step, snapshot.validation)
                log.info("%-11s %s", "finetune", ", ".join(snapshot.facts()))
            if last:
                return

    def _take_snapshot(self) -> ProgressSnapshot:
        with self.lock:
            now, done = time.monotonic(), self.step - self.first_step
            snapshot = ProgressSnapshot(
                step=self.step,
                steps=self.steps,
                epoch=self.epoch,
                epochs=self.epochs,
                loss=math.fsum(self.losses) / len(self.losses) if self.losses else None,
                learning_rate=self.learning_rate,
                tokens_per_second=self.tokens / (now - self.counted_since) if self.tokens else None,
                seconds_left=None
                if self.stopped or not done
                else (now - self.began_at) / done * (self.steps - self.step),
                validation=self.validation,
                page=self.page(),
                stopped=self.stopped,
            )
            if self.losses:
                self.losses, self.tokens, self.counted_since = [], 0, now
            return snapshot


def duration(seconds: float) -> str:
    """Format a time span with its two largest units, such as "2 min 5 s" or "3 h 10 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
