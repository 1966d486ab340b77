"""One process that forks all runs, and one run of each variant that nobody kills."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # `everywhere.py` runs by itself and shares these modules

import kill_ground
import kill_harness


@pytest.fixture(scope="session")
def zygote(tmp_path_factory):
    zygote = kill_harness.Zygote(kill_ground.make_ground(tmp_path_factory.mktemp("ground")))
    yield zygote
    zygote.close()


@pytest.fixture(scope="session")
def reference(zygote, tmp_path_factory):
    """A variant's reference by name; made when first asked for."""
    known = {}

    def of(variant):
        if variant not in known:
            known[variant] = kill_harness.Reference(zygote, variant, tmp_path_factory.mktemp(variant) / "store")
        return known[variant]

    return of
