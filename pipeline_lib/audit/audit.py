"""An audit of one training or of a whole experiment: chains, what disagrees, and what was mended."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline_lib.audit.chain import chain, lines
from pipeline_lib.audit.disagreements import Finding, findings, left_running
from pipeline_lib.audit.repair import is_dead, repair, settle
from pipeline_lib.tracking.find import Finder
from pipeline_lib.tracking.held import Held


@dataclass
class Audit:
    """What was found."""

    chains: list[dict[str, Any]] = field(default_factory=list)
    found: list[list[Finding]] = field(default_factory=list)
    """For each chain."""
    strays: list[Finding] = field(default_factory=list)
    """About runs that belong to no training."""
    repaired: list[str] = field(default_factory=list)

    @property
    def disagrees(self) -> bool:
        """Whether anything is not as it should be, for sure."""
        return any(finding.sure for some in (*self.found, self.strays) for finding in some)

    def lines(self, whole: bool) -> Iterator[str]:
        """The audit as people read it: `whole` chains, or a line for each."""
        yield from self.repaired
        for link, found in zip(self.chains, self.found, strict=True):
            shown = lines(link) if whole else (line for line in lines(link) if line[0] in ("training", "model"))
            yield from (f"{what:<11} {line}" for what, line in shown)
            yield from map(_told, found)
        yield from map(_told, self.strays)
        sure = sum(finding.sure for some in (*self.found, self.strays) for finding in some)
        yield f"{len(self.chains)} trainings looked at, {sure} disagreements" if sure or not whole else "all agrees"

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        told = [{**link, "findings": [f._asdict() for f in found]} for link, found in zip(self.chains, self.found)]
        strays = [finding._asdict() for finding in self.strays]
        return {"repaired": self.repaired, "trainings": told, "strays": strays, "disagrees": self.disagrees}


def audited(uri: str, target: str | None, experiment: str, store: str | None, mend: bool) -> Audit:
    """Look into the training of a run or model, or into all of an experiment; raises RecipeError where it is not."""
    finder, report = Finder(uri), Audit()
    if mend:
        report.repaired = [line for held in _held(finder, target, experiment) for line in repair(finder, held, store)]
    trainings = _held(finder, target, experiment)
    for held in trainings:
        report.chains.append(chain(held))
        report.found.append(findings(held, store))
    if target is None:
        known = {run.id for held in trainings for run in held.runs}
        strays = [run for run in finder.runs(finder.experiment(experiment)) if run.id not in known]
        report.repaired += [settle(finder, run) for run in strays if mend and is_dead(run)]
        report.strays = [found for run in strays if not (mend and is_dead(run)) and (found := left_running(run))]
    return report


def _held(finder: Finder, target: str | None, experiment: str) -> list[Held]:
    return [finder.training(target)] if target else finder.trainings(experiment)


def _told(finding: Finding) -> str:
    return f"{'DISAGREES' if finding.sure else 'not known':<11} {finding.about}: {finding.what}"
