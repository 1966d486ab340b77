"""Steps and artifacts: the values that steps and the store pass to each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from pipeline_lib.store.digests import value_digest
from pipeline_lib.util.times import humanize_time

version = cache(metadata.version)
"""Return the version of an installed package; cached, as a lookup reads files and all shards need the same ones."""


@dataclass(frozen=True)
class Step:
    """Everything that determines the output of a step; nothing else may affect it.

    Args:
        name: Name of the step.
        version: Increase it if the output changes although the code does not.
        recipe: The parts of the recipe that the step reads, as plain JSON values.
        inputs: Content digests of its inputs; None in a plan for an input that does not exist yet.
        libraries: Packages whose version affects the output.
        code: Digests of the modules of this package that the step reaches.
    """

    name: str
    version: int
    recipe: Mapping[str, Any]
    inputs: Mapping[str, str | None]
    libraries: tuple[str, ...] = ()
    code: Mapping[str, str] = field(default_factory=dict)

    def identity(self) -> dict[str, Any]:
        """Return the values that are hashed, as they appear in the manifest."""
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
        """SHA-256 of the identity; raises TypeError for a value without a canonical JSON form."""
        return value_digest(self.identity())


@dataclass(frozen=True)
class PublishedStep(Step):
    """A step as a manifest describes it: the versions of the libraries are those of the machine that ran it."""

    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_identity(cls, identity: Mapping[str, Any]) -> "PublishedStep":
        """Read the identity in a manifest."""
        parts = {name: identity[name] for name in ("version", "recipe", "inputs", "code")}
        return cls(identity["step"], **parts, versions=identity["libraries"])

    def identity(self) -> dict[str, Any]:
        """Return the identity in the manifest."""
        return super().identity() | {"libraries": dict(self.versions)}


class Reference(NamedTuple):
    """Names one version of an artifact, for another machine."""

    step: str
    fingerprint: str
    digest: str


@dataclass(frozen=True)
class Artifact:
    """A reference to the published output of a step; `digest` is the SHA-256 over the digests of its files."""

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
        """The abbreviated fingerprint."""
        return self.fingerprint[:8]

    @property
    def message(self) -> str:
        """What happened to the step, for the terminal, the log and Prefect."""
        if self.reused:
            return f"reused {self.short}, created {humanize_time(self.made['at'])} by {self.made['by']}"
        return f"created {self.short} in {self.made['seconds']:.1f} s ({self.why})"
