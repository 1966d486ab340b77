"""One rank of a sharded training: trains what it is asked for on its standard input, and answers with what it saw.

Requests and answers are one JSON document per line. The imports are paid once for all combinations of a test run.
"""

import json
import os
import sys
import tempfile
import traceback
from pathlib import Path

import numpy as np
import torch

from pipeline_lib.errors import RecipeError
from pipeline_lib.models.building import load_trained, write_trained
from pipeline_lib.models.shards import local
from pipeline_lib.training.distributed.sharding import gather
from tests.contract import Ready, measure

STEPS = 3


def train(base: str, objective: str, strategy: str, sharding: str, changes: dict, dtype: str) -> dict:
    """Losses, norms and bytes of a few steps; in the end the loss of the trained model by itself."""
    with tempfile.TemporaryDirectory() as folder:
        given = (Path(base), objective, strategy, Path(folder))
        it = Ready(*given, sharding=sharding, changes=changes, dtype=dtype)
        for module in it.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0  # some heads have dropout that no configuration names
        loop, frozen = it.loop, {name: w for name, w in it.model.named_parameters() if not w.requires_grad}
        whole = sum(w.numel() for w in it.model.parameters())
        before = {name: local(weight.detach()).clone() for name, weight in frozen.items()}
        every, seen = np.arange(loop.train.groups), []
        for step in range(STEPS):
            record = loop.stepper.step(every, step, 1.0)
            seen.append([record["loss"], record["grad_norm"]])
        assert all(weight.grad is None for weight in frozen.values())
        assert all(torch.equal(local(weight.detach()), before[name]) for name, weight in frozen.items())
        own = sum(local(w.detach()).numel() for w in it.model.parameters())
        states = [value for state in loop.optimizer.optimizer.state.values() for value in state.values()]
        state_size = sum(local(value).numel() for value in states if isinstance(value, torch.Tensor) and value.ndim)
        trained = sum(w.numel() for w in loop.stepper.weights.values())
        answer = {"steps": seen, "share": own / whole, "state_share": state_size / max(1, 2 * trained)}
        if sharding != "none":
            gather(it.model, loop.accelerator)
        if loop.accelerator.is_main_process:
            write_trained(it.model, it.trained, it.initial, "fp32", Path(folder, "model"))
            answer["loss"] = measure(it.recipe, load_trained(Path(folder, "model"), it.base), loop.train, loop.pad)[1]
        return answer


def main() -> None:
    """Answer requests until the input ends."""
    torch.set_num_threads(1)
    for line in sys.stdin:
        try:
            answer = train(**json.loads(line))
        except RecipeError as error:
            answer = {"refused": str(error)}
        except Exception:
            print("ANSWER", json.dumps({"error": traceback.format_exc()}), flush=True)
            os._exit(1)  # or the other ranks would wait for this one
        print("ANSWER", json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
