"""The report of an evaluation: JSON, pictures, and an HTML page that holds them.

Names of classes and files come from outside: they are cut, and never read as markup.
"""

from __future__ import annotations

import json
import shutil
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sightstream.images.decode import Decoded, Preprocessing, decode
from sightstream.images.limits import Limits
from sightstream.images.store import read
from sightstream.terminal import printable, shortened
from training.evaluate import CONFIDENCE_BINS, Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sightstream.models.registry import Version

WRONG, SAMPLES = 24, 20  # largest number of pictures on each sheet
_TILE = Preprocessing(112, 112, 3, aspect="pad")
_DPI = 144
_PAGE = "report.html"
# Okabe and Ito's colours, which colour-blind people tell apart.
_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#767676"
_PANELS = {
    "Loss": {"loss": "training", "val_loss": "validation"},
    "Accuracy": {"accuracy": "training", "val_accuracy": "validation"},
    "Learning rate": {"learning_rate": "learning rate"},
}


@dataclass(frozen=True)
class Picture:
    """A test image, the indices of the right and of the predicted label, and the latter's score."""

    path: str
    truth: int
    label: int
    score: float


@dataclass(frozen=True)
class _Drawing:
    """A PNG on the page; `width` is in CSS pixels."""

    title: str
    alt: str
    width: int
    base64: str


def write(
    directory: Path, title: str, evaluation: Evaluation,
    curves: Mapping[str, Sequence[float]] | None, pictures: Sequence[Picture],
    facts: Mapping[str, object], limits: Limits,
) -> Path:  # fmt: skip
    """Writes evaluation.json, PNG files, and report.html, which needs no other file.

    An earlier report in the directory is replaced. `curves` have a value for each round, by the
    names of `fit.Curves`; facts may be mappings and sequences. Without curves or pictures there are
    no files of them. Returns the path of report.html.
    """
    directory.mkdir(parents=True, exist_ok=True)
    figures = json.dumps(evaluation.as_dict(), indent=1) + "\n"
    (directory / "evaluation.json").write_text(figures, "utf-8")
    for name in ("curves.png", "wrong.png", "samples.png"):
        # This report may lack one that an earlier report in the same folder had.
        (directory / name).unlink(missing_ok=True)
    wrong = sorted((p for p in pictures if p.label != p.truth), key=lambda p: -p.score)[:WRONG]
    # At random, for every n-th would show a few classes only where the classes take turns.
    drawn = np.random.default_rng(0).permutation(len(pictures))[:SAMPLES]
    samples = [pictures[i] for i in drawn]
    drawings = list(_drawings(directory, evaluation, curves or {}, wrong, samples, limits))
    page = directory / _PAGE
    page.write_text(_page(title, evaluation, drawings, wrong, facts), "utf-8")
    return page


def keep(pages: Path, home: Path, version: Version) -> Path:
    """Moves a report to where a person looks for it, in place of an earlier one of the version.

    Returns the path of its report.html.
    """
    place = home / "reports" / version.name / str(version.number)
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    pages.rename(place)
    return place / _PAGE


def _drawings(
    directory: Path, evaluation: Evaluation, curves: Mapping[str, Sequence[float]],
    wrong: Sequence[Picture], samples: Sequence[Picture], limits: Limits,
) -> Iterator[_Drawing]:  # fmt: skip
    names = evaluation.labels
    right = sum(row[i] for i, row in enumerate(evaluation.confusion))
    alt = f"{len(names)} classes: {right:,} of {evaluation.images:,} images lie on the diagonal."
    yield _save(_confusion(evaluation), directory / "confusion.png", "Confusion matrix", alt)
    if ends := [f"{k} from {v[0]:.4g} to {v[-1]:.4g}" for k, v in curves.items() if len(v)]:
        alt = "Over the rounds: " + "; ".join(ends)
        yield _save(_curves(curves), directory / "curves.png", "Training", alt)
    alt = f"Accuracy against confidence, and a histogram of confidences; ECE {evaluation.ece:.3f}."
    yield _save(_reliability(evaluation), directory / "reliability.png", "Calibration", alt)
    if wrong:
        alt = f"The {len(wrong)} wrong answers with the highest scores; the list below names them."
        sheet = _sheet(wrong, names, limits)
        yield _save(sheet, directory / "wrong.png", "Most confidently wrong", alt)
    if samples:
        short = [shortened(name, 40) for name in names]
        alt = "; ".join(f"is {short[p.truth]}, said {short[p.label]}" for p in samples)
        sheet = _sheet(samples, names, limits)
        yield _save(sheet, directory / "samples.png", "Sample predictions", alt)


def _page(
    title: str, evaluation: Evaluation, drawings: Sequence[_Drawing], wrong: Sequence[Picture],
    facts: Mapping[str, object],
) -> str:  # fmt: skip
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # A file name may hold what cannot be written as UTF-8.
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    return environment.get_template("report.html.jinja").render(
        title=title, evaluation=evaluation, drawings=drawings, wrong=wrong, facts=facts,
        report=_classification_report(evaluation).splitlines(),
    )  # fmt: skip


def _classification_report(evaluation: Evaluation) -> str:
    """scikit-learn's report, computed from the confusion matrix."""
    from sklearn.metrics import classification_report

    confusion = np.array(evaluation.confusion)
    truth, answers = np.repeat(np.indices(confusion.shape).reshape(2, -1), confusion.ravel(), 1)
    tested = np.unique(truth)
    names = [shortened(evaluation.labels[i], 40) for i in tested]
    return str(
        classification_report(
            truth, answers, labels=tested, target_names=names, digits=4, zero_division=0
        )
    )


def _figure(width: float, height: float, *, arranged: bool = True) -> Figure:
    """A figure of a size in inches, without pyplot, which would never free it."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12) if arranged else None
    return Figure((width, height), dpi=_DPI, facecolor="white", layout=layout)


def _save(figure: Figure, path: Path, title: str, alt: str) -> _Drawing:
    import warnings

    with warnings.catch_warnings():
        # A script that Matplotlib's font lacks is drawn as boxes, one that it cannot shape letter
        # by letter; the page has the name.
        warnings.filterwarnings("ignore", "Glyph|Matplotlib currently does not", UserWarning)
        figure.savefig(path)
    width = round(figure.get_figwidth() * 96)
    return _Drawing(title, alt, width, b64encode(path.read_bytes()).decode())


def _confusion(evaluation: Evaluation) -> Figure:
    counts = np.array(evaluation.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    number, names = len(counts), [shortened(name, 28) for name in evaluation.labels]
    cell = min(max(0.36, 5 / number), 1.2, 30 / number)  # inches
    longest = max(map(len, names)) * 0.075
    rotated = longest > cell
    side = cell * number
    figure = _figure(side + longest + 0.9, side + (longest if rotated else 0.2) + 0.7)
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = max(1.0, min(11.0, cell * 21))
    for row, column in np.argwhere(counts):
        colour = "white" if shares[row, column] > 0.5 else "black"
        count = counts[row, column]
        brief = str(count) if count < 10_000 else f"{count / 1000:.0f}k"
        axes.text(column, row, brief, ha="center", va="center", fontsize=size, color=colour)
    ticks, small = range(number), max(1.0, min(9.0, cell * 24))
    axes.set_xticks(ticks, names, rotation=90 if rotated else 0, fontsize=small, parse_math=False)
    axes.set_yticks(ticks, names, fontsize=small, parse_math=False)
    axes.set(xlabel="prediction", ylabel="label")
    axes.set_xticks(np.arange(number + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(number + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#e4e4e4", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    return figure


def _curves(curves: Mapping[str, Sequence[float]]) -> Figure:
    from matplotlib.ticker import MaxNLocator

    panels = {
        name: {line: curves[key] for key, line in series.items() if len(curves.get(key, ()))}
        for name, series in _PANELS.items()
    }
    panels = {name: series for name, series in panels.items() if series}
    figure = _figure(0.6 + 4 * len(panels), 3.4)
    for place, (name, series) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(1, len(panels), place)
        styles = zip(series.items(), ((_BLUE, "-"), (_ORANGE, "--")), strict=False)
        for (label, values), (colour, style) in styles:
            rounds = range(1, len(values) + 1)
            axes.plot(rounds, values, style, color=colour, marker="o", markersize=3, label=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set(xlabel="round", xlim=(0.5, max(map(len, series.values())) + 0.5))
        axes.set_title(name, fontsize=11, loc="left")
        if len(series) > 1:
            axes.legend(frameon=False, fontsize=9)
        _plain(axes)
    return figure


def _reliability(evaluation: Evaluation) -> Figure:
    bins = evaluation.reliability
    figure = _figure(5.2, 5.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot((0, 1), (0, 1), ":", color=_GREY, label="confidence = accuracy")
    above.plot([b.confidence for b in bins], [b.accuracy for b in bins], "-o", color=_BLUE,
               markersize=4, label=f"this model, ECE {evaluation.ece:.3f}")  # fmt: skip
    above.set(ylabel="accuracy", xlim=(0, 1), ylim=(-0.02, 1.02))
    above.legend(frameon=False, fontsize=9, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    below.bar([b.lower for b in bins], [b.count for b in bins], 1 / CONFIDENCE_BINS, align="edge",
              color=_BLUE, edgecolor="white")  # fmt: skip
    below.set(xlabel="confidence, the score of the answer", ylabel="images")
    for axes in (above, below):
        _plain(axes)
    return figure


def _plain(axes: Axes) -> None:
    axes.grid(color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _sheet(pictures: Sequence[Picture], names: Sequence[str], limits: Limits) -> Figure:
    """Tiles of pictures, each with its label and the answer below; coordinates are inches."""
    columns, width, height, side = min(6, len(pictures)), 1.9, 2.05, 1.55
    rows = -(-len(pictures) // columns)
    across, down = columns * width + 0.2, rows * height + 0.1
    figure = _figure(across, down, arranged=False)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, across), ylim=(down, 0), autoscale_on=False)
    for place, picture in enumerate(pictures):
        left, top = place % columns * width + 0.2, place // columns * height + 0.15
        extent = (left, left + side, top + side, top)
        axes.imshow(_pixels(picture.path, limits), extent=extent, aspect="auto")
        right = picture.truth == picture.label
        mark, colour = ("✓", _BLUE) if right else ("✗", _ORANGE)
        answer = f"{mark} said {shortened(names[picture.label], 18)} {picture.score:.2f}"
        _write(axes, left, top + side + 0.05, f"is {shortened(names[picture.truth], 24)}")
        _write(axes, left, top + side + 0.2, answer, color=colour)
    return figure


def _pixels(path: str, limits: Limits) -> NDArray[np.uint8]:
    data = read(path, limits)
    image = decode(data, _TILE, limits) if isinstance(data, bytes) else data
    if isinstance(image, Decoded):
        return image.pixels
    return np.full((_TILE.height, _TILE.width, _TILE.channels), 190, np.uint8)


def _write(axes: Axes, left: float, top: float, text: str, **style: Any) -> None:
    """Draws text that is clipped at the end of its tile."""
    from matplotlib.transforms import Bbox, TransformedBbox

    box = TransformedBbox(Bbox([[left, top - 0.1], [left + 1.8, top + 0.3]]), axes.transData)
    drawn = axes.text(left, top, text, va="top", fontsize=8, parse_math=False, **style)
    drawn.set_clip_on(True)
    drawn.set_clip_box(box)
