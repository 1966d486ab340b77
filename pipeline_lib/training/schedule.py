"""The learning rate as a pure function of the step, so that a resumed training uses the same rates."""

import math


def rate(schedule: str, warmup: float, step: int, steps: int) -> float:
    """Return the learning rate at `step` (from 0) of `steps`, as a fraction of the peak.

    It rises linearly to 1 during the first `warmup` share of the steps. Then, with p the completed share of the
    remaining steps: linear 1 - p; cosine (1 + cos(pi p)) / 2 (Loshchilov and Hutter 2017, eq. 5); constant 1;
    inverse_sqrt sqrt(w / step), with w the number of warm-up steps (Vaswani et al. 2017, eq. 3).
    """
    warmup_steps = math.ceil(warmup * steps)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    done = (step - warmup_steps) / max(1, steps - warmup_steps)
    if schedule == "linear":
        return 1 - done
    if schedule == "cosine":
        return (1 + math.cos(math.pi * done)) / 2
    if schedule == "inverse_sqrt":
        return math.sqrt(max(1, warmup_steps) / max(1, step))
    return 1.0
