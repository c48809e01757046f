"""Writes the table in docs/metrics.md from the code: `python -m streaming.observe.docs`."""

from pathlib import Path

from streaming.observe.definitions import METRICS

FILE = Path(__file__).parents[2] / "docs" / "metrics.md"


def page() -> str:
    """The page as Markdown: the file's text up to its table, and a row for each metric."""
    text, rule, _ = FILE.read_text().partition("|---|---|---|---|\n")
    lines = []
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.full_name}` | {metric.kind} | {labels} | {metric.help} |\n")
    return text + rule + "".join(sorted(lines))


if __name__ == "__main__":
    FILE.write_text(page())
