"""The store through which the processes of a training talk to its launcher: JSON in a queue of torch's TCPStore.

The launcher hosts the store; torch's rendezvous uses it too. Nothing that is read from it here is unpickled.
"""

import json
import logging
import socket
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pipeline_lib.training.distributed.failures import recurs
from pipeline_lib.training.distributed.remote_errors import describe_error

if TYPE_CHECKING:
    from torch.distributed import TCPStore

QUEUE = "tunesmith/messages"
JOB = "tunesmith/job"
"""Key of the job, which the machines that join read."""
GIVEN_UP = "tunesmith/given-up"
"""Key that is set when the training must end: a restart would meet the same error."""
WRITTEN = "tunesmith/written"
"""Key that is set once the results are written; a process that dies after that does no harm."""
BEGAN_AT = "tunesmith/began-at"
"""Key of the step that the current attempt continues from."""
BATCH_TOKENS = "tunesmith/batch-tokens"
"""Key of the maximum tokens per pass: the recipe's, or fewer if memory ran out in a sharded training."""
PATIENCE = timedelta(minutes=1)
"""How long to wait for an answer of the store, or for a connection."""


def host_store(host: str, port: int) -> "TCPStore":
    """Start a store that listens on this address only; port 0 chooses a free one.

    Raises:
        OSError: The host is not an address of this machine, or the port is in use.
    """
    from torch.distributed import TCPStore

    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.create_server(address[:2], family=family)
    port = listener.getsockname()[1]
    # torch by itself would listen on all addresses
    return TCPStore(
        host, port, is_master=True, wait_for_workers=False, timeout=PATIENCE, master_listen_fd=listener.detach()
    )


def connect_store(endpoint: str, patience: timedelta = PATIENCE) -> "TCPStore":
    """Connect to the store at HOST:PORT."""
    from torch.distributed import TCPStore

    host, _, port = endpoint.rpartition(":")
    return TCPStore(host.strip("[]"), int(port), is_master=False, wait_for_workers=False, timeout=patience)


def endpoint_of(store: "TCPStore") -> str:
    """Return the address of a store as HOST:PORT."""
    return f"[{store.host}]:{store.port}" if ":" in store.host else f"{store.host}:{store.port}"


def send(store: "TCPStore", kind: str, **message: Any) -> None:
    """Append a message to the queue."""
    store.queue_push(QUEUE, json.dumps({"kind": kind, **message}, default=str))


def receive(store: "TCPStore") -> dict[str, Any]:
    """Wait for the next message; the store's own timeout limits how long."""
    return json.loads(store.queue_pop(QUEUE))


def report_error(store: "TCPStore", who: str, error: Exception) -> None:
    """Send an error to the launcher; all agents give up if a restart would meet it again."""
    again = recurs(error)
    send(store, "error", who=who, error=describe_error(error), recurs=again)
    if again:
        store.set(GIVEN_UP, "")
    flush(store)


def flush(store: "TCPStore") -> None:
    """Wait until the store has taken all messages that were sent through this connection."""
    store.check([JOB])


class StoreHandler(logging.Handler):
    """Sends log lines: all from this project, and warnings and errors from libraries."""

    def __init__(self, store: "TCPStore", rank: int, level: int = logging.NOTSET):
        super().__init__(level)
        self.store, self.rank = store, rank

    def emit(self, record: logging.LogRecord) -> None:
        """Send a log record to the launcher."""
        if record.levelno < logging.WARNING and not record.name.startswith("tunesmith"):
            return
        line = record.getMessage()
        if record.exc_info:
            line += "\n" + logging.Formatter().formatException(record.exc_info)
        send(self.store, "log", rank=self.rank, logger=record.name, level=record.levelno, line=line)
