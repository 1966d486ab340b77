"""What a training reads."""

from pathlib import Path
from typing import NamedTuple


class Inputs(NamedTuple):
    """Folders by what they hold."""

    prepared: Path
    shards: Path
    """Of all encoded files; `prepared` says which of their rows belong to which split."""
    base: Path
    initial: Path
    """The model that training starts from."""
    kept: Path | None = None
    """What the model's trunk puts out, if that is kept."""
    reference: Path | None = None
    """What the reference model says of the answers, if the objective compares with one."""
