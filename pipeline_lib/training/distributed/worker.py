"""One of the processes that train together, started by `launch.py`."""

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
    """Train as the job in this folder says; an error is told to the launcher, which then ends the other ranks."""
    place = Path(folder)
    job = json.loads((place / JOB).read_text(encoding="utf-8"))
    _die_with(job["launcher"])
    os.environ.update(share(int(os.environ["WORLD_SIZE"])))
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # the host's name may lead nowhere
    try:
        _train(job, place)
    except Exception as error:
        _tell(error)
        os._exit(1)  # a clean end could wait for ranks that wait for this one


def _die_with(launcher: int) -> None:
    """Be killed by the kernel when the launcher dies, however that happens: nobody else would end this process."""
    end_with_parent(signal.SIGKILL)
    if os.getppid() != launcher:  # it died before
        sys.exit(1)


def _train(job: dict[str, Any], place: Path) -> None:
    from accelerate import PartialState

    from pipeline_lib.training.finetune import write_finetuned

    inputs = Inputs(**{name: Path(path) for name, path in job["inputs"].items()})
    work, folder = Path(job["work"]), Path(job["folder"])

    def train(watch: Watch) -> None:
        write_finetuned(check(job["recipe"]), inputs, work, watch, folder)

    if os.environ["RANK"] == "0":
        with (place / CHANNEL).open("w", encoding="utf-8") as channel:
            logging.getLogger("tunesmith").setLevel(logging.INFO)
            logging.getLogger().addHandler(_Teller(channel))
            logging.captureWarnings(True)
            train(lambda records, steps: _say(channel, records=list(records), steps=steps))
    else:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  one warning of a kind is enough
        train(lambda records, steps: None)
    PartialState().destroy_process_group()


class _Teller(logging.Handler):
    """Sends log lines through the channel: the project's own, and warnings and errors of any library."""

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


def _say(channel: TextIO, **what: Any) -> None:
    channel.write(json.dumps(what) + "\n")
    channel.flush()


def _tell(error: Exception) -> None:
    """Leave the error where the launcher looks for it; `message` and `timestamp` are what that reads itself."""
    told = {"timestamp": int(time.time()), "at": time.time(), **describe_error(error)}
    Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text(json.dumps(told, default=str), encoding="utf-8")
