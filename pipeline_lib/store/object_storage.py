"""Read and write files under a URL through fsspec, with retries and uniform errors.

Files are never partly written: object stores write whole objects, and on file systems a temporary file is renamed.
"""

import errno
import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, stop_after_delay, wait_exponential

from pipeline_lib.errors import RecipeError, ServiceUnavailable
from pipeline_lib.util.redaction import redact, redact_url, remember

ATTEMPTS = 4
PAUSE = 0.5
"""Seconds before the second attempt; each further pause is twice as long."""
PATIENCE = 60
"""Seconds after which there are no more attempts; drivers also wait and retry themselves, some for minutes."""
DRIVERS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}

Answer = TypeVar("Answer")


class Objects:
    """Files below a URL; raises RecipeError if the driver is missing or the server does not respond."""

    def __init__(self, url: str):
        self.url, self.shown = url, redact_url(url)
        remember(url)
        self.fs, self.root = self._connect()

    def read(self, name: str) -> bytes | None:
        """Return the contents of a file; None if it does not exist."""
        try:
            return self._ask(lambda: self.fs.cat_file(self._path(name)))
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Write or replace a file."""
        self._write(lambda: self.fs.pipe_file(self._path(name), data))

    def create(self, name: str, data: bytes) -> None:
        """Write a file unless it exists; an existing file is kept, and no error is raised."""
        self._write(lambda: self._create(name, data))

    def put(self, file: Path, name: str) -> None:
        """Upload a local file."""
        self._write(lambda: self._put(file, self._path(name)))

    def get(self, name: str, file: Path) -> None:
        """Download a file; raises FileNotFoundError if it does not exist."""
        self._ask(lambda: self.fs.get_file(self._path(name), str(file)))

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        with suppress(FileNotFoundError):
            self._ask(lambda: self.fs.rm_file(self._path(name)))

    def probe(self) -> None:
        """Write, read and remove a small object; raises RecipeError if one of these fails."""
        name, data = f"probe-{uuid.uuid4().hex}", b"written by tunesmith to see whether it may"
        self.write(name, data)
        read = self.read(name)
        self.remove(name)
        if read != data:
            problem = "does not return what was written to it"
            raise RecipeError("execution.store", self.shown, problem, "Check its server")

    def _connect(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs  # a store on a local disk needs no driver

        kind = self.url.partition("://")[0]
        try:
            fs, root = url_to_fs(self.url, **({"auto_mkdir": True} if kind in ("file", "local") else {}))
        except ImportError as error:
            hint = f"Install it: pip install -c constraints.txt {DRIVERS.get(kind, 'DRIVER')}"
            raise RecipeError("execution.store", self.shown, f"needs a driver ({error})", hint) from None
        except Exception as error:  # each driver has errors of its own for an address that it cannot read
            problem, hint = (
                f"cannot be opened ({self._error_line(error)})",
                "Name a folder, or a URL such as s3://bucket/prefix",
            )
            raise RecipeError("execution.store", self.shown, problem, hint) from None
        return fs, root.rstrip("/")

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def _put(self, file: Path, path: str) -> None:
        if not self._is_local:
            self.fs.put_file(str(file), path)
            return
        aside = f"{path}.{uuid.uuid4().hex}"
        self.fs.put_file(str(file), aside)
        self.fs.mv(aside, path)

    def _create(self, name: str, data: bytes) -> None:
        try:
            if self._is_local:
                self._link(self._path(name), data)
            else:
                self.fs.pipe_file(self._path(name), data, mode="create")  # S3: If-None-Match: *
        except Exception as error:
            try:  # drivers raise different errors for an existing file, so check for it
                self.fs.cat_file(self._path(name))
            except Exception:
                raise error from None

    def _link(self, path: str, data: bytes) -> None:
        """Create a file from a hard link, which a file system creates atomically and only if the name is free."""
        aside = f"{path}.{uuid.uuid4().hex}"
        self.fs.pipe_file(aside, data)
        try:
            os.link(aside, path)
        finally:
            os.unlink(aside)

    @property
    def _is_local(self) -> bool:
        return getattr(self.fs, "local_file", False)

    def _write(self, call: Callable[[], None]) -> None:
        try:
            self._ask(call)
        except FileNotFoundError as error:
            problem = f"cannot be written to ({self._error_line(error)})"
            raise RecipeError("execution.store", self.shown, problem, "Create its bucket, or name another") from None

    def _ask(self, call: Callable[[], Answer]) -> Answer:
        """Call a function of the driver, and again for a while if the server does not answer."""
        attempts = Retrying(
            retry=retry_if_exception_type(ServiceUnavailable),
            wait=wait_exponential(PAUSE),
            stop=stop_after_attempt(ATTEMPTS) | stop_after_delay(PATIENCE),
            reraise=True,
        )
        return attempts(self._try, call)

    def _try(self, call: Callable[[], Answer]) -> Answer:
        try:
            return call()
        except (FileNotFoundError, FileExistsError):  # an answer, not a failure
            raise
        except Exception as error:  # each driver has errors of its own for a server that is away
            raise self._failure(error) from None

    def _failure(self, error: Exception) -> RecipeError:
        message = self._error_line(error)
        if isinstance(error, PermissionError) or "credentials" in str(error).lower():  # none were found, for example
            hint = "Check the credentials and what they allow"
            return RecipeError("execution.store", self.shown, f"denies access ({message})", hint)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return RecipeError("execution.store", self.shown, "the disk is full", "Free some space")
        hint = "Nothing is lost: run the same command again when it answers"
        return ServiceUnavailable("execution.store", self.shown, f"does not answer ({message})", hint)

    def _error_line(self, error: Exception) -> str:
        """Return the error's first line without the URL's credentials, which a driver may include."""
        text = (str(error).splitlines() or [""])[0] or type(error).__name__
        account = self.url.partition("://")[2].rpartition("@")[0]
        for secret in filter(None, (account, account.partition(":")[2])):
            text = text.replace(secret, "…")
        return redact_url(redact(text))[:200]
