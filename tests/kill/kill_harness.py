"""Kill a run at chosen points, run it again, and say what is not as if it had never been killed."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from kill_ground import document
from kill_witness import Point

HERE = Path(__file__).parent
SHARES = {"finetune": 0.6, "evaluate": 0.15, "": 0.25}
"""How many points lie in which step; '' is all that comes before, and what lies between steps."""


class Life(NamedTuple):
    """One run: its exit status (below zero: the signal that ended it) and what its witness wrote."""

    status: int
    lines: list[dict[str, str]]

    def lines_of(self, *kinds: str) -> list[str]:
        """What was written down under these kinds."""
        return [line["what"] for line in self.lines if line["kind"] in kinds]

    @property
    def deeds(self) -> list[dict[str, str]]:
        """The lines that count."""
        return [line for line in self.lines if line["kind"] not in ("make", "warning", "raised")]


class Zygote:
    """A process with all imports done, that forks a child for each run."""

    def __init__(self, ground: Path):
        self.ground = ground
        self.temporary = ground / "tmp"
        """Where the runs' temporary folders are, apart from those of other tests."""
        self.temporary.mkdir(exist_ok=True)
        quiet = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, str(HERE / "kill_zygote.py")]
        path = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | quiet | {"PYTHONPATH": path, "TMPDIR": str(self.temporary)},
            cwd=ground,
            text=True,
        )

    def live(self, recipe: dict[str, Any], point: Point | None = None, publish: bool = False) -> Life:
        """One run of a recipe, killed at `point`."""
        assert self.process.stdin and self.process.stdout
        trace = Path(f"{recipe['execution']['store']}.trace")
        job = {"recipe": recipe, "trace": str(trace), "point": point, "publish": publish}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        status = int(self.process.stdout.readline())
        return Life(status, [json.loads(line) for line in trace.read_text(encoding="utf-8").splitlines()])

    def close(self) -> None:
        """End it."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


@dataclass
class Reference:
    """A variant's run that was never killed."""

    zygote: Zygote
    variant: str
    store: Path

    @cached_property
    def life(self) -> Life:
        """The run itself."""
        life = self.zygote.live(document(self.variant, self.zygote.ground, self.store))
        if life.status:
            raise RuntimeError(f"the run that nobody kills fails: {life.lines_of('raised')}")
        return life

    @cached_property
    def files(self) -> dict[str, str]:
        """What it made."""
        return self.life and digests(self.store)

    @cached_property
    def steps(self) -> int:
        """Its training steps."""
        return len(self.life.lines_of("step"))

    def moment(self, stage: str, kind: str, what: str, torn: bool = False) -> Point:
        """The last deed of a kind in a step whose path matches."""
        deeds = enumerate(self.life.deeds, 1)
        fits = [n for n, d in deeds if (d["stage"], d["kind"]) == (stage, kind) and re.search(what, d["what"])]
        return Point(fits[-1], torn=torn)

    def points(self, wanted: int, phase: float = 0.5) -> list[Point]:
        """About so many points, spread evenly over each step; `phase` from 0 to 1 moves them."""
        found: dict[str, list[Point]] = {share: [] for share in SHARES}
        for number, deed in enumerate(self.life.deeds, 1):
            points = found[deed["stage"] if deed["stage"] in found else ""]
            points.append(Point(number))
            if deed["kind"] == "write":
                points.append(Point(number, torn=True))
        return [
            points[int((index + phase) * len(points) / count)]
            for share, points in found.items()
            for count in [min(len(points), max(1, round(SHARES[share] * wanted)))]
            for index in range(count)
        ]


Between = Callable[[Path], None]


def problems(reference: Reference, points: list[Point], store: Path, between: Between = lambda _: None) -> list[str]:
    """Kill a run at each of the points, one run after the other, then let it end; what is wrong with that.

    `between` is called with the store after each kill.
    """
    recipe = document(reference.variant, reference.zygote.ground, store)
    found: list[str] = []
    published: dict[str, bytes] = {}
    first = 0
    for number, point in enumerate([*points, None]):
        life = reference.zygote.live(recipe, point)
        found += _repeated(life, published, first, reference.steps)
        found += [f"{text.strip().splitlines()[-1]}" for text in life.lines_of("warning", "raised")]
        found += [f"{name} was made anew" for name, text in published.items() if (store / name).read_bytes() != text]
        if point and life.status != -signal.SIGKILL and number == 0:
            found.append(f"was not killed, and ended with {life.status}")
        published, first = _published(store), next_step(store, reference.steps)
        between(store)
    return [*found, *_differences(reference, store)]


def _repeated(life: Life, published: dict[str, bytes], first: int, steps: int) -> Iterator[str]:
    """Steps of the run and of the training that were done before."""
    done = {name.split("/")[1] for name in published}
    yield from (f"{name} was made, and had been" for name in set(life.lines_of("make")) & done)
    taken = [int(step) for step in life.lines_of("step")]
    if taken != list(range(first, first + len(taken))):
        yield f"training began at step {taken[0]} where step {first} of {steps} was next"


def _published(store: Path) -> dict[str, bytes]:
    return {str(file.relative_to(store)): file.read_bytes() for file in store.glob("steps/*/*/manifest.json")}


def next_step(store: Path, steps: int) -> int:
    """The training step that comes next: the last checkpoint says so."""
    if list(store.glob("steps/finetune/*")):
        return steps
    names = [re.fullmatch(r"step-(\d+)-(\d+)", place.name) for place in store.glob("work/*/step-*")]
    return max((int(name[1]) for name in names if name), default=0)


def _differences(reference: Reference, store: Path) -> Iterator[str]:
    found = digests(store)
    for name in sorted(found.keys() | reference.files.keys()):
        if found.get(name) != reference.files.get(name):
            yield f"{name} differs"
    for left in ("damaged/*", "work/*"):
        yield from (f"{path.relative_to(store)} is left over" for path in store.glob(left))


def digests(store: Path) -> dict[str, str]:
    """SHA-256 of all published files but manifests, which tell when and where."""
    files = [file for file in store.glob("steps/**/*") if file.is_file() and file.name != "manifest.json"]
    return {str(file.relative_to(store)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def described(reference: Reference, points: list[Point]) -> str:
    """Points as people read them."""
    deeds = reference.life.deeds
    texts = []
    for point in points:
        deed = f"{point.kind} {point.number}"
        if not point.kind:
            facts = deeds[point.number - 1]
            deed = f"deed {point.number} ({facts['stage']}: {facts['kind']} {facts['what']})"
        texts.append(("half-way in " if point.torn else "at ") + deed)
    return f"{reference.variant}, killed " + ", then ".join(texts)
