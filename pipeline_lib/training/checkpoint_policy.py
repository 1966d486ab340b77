"""Decide when to write a checkpoint: at a fixed interval, and when the training is asked to stop."""

import logging
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline_lib.training.checkpoint import Checkpoints, State, Weights
from pipeline_lib.training.distributed.collectives import max_over_ranks
from pipeline_lib.util.signals import Interrupts

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer

log = logging.getLogger("tunesmith")
GO_ON, SAVE, STOP = 0, 1, 2
"""What a process wants after a step; the largest wish of all processes counts."""


@dataclass
class CheckpointPolicy:
    """Writes a training's checkpoints, at most every `seconds` seconds."""

    checkpoints: Checkpoints
    weights: Weights
    optimizer: "AcceleratedOptimizer"
    accelerator: "Accelerator"
    interrupts: Interrupts
    seconds: float
    at: float = field(init=False)
    """Monotonic time at which the last checkpoint was written or read."""
    saved_at: tuple[int, int] = field(init=False)
    """Step and epoch of the last checkpoint."""

    def restore(self) -> State:
        """Return the state of the last checkpoint after restoring it, or an initial state."""
        state, scaler = self.checkpoints.restore(self.weights, self.optimizer.optimizer), self.accelerator.scaler
        state = state or State()
        if scaler is not None and state.scaler:
            scaler.load_state_dict(state.scaler)
        self.at, self.saved_at = time.monotonic(), (state.step, state.epoch)
        return state

    def save_if_due(self, state: State) -> None:
        """Save after a step or an epoch if it is due; if a stop was requested, save and end the training.

        All processes decide in the same way: by the clock of rank 0, and by a stop request to any of them.
        """
        is_due = self.accelerator.is_main_process and time.monotonic() - self.at >= self.seconds
        own = STOP if self.interrupts.received_signal is not None else SAVE if is_due else GO_ON
        what = max_over_ranks(own, self.accelerator)
        if what != GO_ON:
            self.save(state)
        if what == STOP:
            self.checkpoints.wait()
            if self.accelerator.is_main_process:
                log.info(
                    "%-11s stopped after step %d, with a checkpoint: a rerun continues there", "finetune", state.step
                )
            self.interrupts.deliver(signal.SIGTERM)

    def save(self, state: State) -> None:
        """Save a checkpoint unless nothing has changed since the last one."""
        if self.saved_at == (state.step, state.epoch):
            return
        if (scaler := self.accelerator.scaler) is not None:
            state.scaler = scaler.state_dict()
        self.checkpoints.save(state, self.weights, self.optimizer.optimizer)
        self.at, self.saved_at = time.monotonic(), (state.step, state.epoch)

    def save_best(self, state: State) -> None:
        """Save the weights as the best so far."""
        self.checkpoints.save_best(state, self.weights)

    def restore_best(self, state: State) -> None:
        """Load the best weights into the model."""
        self.checkpoints.restore_best(state, self.weights)
