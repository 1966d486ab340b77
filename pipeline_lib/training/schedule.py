"""The learning rate as a pure function of the step, so that a run that goes on after a kill cannot differ."""

import math


def rate(schedule: str, warmup: float, step: int, steps: int) -> float:
    """The share of the peak rate at `step` (from 0) of `steps`.

    It rises linearly to 1 over the first `warmup` share of the steps. Then, with p the share of the rest that is done:
    linear 1 - p; cosine (1 + cos(pi p)) / 2 (Loshchilov and Hutter 2017, eq. 5); constant 1; inverse_sqrt
    sqrt(w / step), w the last warm-up step (Vaswani et al. 2017, eq. 3).
    """
    rising = math.ceil(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    done = (step - rising) / max(1, steps - rising)
    if schedule == "linear":
        return 1 - done
    if schedule == "cosine":
        return (1 + math.cos(math.pi * done)) / 2
    if schedule == "inverse_sqrt":
        return math.sqrt(max(1, rising) / max(1, step))
    return 1.0
