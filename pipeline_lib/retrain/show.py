"""A decision as people read it: on a terminal, and as a page in Prefect's UI."""

from pipeline_lib.retrain.decide import Decision

MEANS = {
    "promoted": "The challenger is the champion now.",
    "refused": "The champion stays; the challenger is kept as a version without the alias.",
    "blocked": "The data has moved too far: nothing was trained, the champion stays.",
    "nothing to do": "Nothing was trained.",
}


def lines(decision: Decision, model: str) -> list[str]:
    """The decision for a terminal."""
    version = f" (version {decision.version} of {model})" if decision.version else ""
    numbers = [f"  {name:<40} {value:.4f}" for name, value in decision.numbers.items()]
    return [f"{decision.verdict}{version}: {decision.reason}", *numbers]


def markdown(decision: Decision, model: str) -> str:
    """The decision with its numbers."""
    version = f", version {decision.version}" if decision.version else ""
    against = f" against version {decision.champion}" if decision.champion else ""
    told = [f"# {model}{version}: {decision.verdict}{against}", MEANS[decision.verdict], f"Reason: {decision.reason}."]
    if decision.numbers:
        rows = [f"| {name} | {value:.4f} |" for name, value in decision.numbers.items()]
        told.append("\n".join(["| what | value |", "| --- | --- |", *rows]))
    return "\n\n".join(told)
