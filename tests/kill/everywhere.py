"""Kill runs at hundreds of points: `python tests/kill/everywhere.py --points 300 [--variant NAME]`.

One line for each failure, then how many points, failures and seconds, as the clock and the processor count them.
Every fifth run is killed twice.
"""

import argparse
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

from kill_ground import VARIANTS, make_ground
from kill_harness import Reference, Zygote, described, problems
from kill_witness import Point

TWICE = 5


def main() -> int:
    """The number of failures, as far as an exit status can tell it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=300, help="how many runs are killed")
    parser.add_argument("--variant", choices=VARIANTS, help="one variant; all without it")
    options = parser.parse_args()
    names = [options.variant] if options.variant else [*VARIANTS]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        zygote = Zygote(make_ground(Path(folder) / "ground"))
        tries = [kill(zygote, name, options.points / len(names), Path(folder)) for name in names]
        zygote.close()
    points, failures = (sum(counts) for counts in zip(*tries, strict=True))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds, computing = time.perf_counter() - began, used.ru_utime + used.ru_stime
    print(f"{points} points, {failures} failures, {seconds:.0f} s, {computing:.0f} s of them computing")
    return min(failures, 1)


def kill(zygote: Zygote, variant: str, wanted: float, folder: Path) -> tuple[int, int]:
    """Points and failures of one variant."""
    reference = Reference(zygote, variant, folder / variant)
    points, failures = reference.points(round(wanted)), 0
    for index, point in enumerate(points):
        store = folder / f"{variant}-{index}"
        both = [point, Point(5 + 3 * index)] if index % TWICE == 0 else [point]
        if found := problems(reference, both, store):
            failures += 1
            print(f"{described(reference, both)}: {'; '.join(found)}", flush=True)
        shutil.rmtree(store)
    return len(points), failures


if __name__ == "__main__":
    sys.exit(main())
