"""One process of a distributed training, started by `launch.py`."""

import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from pipeline_lib.recipe.schema import check
from pipeline_lib.training.distributed.launch import CHANNEL, JOB
from pipeline_lib.training.distributed.remote_errors import describe_error
from pipeline_lib.training.inputs import Inputs
from pipeline_lib.training.loop import Watch
from pipeline_lib.util.cpu import share
from pipeline_lib.util.signals import end_with_parent


def main(folder: str) -> None:
    """Run the job described in this folder; reports an error to the launcher, which then ends the other ranks."""
    job_folder = Path(folder)
    job = json.loads((job_folder / JOB).read_text(encoding="utf-8"))
    _die_with(job["launcher"])
    os.environ.update(share(int(os.environ["WORLD_SIZE"])))
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # the host name may not resolve
    try:
        _train(job, job_folder)
    except Exception as error:
        _tell(error)
        os._exit(1)  # a regular exit could wait for ranks that wait for this one


def _die_with(launcher: int) -> None:
    """Have the kernel kill this process when the launcher dies; nothing else would end it."""
    end_with_parent(signal.SIGKILL)
    if os.getppid() != launcher:  # the launcher is already dead
        sys.exit(1)


def _train(job: dict[str, Any], job_folder: Path) -> None:
    from accelerate import PartialState

    from pipeline_lib.training.finetune import write_finetuned

    inputs = Inputs(**{name: Path(path) for name, path in job["inputs"].items()})
    work, folder = Path(job["work"]), Path(job["folder"])

    def train(watch: Watch) -> None:
        write_finetuned(check(job["recipe"]), inputs, work, watch, folder)

    if os.environ["RANK"] == "0":
        with (job_folder / CHANNEL).open("w", encoding="utf-8") as channel:
            logging.getLogger("tunesmith").setLevel(logging.INFO)
            logging.getLogger().addHandler(_ChannelHandler(channel))
            logging.captureWarnings(True)
            train(lambda records, steps: _say(channel, records=list(records), steps=steps))
    else:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  rank 0 shows the same warnings
        train(lambda records, steps: None)
    PartialState().destroy_process_group()


class _ChannelHandler(logging.Handler):
    """Sends log lines through the channel: all from this project, and warnings and errors from libraries."""

    def __init__(self, channel: TextIO):
        super().__init__()
        self.channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING and not record.name.startswith("tunesmith"):
            return
        line = record.getMessage()
        if record.exc_info:
            line += "\n" + logging.Formatter().formatException(record.exc_info)
        _say(self.channel, logger=record.name, level=record.levelno, line=line)


def _say(channel: TextIO, **message: Any) -> None:
    channel.write(json.dumps(message) + "\n")
    channel.flush()


def _tell(error: Exception) -> None:
    """Write the error to the launcher's error file; `message` and `timestamp` are keys that torch reads."""
    report = {"timestamp": int(time.time()), "at": time.time(), **describe_error(error)}
    Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text(json.dumps(report, default=str), encoding="utf-8")
