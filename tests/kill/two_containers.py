"""Kill processes of a training in two Docker containers: `python tests/kill/two_containers.py --points 9 [--seed N]`.

The containers are those of deployments/machines/compose.yaml, with separate file systems and network names, beside a
store that speaks S3. At random moments a training process of either container, `tunesmith worker` or the run itself
gets SIGKILL, and Docker starts the container again; or a container is removed with its disk, and a new one takes its
place. The result of each training must have the bytes of one that nobody disturbed. Needs Docker and the image
tunesmith:0.1.0 (`docker build -f deployments/Dockerfile -t tunesmith:0.1.0 .`).
"""

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kill_ground import make_ground
from two_machines import PATIENCE, ROOT, RUN, STEPS_PER_EPOCH, kill_runs, parse_arguments, recipe_of

COMPOSE = ROOT / "deployments" / "machines" / "compose.yaml"
PROJECT = "tunesmith-two-containers"
KEYS = {"AWS_ENDPOINT_URL": "http://s3:8333", "AWS_ACCESS_KEY_ID": "tunesmith", "AWS_DEFAULT_REGION": "us-east-1"}
KINDS = (
    "rank of the first container",
    "rank of the second container",
    "worker",
    "run",
    "first container with its disk",
    "second container with its disk",
)
S3 = {
    "image": "chrislusf/seaweedfs:4.47",
    "command": "server -dir=/data -s3 -master.volumeSizeLimitMB=1024 -volume.max=0",
    "environment": [*KEYS, "AWS_SECRET_ACCESS_KEY"],
}
MAKE_BUCKET = """
import s3fs, time
for _ in range(60):
    try:
        s3fs.S3FileSystem().makedirs("kills", exist_ok=True)
        break
    except OSError:  # the server is still starting
        time.sleep(1)
"""
LOOK = """
import glob, psutil
(command,) = psutil.Process(1).children()
steps = [int(path.split("step-")[1].split("-")[0]) for path in glob.glob("/srv/cache/tunesmith/*/work/*/step-*")]
print(len(command.children()), max(steps, default=0))
"""
"""Number of training processes, and step of the last checkpoint; the command is the child of the container's init."""
KILL = """
import psutil, random, sys
(command,) = psutil.Process(1).children()
random.choice(command.children() if sys.argv[1] == "rank" else [command]).kill()
"""


class Containers:
    """A run in two containers of a compose project."""

    def __init__(self, recipe: dict[str, Any], ground: Path):
        self.override = ground.parent / "override.yaml"
        command = ["python", "-c", RUN, json.dumps(recipe)]
        one_thread = {"environment": ["OMP_NUM_THREADS=1"]}  # more would wait for each other
        first = {"command": [word.replace("$", "$$") for word in command], "volumes": [f"{ground}:/srv/recipes:ro"]}
        services = {"s3": S3, "first": first | one_thread, "second": one_thread}
        self.override.write_text(json.dumps({"services": services}))
        self.compose("up", "--detach", "s3")
        self.compose("run", "--rm", "second", "python", "-c", MAKE_BUCKET)
        self.compose("up", "--detach", "first", "second")

    def compose(self, *command: str, check: bool = True) -> str:
        """Run `docker compose`; what it prints, nothing if it fails and `check` is false: Docker prints errors, too."""
        files = ["--file", str(COMPOSE), "--file", str(self.override)]
        own = KEYS | {"AWS_SECRET_ACCESS_KEY": "secret", "RECIPE": "none", "STORE": "none"}
        done = subprocess.run(
            ["docker", "compose", "--project-name", PROJECT, *files, *command],
            env=os.environ | own,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"{command}: {done.stderr[-3000:]}")
        return "" if done.returncode else done.stdout

    def inside(self, service: str, code: str, *arguments: str) -> str:
        """Run Python code in a container; what it prints, nothing if the container is just starting or ending."""
        return self.compose("exec", "-T", service, "python", "-c", code, *arguments, check=False)

    def has_ended(self) -> bool:
        """Whether the run has ended; one that was killed is started again within seconds."""
        return "first" not in self.compose("ps", "--services", "--status", "running", "--status", "restarting")

    def wait_for(self, step: int) -> bool:
        while not self.has_ended():
            looks = [self.inside(service, LOOK).split() for service in ("first", "second")]
            if all(looks) and all(int(ranks) for ranks, _ in looks) and int(looks[0][1]) >= step:
                time.sleep(random.uniform(0, 1))
                return True
            time.sleep(0.5)
        return False

    def kill(self, kind: str) -> bool:
        if self.has_ended():
            return False
        service = "second" if "second" in kind or kind == "worker" else "first"
        if "disk" in kind:
            self.compose("kill", service)
            self.compose("up", "--detach", "--force-recreate", "--no-deps", service)
        else:
            self.inside(service, KILL, kind.split()[0])
        return True

    def result(self) -> str:
        end = time.monotonic() + PATIENCE
        while not self.has_ended():
            if time.monotonic() > end:
                return "it hangs"
            time.sleep(1)
        said = self.compose("logs", "--no-log-prefix", "first")  # the log and the digest come in any order
        digests = re.findall(r"[0-9a-f]{64}(?=\r?$)", said, re.MULTILINE)
        return digests[-1] if digests else said.strip().splitlines()[-1]

    def log(self) -> str:
        return self.compose("logs", "--tail", "60", "first", "second")

    def close(self) -> None:
        self.compose("down", "--volumes", "--timeout", "0")


def main() -> int:
    """1 if a training was lost or has other bytes."""
    options = parse_arguments(__doc__, points=9, epochs=60)
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ground = make_ground(folder / "ground")
        for path in (folder, *folder.rglob("*")):  # for the account in the containers
            path.chmod(0o755 if path.is_dir() else 0o644)

        def begin(name: str) -> Containers:
            own = {"store": f"s3://kills/{name}", "rendezvous": "first:29400", "tracking_uri": "sqlite:////tmp/mlflow"}
            return Containers(recipe_of(Path("/srv/recipes"), options, own), ground)

        return kill_runs(begin, options.points, STEPS_PER_EPOCH * options.epochs, KINDS)


if __name__ == "__main__":
    sys.exit(main())
