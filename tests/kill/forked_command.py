"""Start `tunesmith` as a fork of this process, which has imported what it needs: a start costs no imports.

What a fork leaves out: death during imports, the libraries' settings that are read when they are imported (such as
where Hugging Face keeps its cache), and the start of Prefect's embedded server as a new program (it is forked, too).
"""

import atexit
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

from kill_zygote import PRELOADED, unseen, warm

IMPORTED = (
    *PRELOADED,
    "mlflow.pyfunc",
    "mlflow.system_metrics.metrics.cpu_monitor",
    "mlflow.store.db.utils",
    "alembic.command",
    "prefect.server.api.server",
    "prefect.flow_engine",
    "prefect.task_engine",
    "uvicorn",
    "deployments.embedded",
    "flows.finetune",
    "pipeline_lib.cli.run_summary",
    "pipeline_lib.checks.checks",
)
POLL = 0.005
"""Seconds between two looks at a child."""


class Forked:
    """A forked child with the part of `subprocess.Popen` that is used here and by Prefect's client."""

    stdout = stderr = None

    def __init__(self, act: Callable[[], object]):
        sys.stdout.flush()
        sys.stderr.flush()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _live(act)

    def poll(self) -> int | None:
        """The exit code once the child has ended."""
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; raises TimeoutExpired."""
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("a forked child", timeout or 0)
            time.sleep(POLL)
        return code

    def terminate(self) -> None:
        """Send SIGTERM."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def import_everything() -> None:
    """Import what commands import; to be called once, before the first fork."""
    for name in IMPORTED:
        importlib.import_module(name)
    warm()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from mlflow.utils import requirements_utils

    import deployments.embedded

    requirements_utils._init_modules_to_packages_map()  # reads all installed packages, once in a process
    FigureCanvasAgg.print_png = unseen
    from pipeline_lib.cli import console

    deployments.embedded.subprocess = SimpleNamespace(Popen=_fork_server)  # type: ignore[assignment]
    load = console._load_entry_point

    def loaded(name: str) -> Any:
        _read_settings()  # `console` has set some
        return load(name)

    console._load_entry_point = loaded


def fork_command(folder: Path, arguments: Sequence[str], env: Mapping[str, str]) -> Forked:
    """`tunesmith ARGUMENTS` in a folder; what it prints is added to the file `said` there."""

    def act() -> None:
        _surround(folder, env)
        from pipeline_lib.cli.main import app

        sys.argv = ["tunesmith", *arguments]
        app()

    return Forked(act)


def _fork_server(command: list[str], env: Mapping[str, str], preexec_fn: Callable[[], None], **_: object) -> Forked:
    """Prefect's embedded server: a fork in place of a new program."""

    def act() -> None:
        os.setsid()
        preexec_fn()
        os.environ.update(env)
        _read_settings()
        from deployments.embedded import main

        main(int(command[-1]))

    return Forked(act)


def _surround(folder: Path, env: Mapping[str, str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(said, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _read_settings()


def _read_settings() -> None:
    """Have Prefect read the environment of this child: it was imported in another one."""
    from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()


def _live(act: Callable[[], object]) -> NoReturn:
    """Act, then end as a program ends; nothing of the parent's stack is unwound."""
    code = 1
    try:
        act()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    with suppress(Exception):
        threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
