"""What a step is, and what is left of it: the values that steps and the store hand to each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline_lib.store.digests import value_digest
from pipeline_lib.util.times import humanize_time

version = cache(metadata.version)
"""Of an installed package. A lookup reads its files, and every step of a thousand files asks for the same ones."""


@dataclass(frozen=True)
class Step:
    """What a step is: all of this decides its bytes, and nothing else may.

    `recipe` holds the recipe's parts that the step reads (plain JSON values), `inputs` the content digests of what it
    reads (None in a plan, for what is yet to be created), `libraries` the packages whose version decides its bytes,
    `code` the digests of the modules of ours that it reaches. Raise `version` where the output changes and the code
    does not.
    """

    name: str
    version: int
    recipe: Mapping[str, Any]
    inputs: Mapping[str, str | None]
    libraries: tuple[str, ...] = ()
    code: Mapping[str, str] = field(default_factory=dict)

    def identity(self) -> dict[str, Any]:
        """The hashed facts, as they stand in the manifest."""
        versions = {library: version(library) for library in self.libraries}
        return {
            "step": self.name,
            "version": self.version,
            "recipe": dict(self.recipe),
            "inputs": dict(self.inputs),
            "libraries": versions,
            "code": dict(self.code),
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the identity; raises TypeError for a value that JSON cannot hold the same way everywhere."""
        return value_digest(self.identity())


@dataclass(frozen=True)
class Artifact:
    """A published step: a reference that steps hand to each other. `digest` is the SHA-256 over its files' digests."""

    step: str
    fingerprint: str
    digest: str
    folder: Path
    made: Mapping[str, Any]
    reused: bool
    why: str = ""
    """Why it had to be created."""

    @property
    def short(self) -> str:
        """The fingerprint as people read it."""
        return self.fingerprint[:8]

    @property
    def message(self) -> str:
        """What happened, in the words that the terminal, the log and Prefect show."""
        if self.reused:
            return f"reused {self.short}, created {humanize_time(self.made['at'])} by {self.made['by']}"
        return f"created {self.short} in {self.made['seconds']:.1f} s ({self.why})"
