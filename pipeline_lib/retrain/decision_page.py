"""A decision as people read it: on a terminal, and as a page in Prefect's UI."""

from base64 import b64encode
from io import BytesIO

from pipeline_lib.retrain.gate_checks import Decision

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
    return [f"{decision.verdict}{version}: {decision.reason}", *numbers, *(f"  {note}" for note in decision.notes)]


def markdown(decision: Decision, model: str) -> str:
    """The decision with its numbers."""
    version = f", version {decision.version}" if decision.version else ""
    against = f" against version {decision.champion}" if decision.champion else ""
    told = [f"# {model}{version}: {decision.verdict}{against}", MEANS[decision.verdict], f"Reason: {decision.reason}."]
    if decision.numbers:
        from pipeline_lib.evaluation.report.tables import markdown_table

        rows = [(name, f"{value:.4f}") for name, value in decision.numbers.items()]
        told.append(markdown_table(("what", "value"), rows))
    told += [f"Note: {note}." for note in decision.notes]
    if drawn := _figure(decision):
        told.append(f"![the gain and its lower bound against the margin](data:image/png;base64,{drawn})")
    return "\n\n".join(told)


def _figure(decision: Decision) -> str:
    """How much better the challenger is, down to its lower bound, against the margin: a PNG in base64; empty where no
    models were compared."""
    compared = [name.removesuffix(".bound") for name in decision.numbers if name.endswith(".bound")]
    if not compared:
        return ""
    from pipeline_lib.evaluation.report.figures import BLUE, GREY, VERMILLION, blank, tidy

    figure = blank(7, 1.2 + 0.4 * len(compared))
    axes = figure.add_subplot()
    for place, name in enumerate(compared):
        gain, bound, margin = (decision.numbers[f"{name}.{part}"] for part in ("gain", "bound", "margin"))
        axes.plot([bound, gain], [place, place], color=BLUE)
        axes.plot([bound, gain], [place, place], "|", color=BLUE)
        axes.plot(gain, place, "o", color=BLUE)
        axes.axvline(-margin, color=VERMILLION, linestyle="--")
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_yticks(range(len(compared)), compared)
    axes.set(
        ylim=(-0.6, len(compared) - 0.4), xlabel="better than the champion by; dashed: what the bound has to exceed"
    )
    into = BytesIO()
    tidy(figure).savefig(into, format="png", metadata={"Software": None})
    return b64encode(into.getvalue()).decode()
