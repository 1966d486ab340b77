"""A process that has imported all there is to import, and forks a child for each run: a kill costs no import.

It reads a job as a line of JSON and answers with the child's exit status: `python tests/kill/kill_zygote.py`.
"""

import importlib
import json
import os
import sys
import traceback
from pathlib import Path

import kill_witness

PRELOADED = (
    "accelerate",
    "matplotlib.pyplot",
    "pandas",
    "peft",
    "scipy.stats",
    "sklearn.metrics",
    "mlflow.store.tracking.sqlalchemy_store",
    "pyarrow.dataset",
    "torch",
    "transformers.models.bert.modeling_bert",
    "pipeline_lib.pipeline.run",
    "pipeline_lib.evaluation.evaluate",
    "pipeline_lib.evaluation.report.figures",
    "pipeline_lib.models.loading",
    "pipeline_lib.tracking.publish",
    "pipeline_lib.tracking.live_run",
    "pipeline_lib.training.finetune",
)


class Silent:
    """Stands in for MLflow where a job does not publish."""

    page = None

    def __init__(self, *_: object):
        pass

    def __enter__(self):
        return self

    def __call__(self, records: object, steps: int) -> None:
        pass

    def facts(self) -> dict:
        return {"measured": {}}

    def __exit__(self, *_: object) -> None:
        pass


def unseen(canvas: object, path: Path, **_: object) -> None:
    """Stands in for `FigureCanvasAgg.print_png`: drawing takes longer than all the rest."""
    path.write_bytes(b"a figure")


def serve() -> None:
    """Answer jobs until there are no more."""
    kill_witness.wrap_files()
    for name in PRELOADED:
        importlib.import_module(name)
    kill_witness.wrap_tracking()
    warm()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            live(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def warm() -> None:
    """Do what is done once in a process and takes time: sources are parsed, patterns compiled."""
    from transformers import conversion_mapping

    from pipeline_lib.pipeline import code_fingerprint

    for name, file in code_fingerprint._files(code_fingerprint.PACKAGE).items():
        code_fingerprint._read(file, name)
    conversion_mapping.get_checkpoint_conversion_mapping("bert")


def live(job: dict) -> None:
    """Be the run of a job: to its end, to its error, or until it is killed."""
    from pipeline_lib.recipe.schema import check

    root = Path(job["recipe"]["execution"]["store"])
    point = kill_witness.Point(*job["point"]) if job["point"] else None
    witness = kill_witness.watch(root, Path(job["trace"]), point)
    try:
        recipe = check(job["recipe"])
        take_steps(recipe, job["publish"])
        status = 0
    except BaseException:
        witness.tell("raised", traceback.format_exc())
        status = 1
    os._exit(status)


def take_steps(recipe, publish: bool) -> None:
    """The steps of a run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from pipeline_lib.pipeline import steps
    from pipeline_lib.pipeline.run import run
    from pipeline_lib.tracking import live_run

    FigureCanvasAgg.print_png = unseen
    if publish:
        run(recipe)
        return
    live_run.LiveRun = Silent
    data = steps.prepare(recipe)
    start = steps.initialise(recipe, data)
    found = steps.checks(recipe, data, start)
    steps.evaluate(recipe, data, found, steps.finetune(recipe, data, start))


if __name__ == "__main__":
    serve()
