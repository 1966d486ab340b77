"""What the tests of flows share."""

import pytest
from prefect.testing.utilities import prefect_test_harness


@pytest.fixture(scope="module", autouse=True)
def server():
    """Prefect's own test server."""
    with prefect_test_harness(server_startup_timeout=120):
        yield
