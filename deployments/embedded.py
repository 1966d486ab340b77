"""Prefect's embedded server, started while a command still imports: Prefect itself starts it once all is imported.

It is the same server, closed to web pages. Prefect's client is given its address, so that this process need not import
the server's code, as it would to start one. Where settings name a server, none is started.
"""

import atexit
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
from functools import partial
from types import FrameType

from deployments.up.prefect_server import OwnPagesOnly, own_origins
from deployments.up.servers import LOCAL
from pipeline_lib.util.signals import end_with_parent

ENVIRONMENT = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
"""As Prefect sets it for its embedded server."""


class Embedded:
    """The server of this command, unless the environment names another one."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[bytes]] = []
        if os.environ.get("PREFECT_API_URL"):
            return
        with socket.socket() as probe:
            probe.bind((LOCAL, 0))
            self.port = probe.getsockname()[1]
        command = [sys.executable, "-m", __name__, str(self.port)]
        dying = partial(end_with_parent, signal.SIGTERM)
        # in its own session: Ctrl-C must only reach the command, which still has to report the run's final state to it
        process = subprocess.Popen(command, env=os.environ | ENVIRONMENT, preexec_fn=dying, start_new_session=True)
        self.started.append(process)

    def hand_over(self) -> None:
        """Have Prefect's client use it instead of starting one; to be called once `answers` is true.

        If it does not listen by then, it is ended, and Prefect's client starts one as usual. Imports all of Prefect.
        """
        if not self._runs() or not _needs_server():
            return
        listens, process = self._listens(), self.started.pop()
        if not listens:
            process.terminate()
            return
        from prefect.context import refresh_global_settings_context

        from tasks.own_server import mark_as_own

        url = f"http://{LOCAL}:{self.port}/api"
        os.environ["PREFECT_API_URL"] = url
        mark_as_own(url)
        refresh_global_settings_context()
        atexit.register(_end, process)

    def answers(self) -> bool:
        """Whether there is nothing to wait for."""
        return not self._runs() or self._listens()

    def _runs(self) -> bool:
        return bool(self.started) and self.started[0].poll() is None

    def _listens(self) -> bool:
        """Whether it has started: uvicorn opens the port last."""
        with socket.socket() as probe:
            return probe.connect_ex((LOCAL, self.port)) == 0


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the server; kill it if it takes longer than Prefect allows its own."""
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _needs_server() -> bool:
    """Whether Prefect would start a server: a profile or a file may name one."""
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_EPHEMERAL_ENABLED

    return not PREFECT_API_URL.value() and PREFECT_SERVER_EPHEMERAL_ENABLED.value()


def main(port: int) -> None:
    """Run the server in a separate process."""
    gc.set_threshold(10_000)
    if _needs_server():
        import uvicorn
        from prefect.server.api.server import create_app

        class QuietEnd(uvicorn.Server):
            """Logs nothing once it is to end: requests and background work that are cut off then would be tracebacks.

            It ends with its command, also a killed one, whose output another command may share.
            """

            def handle_exit(self, sig: int, frame: FrameType | None) -> None:
                logging.disable()
                super().handle_exit(sig, frame)

        app = OwnPagesOnly(create_app(), own_origins(port))
        QuietEnd(uvicorn.Config(app, host=LOCAL, port=port, log_level="error", lifespan="on")).run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
