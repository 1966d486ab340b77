"""What the tests of flows share."""

import time

import pytest


@pytest.fixture(scope="module", autouse=True)
def server():
    """Prefect's own test server."""
    from prefect.testing.utilities import prefect_test_harness  # two seconds, which other files need not wait

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def eventually():
    """eventually(read, expected): what was read, again until it is as expected or a minute has passed.

    Prefect's server writes down what tasks did a little later than they did it.
    """

    def read_again(read, expected):
        end = time.monotonic() + 60
        while (found := read()) != expected and time.monotonic() < end:
            time.sleep(0.2)
        return found

    return read_again
