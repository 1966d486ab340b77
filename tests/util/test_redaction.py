"""Redaction looks at each character of a text a few times, whatever the text is.

pytest tests/util/test_redaction.py
"""

import time

import pytest

from pipeline_lib.util import redaction
from pipeline_lib.util.redaction import redact, redact_url, remember

SHAPES = {
    "a word": "x",
    "schemes": "://",
    "addresses": "a://b",
    "accounts": "a://b:c@",
    "colons and ats": ":@",
    "slashes and ats": ":/@",
    "queries": "a://b?c=d&",
    "brackets": "a://b)?",
    "question marks": "?",
    "signatures": "?sig",
    "dots": ".a-",
}
SHORT, TIMES = 50_000, 8


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_a_text_that_is_8_times_as_long_takes_about_8_times_as_long(shape, monkeypatch):
    """The square would be 64 times as long; below a few milliseconds the clock says nothing."""
    monkeypatch.setattr(redaction, "_remembered", set())
    short, long = (min(seconds(shape * (count // len(shape))) for _ in range(3)) for count in (SHORT, SHORT * TIMES))
    assert long < max(0.1, 4 * TIMES * short)


def seconds(text):
    """How long it takes to hide what is secret in a text, alone and where it begins and ends as an address does."""
    began = time.process_time()
    for whole in (text, f"http://{text}@", f"{text}?"):
        redact(whole)
        redact_url(whole)
        remember(whole)
        redaction._remembered.clear()  # else the first text is looked for in the second
    return time.process_time() - began


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:a@b/c:d@host/x", "http://host/x"),
        ("http://me@host/x@y", "http://host/x@y"),
        ("sqlite:/me:pw@host", "sqlite:/host"),
        ("(http://a?t=1)(http://b?t=2)c?d", "(http://a)(http://b)c?d"),
        ("http://a(b)c?token=x", "http://a(b)c"),
        ("'http://a?x' \"http://b?y\" c?d", "'http://a' \"http://b\" c?d"),
        ("mail me@host: is it http://host?", "mail me@host: is it http://host"),
        ("at s3://k:p?w@host/x, and s3://j:q@host/y?sig=1", "at s3://host/x, and s3://host/y"),
    ],
)
def test_accounts_and_queries_are_left_out(text, shown):
    assert redact(text) == shown


def test_a_secret_parameter_is_remembered(monkeypatch):
    monkeypatch.setattr(redaction, "_remembered", set())
    remember("https://host/x?a=plainValue&X-Amz-Signature=signedValue#part")
    assert redact("plainValue signedValue") == "plainValue …"


def test_the_name_of_a_key_is_no_secret(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tunesmith")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "plantedKey")
    assert redact("tunesmith worker --key plantedKey") == "tunesmith worker --key …"
