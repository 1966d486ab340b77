"""The folders that a training reads from."""

from pathlib import Path
from typing import NamedTuple


class Inputs(NamedTuple):
    """Input folders of a training or an evaluation."""

    prepared: Path
    shards: Path
    """Folder of all shards; `prepared` assigns their rows to splits."""
    base: Path
    initial: Path
    """The initial model; in an evaluation, the trained one."""
    features: Path | None = None
    """Cached outputs of the frozen backbone, if any."""
    reference: Path | None = None
    """Log-probabilities of the answers under the reference model, if the objective needs one."""
