"""How a training stands while it runs: a bar on a terminal, else log lines, and whatever else shows it."""

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
from pipeline_lib.training.validation import watched
from pipeline_lib.util.progress_bar import Bar

log = logging.getLogger("tunesmith")
SHOW_EVERY = 5.0
"""Seconds between two updates of what shows the progress."""
LOG_EVERY = 15.0
"""Seconds between two log lines."""


@dataclass(frozen=True)
class Standing:
    """How a training stands. Loss and tokens per second are those since the standing before."""

    step: int
    steps: int
    epoch: int
    epochs: int
    loss: float | None = None
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    validation: str = ""
    """Loss and the metric that decides, on the validation rows after the last complete epoch."""
    page: str | None = None
    """The training run's page in MLflow."""

    @property
    def percent(self) -> float:
        """How much of the training is done; early stopping may end it before 100."""
        return 100 * self.step / max(1, self.steps)

    def facts(self) -> list[str]:
        """The numbers, each in a few words."""
        told = [f"epoch {self.epoch} of {self.epochs}", f"step {self.step:,} of {self.steps:,}"]
        if self.loss is not None:
            told.append(f"loss {self.loss:.4f}")
        if self.learning_rate is not None:
            told.append(f"learning rate {self.learning_rate:.2e}")
        if self.tokens_per_second is not None:
            told.append(f"{self.tokens_per_second:,.0f} tokens/s")
        if self.seconds_left is not None and self.step < self.steps:
            told.append(f"about {duration(self.seconds_left)} left")
        return [*told, self.validation] if self.validation else told


Show = Callable[[Standing], None]


class TrainingProgress:
    """Counts what a training says to its watch, and shows how it stands from a thread of its own.

    `show` is called every few seconds, and at the end; what it raises is logged once and ends nothing.
    """

    def __init__(self, recipe: Recipe, show: Show | None):
        self.epochs, self.show = recipe.training.epochs, show
        self.watched = {"loss", watched(recipe)[0]}
        self.page: Callable[[], str | None] = lambda: None
        self.step, self.steps, self.epoch, self.begun_at = 0, 0, 1, 0
        self.losses: list[float] = []
        self.tokens, self.learning_rate, self.validation = 0, None, ""
        self.began = self.counted_since = 0.0
        self.lock, self.ended = threading.Lock(), threading.Event()
        self.bar: Bar | None = None
        inside = contextvars.copy_context()  # by which Prefect knows whose log lines these are
        self.thread = threading.Thread(target=inside.run, args=(self._work,), name="progress", daemon=True)

    def __enter__(self) -> "TrainingProgress":
        return self

    def counting(self, watch: Watch, page: Callable[[], str | None]) -> Watch:
        """The same watch, with its records counted here; `page` gives the run's page in MLflow once there is one."""
        self.page = page

        def counted(records: Sequence[dict[str, Any]], steps: int) -> str | None:
            with self.lock:
                if not self.began:  # the first call tells what was before
                    self._begin(records, steps)
                else:
                    self._count(records)
            return watch(records, steps)

        return counted

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        if self.began:
            self.thread.join(timeout=SHOW_EVERY)  # an orchestrator that hangs must not hold up what was trained
        if self.bar:
            self.bar.close()

    def _begin(self, before: Sequence[dict[str, Any]], steps: int) -> None:
        self.began = self.counted_since = time.monotonic()
        self.steps = steps
        for record in before:
            self.step, self.epoch = record["step"], max(1, record["epoch"])
        self.begun_at = self.step
        if sys.stderr.isatty():
            self.bar = Bar("training", steps, self.step)
        else:
            begins = f"goes on after step {self.step:,}" if self.step else "begins"
            log.info("%-11s %s: %d epochs, %s steps", "finetune", begins, self.epochs, f"{steps:,}")
        self.thread.start()

    def _count(self, records: Sequence[dict[str, Any]]) -> None:
        validation = [each for each in records if each["split"] == "validation" and each["metric"] in self.watched]
        for record in records:
            if record["split"] == "train" and record["metric"] == "loss":
                self.losses.append(record["value"])
                self.step, self.epoch = record["step"], record["epoch"]
                if self.bar:
                    self.bar.advance(f"epoch {self.epoch}/{self.epochs} loss {record['value']:.4f}")
            elif record["split"] == "train" and record["metric"] == "learning_rate":
                self.learning_rate = record["value"]
            elif record["split"] == "train" and record["metric"] == "tokens":
                self.tokens += int(record["value"])
        if validation:
            scores = ", ".join(f"{record['metric']} {record['value']:.4f}" for record in validation)
            self.validation = f"validation after epoch {validation[0]['epoch']}: {scores}"

    def _work(self) -> None:
        logged, show = time.monotonic(), self.show
        while True:
            last = self.ended.wait(SHOW_EVERY)
            standing = self._standing()
            if show is not None:
                try:
                    show(standing)
                except Exception as error:  # whatever the orchestrator's trouble is, the training goes on
                    log.info("%-11s progress is not shown any more: %s", "finetune", error)
                    show = None
            if self.bar is None and (last or time.monotonic() - logged >= LOG_EVERY):
                logged = time.monotonic()
                log.info("%-11s %s", "finetune", ", ".join(standing.facts()))
            if last:
                return

    def _standing(self) -> Standing:
        with self.lock:
            now, done = time.monotonic(), self.step - self.begun_at
            standing = Standing(
                step=self.step,
                steps=self.steps,
                epoch=self.epoch,
                epochs=self.epochs,
                loss=math.fsum(self.losses) / len(self.losses) if self.losses else None,
                learning_rate=self.learning_rate,
                tokens_per_second=self.tokens / (now - self.counted_since) if self.tokens else None,
                seconds_left=(now - self.began) / done * (self.steps - self.step) if done else None,
                validation=self.validation,
                page=self.page(),
            )
            if self.losses:
                self.losses, self.tokens, self.counted_since = [], 0, now
            return standing


def duration(seconds: float) -> str:
    """A time span in its two largest units, such as "2 min 5 s" or "3 h 10 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
