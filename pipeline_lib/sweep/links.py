"""Links to the runs of a sweep: their pages in MLflow and their reports."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from pipeline_lib.pipeline.run import RunOutcome


class TrialPlaces(NamedTuple):
    """One run of a sweep: its name, its addresses in MLflow, and its report's file."""

    name: str
    run: str
    evaluation: str
    report: str


def trial_places(ended: Mapping[str, RunOutcome | BaseException]) -> list[TrialPlaces]:
    """The places of all runs that completed, in their order."""
    places = []
    for name, outcome in ended.items():
        if isinstance(outcome, RunOutcome):
            published = outcome.published
            run = published["run"]
            places.append(TrialPlaces(name, run, published["evaluation"], str(outcome.report)))
    return places


def links(places: list[TrialPlaces]) -> str:
    """Return a Markdown list of runs, with links to MLflow's pages if it has any, else with run ID and report file."""
    return "\n".join(map(_line, places))


def run_id(address: str) -> str:
    """The ID in a run's address."""
    match = re.search(r"\b[0-9a-f]{32}\b", address)
    return match[0] if match else address


def _line(place: TrialPlaces) -> str:
    if not place.run.startswith("http"):
        return f"- {place.name}: MLflow run `{run_id(place.run)}`, report `{place.report}`"
    page, _, mode = place.evaluation.partition("?")
    return f"- {place.name}: [MLflow run]({place.run}), [report]({page}/artifacts/report.html?{mode})"
