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

    def as_strings(self) -> dict[str, str]:
        """Return the folders by name, without those that there are not, for JSON."""
        return {name: str(folder) for name, folder in self._asdict().items() if folder}
