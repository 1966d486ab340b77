"""Decide when to write a checkpoint: at a fixed interval, and when the training is asked to stop."""

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline_lib.training.checkpoint import Checkpoints, State, Weights
from pipeline_lib.util.signals import Interrupts

if TYPE_CHECKING:
    from accelerate import Accelerator
    from accelerate.optimizer import AcceleratedOptimizer

log = logging.getLogger("tunesmith")


@dataclass
class CheckpointPolicy:
    """Writes a training's checkpoints from the main process, at most every `seconds` seconds."""

    checkpoints: Checkpoints
    weights: Weights
    optimizer: "AcceleratedOptimizer"
    accelerator: "Accelerator"
    interrupts: Interrupts
    seconds: float
    at: float = field(init=False)
    """Monotonic time at which the last checkpoint was written or read."""
    kept: tuple[int, int] = field(init=False)
    """Step and epoch of the last checkpoint."""

    def restore(self) -> State:
        """Return the state of the last checkpoint after restoring it, or an initial state."""
        state, scaler = self.checkpoints.restore(self.weights, self.optimizer.optimizer), self.accelerator.scaler
        state = state or State()
        if scaler is not None and state.scaler:
            scaler.load_state_dict(state.scaler)
        self.at, self.kept = time.monotonic(), (state.step, state.epoch)
        return state

    def save_if_due(self, state: State) -> None:
        """Save after a step or an epoch if it is due; if a stop was requested, save and end the training."""
        stopping = self.interrupts.received_signal is not None
        if stopping or time.monotonic() - self.at >= self.seconds:
            self.save(state)
        if stopping:
            log.info("%-11s stopped after step %d, with a checkpoint: a rerun continues there", "finetune", state.step)
            self.interrupts.deliver()

    def save(self, state: State) -> None:
        """Save a checkpoint unless nothing has changed since the last one."""
        if not self.accelerator.is_main_process or self.kept == (state.step, state.epoch):
            return
        if (scaler := self.accelerator.scaler) is not None:
            state.scaler = scaler.state_dict()
        self.checkpoints.save(state, self.weights, self.optimizer.optimizer)
        self.at, self.kept = time.monotonic(), (state.step, state.epoch)

    def save_best(self, state: State) -> None:
        """Save the weights as the best so far."""
        if self.accelerator.is_main_process:
            self.checkpoints.save_best(state, self.weights)

    def restore_best(self, state: State) -> None:
        """Load the best weights into the model."""
        self.checkpoints.restore_best(state, self.weights)
