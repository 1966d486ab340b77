"""Remove passwords and tokens from texts: `redact` is applied to logs, errors, files and everything sent to MLflow.

Two things are hidden: the credentials part of any URL, and, wherever they occur, the values of secret environment
variables and the passwords of URLs in the recipe.
"""

import logging
import os
import re
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

HIDDEN = "…"
SECRET = re.compile(r"(^|_)(TOKEN|PASSWORD|PASSWD|PWD|SECRET|ACCESS_KEY|API_KEY|APIKEY|CREDENTIALS?|SAS)(_|$)", re.I)
NOT_SECRET = re.compile(r"(^|_)(OLD)?PWD$|_(PATH|FILE|DIR|URL|ENDPOINT|KEY_ID)$", re.I)
"""Variables that hold the location of a secret, the name of a key or the working directory, not a secret."""
SHORTEST = 6
"""Minimum length of a secret: a shorter one can occur in any text by chance. In a URL it is hidden anyway."""
MODE = "workflowType=machine_learning"
"""Opens a page of MLflow in the mode "Model training", whichever mode the browser used last.

This is the only URL query that is not hidden.
"""
ADDRESS = re.compile(r"(?<=[\w+.-])://[^\s'\"]+")
"""The rest of a URL after its scheme, up to a space or a quote."""
WORD = re.compile(r"\S+")
SECRET_PARAMETER = re.compile(r"sig|token|secret|password|key|credential", re.I)
"""Matches the name of a query parameter whose value is secret."""

_remembered: set[str] = set()


def redact(value: Any) -> Any:
    """Return a value with the secrets removed from its strings; lists and dictionaries are searched too."""
    return _redact(value, _secrets())


def _redact(value: Any, secrets: Sequence[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, HIDDEN)
        return _drop_query(_drop_account(value))
    if isinstance(value, dict):
        return {_redact(key, secrets): _redact(part, secrets) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_redact(part, secrets) for part in value)
    return value


def first_line(error: BaseException, longest: int = 300) -> str:
    """Return the first line of an error message, with secrets removed."""
    return str(redact(str(error)).partition("\n")[0][:longest])


def redact_url(url: str) -> str:
    """Return a URL that is safe to show: without user, password and query, which can hold a token."""
    return re.sub(r"\?\S*", "", _drop_account(url))


def remember(url: str | None) -> None:
    """Register the secrets of a URL, since a driver's error message may contain the password without the URL."""
    account = (url or "").partition("://")[2].rpartition("@")[0]
    password = account.partition(":")[2]
    for secret in (password, *_signatures(url or "")):
        _remembered.update(form for form in (secret, unquote(secret)) if len(form) >= SHORTEST)


@contextmanager
def redact_errors() -> Iterator[None]:
    """Redact errors and the errors that caused them: terminals show their texts and orchestrators store them."""
    try:
        yield
    except Exception as error:
        if not _redact_error(error):
            raise RuntimeError(redact(f"{type(error).__name__}: {error}")) from None
        _redact_causes(error)
        raise


def _redact_causes(error: BaseException) -> None:
    """Redact the causes of an error, which a traceback shows too; cut the chain at one that cannot be redacted."""
    seen = {id(error)}
    while (before := error.__cause__ or error.__context__) is not None and id(before) not in seen:
        seen.add(id(before))
        if not _redact_error(before):
            error.__cause__ = error.__context__ = None
            return
        error = before


def _redact_error(error: BaseException) -> bool:
    """Redact an error's texts in place; return whether its message is now free of secrets."""
    if redact(str(error)) != str(error):
        error.args = tuple(redact(str(part) if isinstance(part, BaseException) else part) for part in error.args)
        for name in (*vars(error), "filename", "filename2", "strerror"):
            if isinstance(text := getattr(error, name, None), str):
                setattr(error, name, redact(text))
    if notes := getattr(error, "__notes__", None):
        error.__notes__ = redact(notes)
    return bool(redact(str(error)) == str(error))


def redact_record(record: logging.LogRecord) -> bool:
    """Redact a log record's message and traceback; a filter for loggers and handlers, always true."""
    text = record.getMessage()
    if (shown := redact(text)) != text:
        record.msg, record.args = shown, None
    if record.exc_info and record.exc_info[1]:
        record.exc_text = redact("".join(traceback.format_exception(record.exc_info[1])).rstrip())
    return True


# Texts can be of any size, such as a data line of a million characters, so the functions below are linear in the
# length of the text. Equivalent regular expressions took quadratic time or worse.


def _drop_account(text: str) -> str:
    """Remove user and password from the URLs in a text."""
    return WORD.sub(lambda word: _drop_account_from_word(word[0]), text) if "@" in text and ":/" in text else text


def _drop_account_from_word(word: str) -> str:
    """Remove the part between `:/` or `://` and an `@` from a word.

    With a colon before the last `@`, everything up to that `@` is removed, as a password may contain any character.
    Otherwise it can only be a user name, which ends at the last `@` before the next slash.
    """
    scheme, last = word.find(":/"), word.rfind("@")
    if not 0 <= scheme < last:
        return word
    start = scheme + (3 if word.startswith("://", scheme) else 2)  # one slash: a URL normalised as if it were a path
    if word.rfind(":", 0, last) >= start:
        return word[:start] + word[last + 1 :]
    slash = word.find("/", start)
    at = word.rfind("@", start, slash if slash >= 0 else len(word))
    return word if at < 0 else word[:start] + word[at + 1 :]


def _drop_query(text: str) -> str:
    """Remove the queries from the URLs in a text; a query ends at a space, a quote or a closing bracket."""
    return ADDRESS.sub(lambda address: _drop_query_from_address(address[0]), text) if "?" in text else text


def _drop_query_from_address(address: str) -> str:
    parts, in_url = [], False
    for part in address.split(")"):
        after_scheme = 0 if in_url else part.find("://") + 3
        in_url = in_url or after_scheme >= 3
        if in_url and (query := part.find("?", after_scheme)) >= 0:
            suffix = f"?{MODE}" if part[query:] == f"?{MODE}" else ""
            part, in_url = part[:query] + suffix, False
        parts.append(part)
    return ")".join(parts)


def _signatures(url: str) -> list[str]:
    """Return the values of a URL's query parameters whose names mark them as secret."""
    values = []
    for parameter in re.split(r"[?&]", url)[1:]:
        name, _, value = parameter.partition("=")
        if SECRET_PARAMETER.search(name):
            values.append(re.split(r"[#\s]", value)[0])
    return values


def _secrets() -> list[str]:
    """Return all known secrets, longest first: one may be a part of another."""
    remember(os.environ.get("MLFLOW_TRACKING_URI"))
    named = (value for name, value in os.environ.items() if SECRET.search(name) and not NOT_SECRET.search(name))
    secrets = {value for value in named if len(value) >= SHORTEST and not os.path.exists(value)}
    return sorted(secrets | _remembered, key=len, reverse=True)


logging.getLogger("tunesmith").addFilter(redact_record)  # on import, so that every log line is redacted
