"""Where the runs of a sweep are: their pages in MLflow and their reports."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from pipeline_lib.pipeline.run import RunOutcome


class TrialPlaces(NamedTuple):
    """One run of a sweep: its name, its addresses in MLflow, and its report on this machine."""

    name: str
    run: str
    evaluation: str
    report: str


def trial_places(ended: Mapping[str, RunOutcome | BaseException]) -> list[TrialPlaces]:
    """The places of all runs that ended well, in their order."""
    done = [(name, outcome) for name, outcome in ended.items() if isinstance(outcome, RunOutcome)]
    return [
        TrialPlaces(name, told.get("run", told["training"]), told["evaluation"], str(outcome.report))
        for name, outcome in done
        for told in [outcome.published]
    ]


def links(places: list[TrialPlaces]) -> str:
    """A list in Markdown: each run with links to MLflow where that has pages, else its id and its report's file."""
    return "\n".join(map(_line, places))


def run_id(address: str) -> str:
    """The id in a run's address."""
    found = re.search(r"\b[0-9a-f]{32}\b", address)
    return found[0] if found else address


def _line(place: TrialPlaces) -> str:
    if not place.run.startswith("http"):
        return f"- {place.name}: MLflow run `{run_id(place.run)}`, report `{place.report}`"
    page, _, mode = place.evaluation.partition("?")
    return f"- {place.name}: [MLflow run]({place.run}), [report]({page}/artifacts/report.html?{mode})"
