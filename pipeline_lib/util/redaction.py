"""Passwords and tokens stay inside: `masked` stands wherever text leaves a run, for a log, an error, a file, MLflow.

Two things are hidden: what stands in a URL where credentials stand, and, wherever they turn up, the values of the
environment's secrets and of the passwords in the URLs that a recipe has named.
"""

import logging
import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

HIDDEN = "…"
SECRET = re.compile(r"(^|_)(TOKEN|PASSWORD|PASSWD|PWD|SECRET|ACCESS_KEY|API_KEY|APIKEY|CREDENTIALS?|SAS)(_|$)", re.I)
PLACE = re.compile(r"(^|_)(OLD)?PWD$|_(PATH|FILE|DIR|URL|ENDPOINT)$", re.I)
"""Variables that only name where a secret is, or the working directory."""
SHORTEST = 6
"""A shorter word can stand in any text by chance; in a URL it is hidden all the same."""
MODE = "workflowType=machine_learning"
"""Opens a page of MLflow in the mode "Model training", whatever the browser was shown last.

The one query of a URL that is not hidden.
"""
ADDRESS = re.compile(r"(?<=[\w+.-])://[^\s'\"]+")
"""What follows a URL's scheme, up to a space or a quote."""
WORD = re.compile(r"\S+")
SECRET_PARAMETER = re.compile(r"sig|token|secret|password|key|credential", re.I)
"""In the name of a parameter in a URL's query."""

_remembered: set[str] = set()


def redact(value: Any) -> Any:
    """A text without what is secret in it; of lists and dictionaries, each text in them."""
    if isinstance(value, str):
        for secret in _secrets():
            value = value.replace(secret, HIDDEN)
        return _without_query(_without_account(value))
    if isinstance(value, dict):
        return {redact(key): redact(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(redact, value)) if type(value) in (list, tuple) else value
    return value


def first_line(error: BaseException, longest: int = 300) -> str:
    """The first line of what an error says, without what is secret in it."""
    return str(redact(str(error)).partition("\n")[0][:longest])


def without_password(url: str) -> str:
    """A URL as it may be shown: without user, password and query, which can hold a token."""
    return re.sub(r"\?\S*", "", _without_account(url))


def remember(url: str | None) -> None:
    """Keep in mind what is secret in a URL: a driver's error may tell the password alone."""
    account = (url or "").partition("://")[2].rpartition("@")[0]
    password = account.partition(":")[2]
    for secret in (password, *_signatures(url or "")):
        _remembered.update(form for form in (secret, unquote(secret)) if len(form) >= SHORTEST)


@contextmanager
def redact_errors() -> Iterator[None]:
    """Errors leave masked, with all that they were raised from: terminals show their texts, orchestrators keep them."""
    try:
        yield
    except Exception as error:
        if not _mask(error):
            raise RuntimeError(redact(f"{type(error).__name__}: {error}")) from None
        _mask_chain(error)
        raise


def _mask_chain(error: BaseException) -> None:
    """What an error was raised from, which a traceback shows too; where it cannot be masked it is cut off."""
    seen = {id(error)}
    while (before := error.__cause__ or error.__context__) is not None and id(before) not in seen:
        seen.add(id(before))
        if not _mask(before):
            error.__cause__ = error.__context__ = None
            return
        error = before


def _mask(error: BaseException) -> bool:
    """Mask an error's texts in place; whether nothing secret is left in what it says."""
    if redact(str(error)) != str(error):
        error.args = tuple(redact(str(part) if isinstance(part, BaseException) else part) for part in error.args)
        for name in (*vars(error), "filename", "filename2", "strerror"):
            if isinstance(text := getattr(error, name, None), str):
                setattr(error, name, redact(text))
    if notes := getattr(error, "__notes__", None):
        error.__notes__ = redact(notes)
    return bool(redact(str(error)) == str(error))


def mask_record(record: logging.LogRecord) -> bool:
    """A filter for loggers and handlers: the record's text without what is secret in it, its traceback too."""
    text = record.getMessage()
    if (shown := redact(text)) != text:
        record.msg, record.args = shown, None
    if record.exc_info and record.exc_info[1]:
        record.exc_text = redact("".join(traceback.format_exception(record.exc_info[1])).rstrip())
    return True


# Any text can come here, a line of data of a million characters too: the functions below look at each character a few
# times. Regular expressions for the same took the square of a word's length, and more.


def _without_account(text: str) -> str:
    """A text whose URLs have no user and password."""
    return WORD.sub(lambda word: _word_without_account(word[0]), text) if "@" in text and ":/" in text else text


def _word_without_account(word: str) -> str:
    """A word without what stands between `:/` or `://` and an `@`: up to the last one where there is a colon before it,
    as a password may hold any character, else up to the last one before the next slash.
    """
    scheme, last = word.find(":/"), word.rfind("@")
    if not 0 <= scheme < last:
        return word
    start = scheme + (3 if word.startswith("://", scheme) else 2)  # one slash: a URL that was taken for a path
    if word.rfind(":", 0, last) >= start:
        return word[:start] + word[last + 1 :]
    slash = word.find("/", start)
    at = word.rfind("@", start, slash if slash >= 0 else len(word))
    return word if at < 0 else word[:start] + word[at + 1 :]


def _without_query(text: str) -> str:
    """A text whose URLs have no query, which ends at a space, a quote or a closing bracket."""
    return ADDRESS.sub(lambda address: _address_without_query(address[0]), text) if "?" in text else text


def _address_without_query(address: str) -> str:
    parts, in_url = [], False
    for part in address.split(")"):
        after_scheme = 0 if in_url else part.find("://") + 3
        in_url = in_url or after_scheme >= 3
        if in_url and (query := part.find("?", after_scheme)) >= 0:
            kept = f"?{MODE}" if part[query:] == f"?{MODE}" else ""
            part, in_url = part[:query] + kept, False
        parts.append(part)
    return ")".join(parts)


def _signatures(url: str) -> list[str]:
    """The values of a URL's parameters that are secret by their names."""
    found = []
    for parameter in re.split(r"[?&]", url)[1:]:
        name, _, value = parameter.partition("=")
        if SECRET_PARAMETER.search(name):
            found.append(re.split(r"[#\s]", value)[0])
    return found


def _secrets() -> list[str]:
    """Longest first: one may be a part of another."""
    remember(os.environ.get("MLFLOW_TRACKING_URI"))
    named = (value for name, value in os.environ.items() if SECRET.search(name) and not PLACE.search(name))
    found = {value for value in named if len(value) >= SHORTEST and not os.path.exists(value)}
    return sorted(found | _remembered, key=len, reverse=True)


logging.getLogger("tunesmith").addFilter(mask_record)  # here: whatever runs a step, each of its lines goes through
