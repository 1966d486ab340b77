"""Files that a killed run has left are damaged: the same command ends with the bytes of a run that nobody disturbed.

`pytest tests/kill/test_damage.py`
"""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from after_kill import wrong
from kill_ground import document
from kill_harness import digests
from kill_witness import Point

pytestmark = pytest.mark.kill

READ_BACK = {
    "tensors of a checkpoint": "work/*/step-*/*.safetensors",
    "state of a checkpoint": "work/*/step-*/state.json",
    "manifest of a checkpoint": "work/*/step-*/manifest.json",
    "best weights": "work/*/best-*/*.safetensors",
    "manifest of the best weights": "work/*/best-*/manifest.json",
    "artifact": "steps/prepare/*/splits.parquet",
    "manifest of an artifact": "steps/prepare/*/manifest.json",
}
"""What a training that goes on reads, by its place in the store."""


def flip(file: Path) -> None:
    """Change one bit in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut(file: Path) -> None:
    """Leave the first half."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


DAMAGES = {"a flipped bit": flip, "half of it": cut, "nothing left": lambda file: file.write_bytes(b"")}


def damage_all(folder: Path, pattern: str, damage: Callable[[Path], object]) -> None:
    """Damage the files of a pattern, of which there must be some."""
    files = list(folder.glob(pattern))
    assert files, pattern
    for file in files:
        damage(file)


@pytest.fixture(scope="module")
def killed(reference, zygote, tmp_path_factory):
    """The store of a training that was killed when it had a checkpoint and, in another epoch, best weights."""
    store, steps = tmp_path_factory.mktemp("killed") / "store", reference("stopping").steps
    assert zygote.live(document("stopping", zygote.ground, store), Point(steps - 2, "step")).status == -signal.SIGKILL
    return store


@pytest.mark.parametrize("damage", ["a flipped bit", "half of it"])
@pytest.mark.parametrize("name", READ_BACK)
def test_damaged_and_run_again(reference, zygote, killed, name, damage, tmp_path):
    of, store = reference("stopping"), tmp_path / "store"
    shutil.copytree(killed, store)
    damage_all(store, READ_BACK[name], DAMAGES[damage])
    life = zygote.live(document("stopping", zygote.ground, store))
    assert (life.status, life.lines_of("raised")) == (0, [])
    assert digests(store) == of.files
    assert any("damaged" in line for line in life.lines_of("warning")), "nobody noticed"
    assert not list(store.glob("work/*"))


@pytest.fixture(scope="module")
def published(zygote, tmp_path_factory):
    """A folder with a run that was killed while MLflow was told of its training."""
    folder = tmp_path_factory.mktemp("published")
    assert publish(zygote, folder, Point(1, "_set_tags")).status == -signal.SIGKILL
    return folder


def publish(zygote, folder, point=None):
    """A run that is told to MLflow; its life."""
    recipe = document("no_checkpoint", zygote.ground, folder / "artifacts")
    recipe["execution"] |= {"tracking_uri": f"sqlite:///{folder / 'mlflow.db'}", "experiment": "killed"}
    return zygote.live(recipe, point, publish=True)


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_waits_for_mlflow_and_receipts_are_damaged(zygote, published, tmp_path, damage):
    shutil.copytree(published, tmp_path, dirs_exist_ok=True)
    for name in ("mlflow-run.json", "records.jsonl"):
        damage_all(tmp_path, f"artifacts/work/*/{name}", DAMAGES[damage])
    assert publish(zygote, tmp_path).status == 0
    assert wrong(tmp_path) is None
    damage_all(tmp_path, "artifacts/receipts/*.json", DAMAGES[damage])
    assert publish(zygote, tmp_path).status == 0
    assert wrong(tmp_path) is None
