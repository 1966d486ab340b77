"""Start, supervise and stop the processes of `tunesmith up` in a folder."""

import os
import platform
import shlex
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import typer

from deployments.up import automations, data_directory, databases, postgres, servers, tables
from deployments.up.processes import Child
from deployments.up.servers import Server
from pipeline_lib.errors import RecipeError
from pipeline_lib.util.cpu import thread_limits
from pipeline_lib.util.redaction import redact_url

PATIENCE = 180
"""Seconds that a server has to answer; the first start creates its tables, which is slow on a busy machine."""
RECIPES = Path(__file__).parents[1] / "recipes"


class LocalStack:
    """The processes started in a folder. They are stopped in reverse order, so that the worker can still report to
    Prefect how its runs ended."""

    def __init__(self, folder: Path, stack: ExitStack):
        self.folder, self.stack, self.children = folder, stack, list[Child]()
        self.own_state = False
        """Whether Prefect's state is in this folder, so that it is of no other one."""

    def serve(self, prefect: Server, mlflow: Server, database: str) -> None:
        """Start the servers that are not running, wait until they answer, and export their addresses."""
        missing = [server for server in (prefect, mlflow) if not server.answers]
        for server in missing:
            server.refuse_taken()
        state, tracked = self._databases(database) if missing else ("", "")
        os.environ.update(_addresses(prefect, mlflow))
        if prefect in missing:
            self.own_state = databases.is_in_folder(database)
            command = ["deployments.up.prefect_server", "--host", servers.LOCAL, "--port", str(prefect.port)]
            self._add("prefect", command, {"PREFECT_API_DATABASE_CONNECTION_URL": state})
        if mlflow in missing:
            places = ["--artifacts-destination", str(self.folder / "mlartifacts"), "--workers", "1"]
            safe = ["--allowed-hosts", "localhost:*,127.0.0.1:*,[[]::1]:*"]  # by default 10.*, so 10.example.com, too
            command = ["mlflow", "server", "--host", servers.LOCAL, "--port", str(mlflow.port), *places, *safe]
            own = {"MLFLOW_BACKEND_STORE_URI": tracked, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
            self._add("mlflow", command, own)
        for server, name in ((prefect, "Prefect"), (mlflow, "MLflow")):
            self._wait_until(lambda server=server: server.answers)  # type: ignore[misc]
            typer.echo(f"{name:<8} {server.page}{'' if server in missing else '  (already running)'}")

    def _databases(self, database: str) -> tuple[str, str]:
        """Print where the databases are and how to back them up; return the URLs for Prefect and MLflow."""
        for message in databases.describe_unused(database, self.folder):
            typer.echo(f"note     {message}")
        if databases.uses_sqlite(database, self.folder):
            postgres.hold(self.folder / "prefect.db.lock", self.stack)
            typer.echo(f"state    SQLite: prefect.db and mlflow.db in {self.folder}; backup: stop, then copy both")
            return databases.sqlite_urls(self.folder)
        if database:
            urls = databases.server_urls(database)
            names = f"{tables.PREFECT.name} and {tables.MLFLOW.name}"
            typer.echo(f"state    databases {names} of {redact_url(database)}")
            return urls
        server = postgres.Postgres(self.folder / "postgres", self.folder / "logs" / "postgres.log", self.stack)
        self.stack.callback(server.stop)
        self.children.append(server)
        self._wait_until(lambda: server.answers)
        program, version = data_directory.program("pg_dumpall"), data_directory.version()
        dump = shlex.join([str(program), "-h", str(server.socket), "-U", data_directory.USER])
        typer.echo(f"state    PostgreSQL {version} in {server.data.parent}; backup: {dump} > backup.sql")
        return databases.socket_urls(server.socket)

    def work(self, runs: int, notify: str) -> None:
        """Register the deployments and start the worker."""
        from deployments.up.register import POOL, has_online_worker, register

        os.environ.setdefault("TUNESMITH_RECIPES", str(RECIPES))
        register(self.folder, runs, notify, moved=self.own_state)
        name = f"{platform.node()}-{os.getpid()}"  # of an earlier one the server may not know yet that it has gone
        threads = (
            thread_limits(runs) if runs > 1 else {}
        )  # with one thread per core in each of them, threads would wait for one another
        self._add("worker", ["prefect", "worker", "start", "--pool", POOL, "--name", name], threads)
        self._wait_until(lambda: has_online_worker(name))
        typer.echo(f"worker   in {self.folder}, {runs} run{'s' * (runs > 1)} at once")
        typer.echo(f"models   and reports in {self.folder / 'mlartifacts'}")
        typer.echo(f"logs     {self.folder / 'logs'}\n\nIn another terminal:")
        for variable in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
            typer.echo(f"  export {variable}={os.environ[variable]}")
        typer.echo("Ctrl-C stops everything started here.")

    def watch(self) -> None:
        """Restart processes that exit, until a signal arrives; raises RecipeError if restarting does not help."""
        while True:
            for child in self.children:
                if child.has_ended:
                    self._refuse_ended(child)
                    typer.echo(f"{child.name} exited and was restarted; see {child.log}")
                    child.restart()
            time.sleep(1)

    def _add(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        child = Child(name, command, environment, self.folder / "logs" / f"{name}.log")
        self.stack.callback(child.stop)
        self.children.append(child)

    def _wait_until(self, answers: Callable[[], bool]) -> None:
        began = time.monotonic()
        while not answers():
            for child in self.children:
                self._refuse_ended(child)
            if time.monotonic() - began > PATIENCE:
                last = self.children[-1]
                hint = f"Its last output: {last.last_log_lines()}"
                raise RecipeError(last.name, None, f"does not answer within {PATIENCE} s", hint)
            time.sleep(0.3)

    def _refuse_ended(self, child: Child) -> None:
        if child.has_ended and child.is_young:
            raise RecipeError(child.name, None, "exited unexpectedly", f"See {child.log}: {child.last_log_lines()}")


def _addresses(prefect: Server, mlflow: Server) -> dict[str, str]:
    """Return the environment variables for all child processes, and for this process's own calls to Prefect."""
    return {
        "PREFECT_API_URL": f"{prefect.address}/api",
        "PREFECT_UI_API_URL": f"{prefect.address}/api",  # otherwise its UI requests port 4200
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",  # otherwise a stopped run would start its own server
        "PREFECT_LOGGING_EXTRA_LOGGERS": "tunesmith",  # show our log lines in the flow run's log
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(automations.HEARTBEAT),
        "MLFLOW_TRACKING_URI": mlflow.address,
    }
