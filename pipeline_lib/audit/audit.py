"""Audit one training or a whole experiment: provenance, inconsistencies and repairs."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline_lib.audit.consistency import Disagreement, check_running, disagreements
from pipeline_lib.audit.provenance import chain, format_provenance
from pipeline_lib.audit.repair import repair
from pipeline_lib.audit.training_data import SourceChange, record_findings, source_changes
from pipeline_lib.tracking.left_runs import is_left, settle, settle_noted
from pipeline_lib.tracking.records import TrainingRecords
from pipeline_lib.tracking.search import TrainingSearch


@dataclass
class Audit:
    """The results of an audit."""

    chains: list[dict[str, Any]] = field(default_factory=list)
    found: list[list[Disagreement]] = field(default_factory=list)
    """The disagreements of each chain."""
    sources: list[list[SourceChange]] = field(default_factory=list)
    """For each chain, the changes of its training files; these are never disagreements."""
    strays: list[Disagreement] = field(default_factory=list)
    """Disagreements about runs that belong to no training."""
    repaired: list[str] = field(default_factory=list)

    @property
    def disagrees(self) -> bool:
        """Whether there is any certain disagreement."""
        return any(finding.sure for group in (*self.found, self.strays) for finding in group)

    def lines(self, whole: bool) -> Iterator[str]:
        """Yield the report as text: complete chains (`whole`), or only model and training of each."""
        yield from self.repaired
        for link, found, sources in zip(self.chains, self.found, self.sources, strict=True):
            shown = (
                format_provenance(link)
                if whole
                else (line for line in format_provenance(link) if line[0] in ("training", "model"))
            )
            yield from (f"{what:<11} {line}" for what, line in shown)
            yield from map(_source_line, sources)
            yield from map(_finding_line, found)
        yield from map(_finding_line, self.strays)
        yield self._verdict(whole)

    def _verdict(self, whole: bool) -> str:
        sure = sum(finding.sure for group in (*self.found, self.strays) for finding in group)
        verdict = "all records agree"
        if sure or not whole:
            verdict = f"{_format_count(len(self.chains), 'training')} audited, {_format_count(sure, 'disagreement')}"
        if changed := sum(map(bool, self.sources)):
            subject = "its data" if whole else f"the data of {changed}"
            verdict += f"; {subject} has changed since the training"
        return verdict

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON."""
        trainings = [
            {
                **link,
                "findings": [finding._asdict() for finding in found],
                "source_changes": [change._asdict() for change in sources],
            }
            for link, found, sources in zip(self.chains, self.found, self.sources, strict=True)
        ]
        strays = [finding._asdict() for finding in self.strays]
        return {"repaired": self.repaired, "trainings": trainings, "strays": strays, "disagrees": self.disagrees}


def audit_trainings(uri: str, target: str | None, experiment: str, store: str | None, with_repair: bool) -> Audit:
    """Audit the training of a run or model, or all trainings of an experiment; RecipeError if there is none."""
    finder, report = TrainingSearch(uri), Audit()
    trainings = _find_trainings(finder, target, experiment)
    settled = repair if with_repair else settle_noted  # delivering a training's own note does not count as a repair
    report.repaired = [line for held in trainings for line in settled(finder, held, store)]
    if report.repaired:
        trainings = _find_trainings(finder, target, experiment)
    for held in trainings:
        report.chains.append(chain(held))
        report.found.append([*disagreements(held, store), *record_findings(held)])
        report.sources.append(source_changes(held))
    if target is None:
        known = {run.id for held in trainings for run in held.runs}
        strays = [run for run in finder.runs(finder.experiment(experiment)) if run.id not in known]
        report.repaired += [settle(finder, run) for run in strays if with_repair and is_left(run)]
        report.strays = [
            found for run in strays if not (with_repair and is_left(run)) and (found := check_running(run))
        ]
    return report


def _find_trainings(finder: TrainingSearch, target: str | None, experiment: str) -> list[TrainingRecords]:
    return [finder.find_training(target)] if target else finder.trainings(experiment)


def _format_count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _source_line(change: SourceChange) -> str:
    return f"{'changed':<11} {' '.join(filter(None, (change.split, change.path, change.what)))}"


def _finding_line(finding: Disagreement) -> str:
    return f"{'DISAGREES' if finding.sure else 'not known':<11} {finding.about}: {finding.what}"
