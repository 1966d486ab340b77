"""Format a decision for the terminal and as a page in Prefect's UI."""

from base64 import b64encode
from io import BytesIO

from pipeline_lib.retrain.gate_checks import Decision

MEANS = {
    "promoted": "The challenger is the new champion.",
    "refused": "The champion stays; the challenger is registered as a version without the alias.",
    "blocked": "The data has drifted too far: nothing was trained, and the champion stays.",
    "nothing to do": "Nothing was trained.",
}


def format_decision(decision: Decision, model: str) -> list[str]:
    """Format the decision for the terminal."""
    version = f" (version {decision.version} of {model})" if decision.version else ""
    numbers = [f"  {name:<40} {value:.4f}" for name, value in decision.numbers.items()]
    return [f"{decision.verdict}{version}: {decision.reason}", *numbers, *(f"  {note}" for note in decision.notes)]


def decision_markdown(decision: Decision, model: str) -> str:
    """Format the decision as a Markdown page."""
    version = f", version {decision.version}" if decision.version else ""
    against = f" against version {decision.champion}" if decision.champion else ""
    parts = [f"# {model}{version}: {decision.verdict}{against}", MEANS[decision.verdict], f"Reason: {decision.reason}."]
    if decision.numbers:
        from pipeline_lib.evaluation.report.tables import markdown_table

        rows = [(name, f"{value:.4f}") for name, value in decision.numbers.items()]
        parts.append(markdown_table(("number", "value"), rows))
    parts += [f"Note: {note}." for note in decision.notes]
    image = _figure(decision)
    if image:
        parts.append(f"![the gain and its lower bound against the margin](data:image/png;base64,{image})")
    return "\n\n".join(parts)


def _figure(decision: Decision) -> str:
    """Plot the challenger's gain and its lower bound against the margin, as a base64 PNG.

    Empty if no models were compared.
    """
    compared = [name.removesuffix(".bound") for name in decision.numbers if name.endswith(".bound")]
    if not compared:
        return ""
    from pipeline_lib.evaluation.report.figures import BLUE, GREY, VERMILLION, create_figure, save_figure, tidy

    figure = create_figure(7, 1.2 + 0.4 * len(compared))
    axes = figure.add_subplot()
    for row, name in enumerate(compared):
        gain, bound, margin = (decision.numbers[f"{name}.{part}"] for part in ("gain", "bound", "margin"))
        axes.plot([bound, gain], [row, row], color=BLUE)
        axes.plot([bound, gain], [row, row], "|", color=BLUE)
        axes.plot(gain, row, "o", color=BLUE)
        axes.axvline(-margin, color=VERMILLION, linestyle="--")
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_yticks(range(len(compared)), compared)
    axes.set(
        ylim=(-0.6, len(compared) - 0.4), xlabel="gain over the champion; dashed: the limit that the bound must exceed"
    )
    into = BytesIO()
    save_figure(tidy(figure), into)
    return b64encode(into.getvalue()).decode()
