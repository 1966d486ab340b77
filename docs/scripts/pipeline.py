"""Draw docs/images/pipeline.svg: python docs/scripts/pipeline.py."""

from pathlib import Path

PICTURE = Path(__file__).parents[1] / "images" / "pipeline.svg"
STEPS = {
    "prepare": ("read, split and", "encode the rows"),
    "initialise": ("load the base,", "add the new head"),
    "checks": ("leaks, duplicates,", "gradients"),
    "finetune": ("train, with", "checkpoints"),
    "evaluate": ("metrics, intervals,", "report"),
    "publish": ("log runs and model", "to MLflow"),
}
WIDTH, GAP, TOP, HEIGHT = 132, 22, 96, 78
LEFT = 20
TOTAL = LEFT * 2 + len(STEPS) * WIDTH + (len(STEPS) - 1) * GAP
SANS = 'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"'


def box(x: float, y: float, width: float, height: float, fill: str, stroke: str) -> str:
    """Return a rounded rectangle."""
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{fill}" stroke="{stroke}"/>'


def text(x: float, y: float, words: str, size: int = 12, weight: str = "normal", color: str = "#334155") -> str:
    """Return centred text."""
    style = f'font-size="{size}" font-weight="{weight}" fill="{color}" text-anchor="middle" {SANS}'
    return f'<text x="{x}" y="{y}" {style}>{words}</text>'


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """Return a line with a head at its end."""
    return f'<path d="M{x1} {y1} L{x2} {y2}" stroke="#64748b" stroke-width="1.5" marker-end="url(#head)"/>'


def picture() -> str:
    """Return the drawing: the recipe above, the steps in a row, the store below."""
    middle = TOTAL / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {TOTAL} 290" role="img">',
        "<title>A recipe runs through six steps; each reads from and writes to the artifact store</title>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#64748b"/></marker></defs>',
        f'<rect width="{TOTAL}" height="290" rx="10" fill="#ffffff"/>',
        box(LEFT, 20, TOTAL - 2 * LEFT, 44, "#fef9c3", "#ca8a04"),
        text(middle, 47, "recipe.yaml: data, base model, objective, strategies, training, evaluation", 14, "600"),
    ]
    for index, (name, lines) in enumerate(STEPS.items()):
        x = LEFT + index * (WIDTH + GAP)
        center = x + WIDTH / 2
        parts += [
            box(x, TOP, WIDTH, HEIGHT, "#dbeafe", "#2563eb"),
            text(center, TOP + 26, name, 15, "600", "#1e3a8a"),
            text(center, TOP + 48, lines[0]),
            text(center, TOP + 64, lines[1]),
            arrow(center, 64, center, TOP - 2),
            arrow(center, TOP + HEIGHT, center, 212),
        ]
        if index:
            parts.append(arrow(x - GAP, TOP + HEIGHT / 2, x - 2, TOP + HEIGHT / 2))
    parts += [
        box(LEFT, 214, TOTAL - 2 * LEFT, 56, "#dcfce7", "#16a34a"),
        text(
            middle,
            238,
            "artifact store: one directory per step, named by the hash of everything that decides it",
            14,
            "600",
        ),
        text(middle, 258, "already there: verified by SHA-256 and reused. Not there, or damaged: computed."),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
