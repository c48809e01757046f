"""Evaluation of a model on images that it was not trained on; `report` draws it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightstream.errors import InputError

CONFIDENCE_BINS = 15  # of equal width, as in Guo et al. 2017, arXiv:1706.04599


@dataclass(frozen=True)
class Average:
    """Figures over classes, each from 0 to 1."""

    precision: float
    recall: float
    f1: float
    fpr: float  # false positive rate


@dataclass(frozen=True)
class ClassFigures:
    """One class against all others; a figure that divides by zero is 0."""

    label: str
    precision: float
    recall: float
    f1: float
    fpr: float
    support: int  # test images of the class


@dataclass(frozen=True)
class Bin:
    """The images whose best score is in (lower, lower + 1 / CONFIDENCE_BINS]; at least one."""

    lower: float
    confidence: float
    accuracy: float
    count: int


@dataclass(frozen=True)
class Evaluation:
    """Figures of a model on test images; all fractions are from 0 to 1."""

    labels: tuple[str, ...]  # in the order of the network's outputs
    images: int
    accuracy: float
    top3_accuracy: float  # of the three highest scores; 1 up to 3 classes
    ece: float  # expected calibration error, the mean distance of confidence and accuracy
    macro: Average  # of the classes that have test images
    weighted: Average  # with the classes' support
    classes: tuple[ClassFigures, ...]
    reliability: tuple[Bin, ...]  # those that hold an image, by confidence
    confusion: tuple[tuple[int, ...], ...]  # images of class (row) predicted as class (column)

    def metrics(self) -> dict[str, float]:
        """The main figures, flat, as MLflow keeps them."""
        averages = {"macro": self.macro, "weighted": self.weighted}
        return {
            "accuracy": self.accuracy,
            **{f"{k}_{kind}": v for kind, each in averages.items() for k, v in vars(each).items()},
            "top3_accuracy": self.top3_accuracy,
            "ece": self.ece,
            "test_images": float(self.images),
        }

    def as_dict(self) -> dict[str, Any]:
        """All figures, for JSON."""
        return asdict(self)


def evaluate(
    probabilities: NDArray[np.float32], truth: NDArray[np.int64], labels: Sequence[str]
) -> Evaluation:
    """Compares a network's probabilities (n, labels) with the indices of the right labels (n,).

    Raises:
        InputError: there are no images, or a probability is not a number.
    """
    from sklearn.metrics import (
        accuracy_score,
        confusion_matrix,
        precision_recall_fscore_support,
        top_k_accuracy_score,
    )

    if not len(truth):
        raise InputError("there is no test image to evaluate on; give more images of each class")
    if not np.isfinite(probabilities).all():
        raise InputError(
            "the network answers with scores that are not numbers: its training diverged; "
            "lower the learning rate"
        )
    answers, every = probabilities.argmax(axis=1), np.arange(len(labels))
    *figures, support = precision_recall_fscore_support(
        truth, answers, labels=every, average=None, zero_division=0
    )
    confusion = confusion_matrix(truth, answers, labels=every)
    wrong = confusion.sum(axis=0) - confusion.diagonal()
    rows = np.array([*figures, wrong / np.maximum(len(truth) - support, 1)])
    top3 = 1.0  # scikit-learn warns, and takes two classes in another shape only
    if len(labels) > 3:
        top3 = float(top_k_accuracy_score(truth, probabilities, k=3, labels=every))
    reliability = _reliability(probabilities.max(axis=1), answers == truth)
    return Evaluation(
        labels=tuple(labels),
        images=len(truth),
        accuracy=float(accuracy_score(truth, answers)),
        top3_accuracy=top3,
        ece=sum(b.count * abs(b.accuracy - b.confidence) for b in reliability) / len(truth),
        # A class that could not be tested must not pull the mean down.
        macro=Average(*rows[:, support > 0].mean(axis=1).tolist()),
        weighted=Average(*np.average(rows, axis=1, weights=support).tolist()),
        classes=tuple(
            ClassFigures(label, *column, support=images)  # type: ignore[misc]
            for label, column, images in zip(labels, rows.T.tolist(), support.tolist(), strict=True)
        ),
        reliability=reliability,
        confusion=tuple(map(tuple, confusion.tolist())),
    )


def _reliability(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> tuple[Bin, ...]:
    edges = np.linspace(0, 1, CONFIDENCE_BINS + 1)
    index = np.searchsorted(edges[1:-1], confidence)
    counts = np.bincount(index, minlength=CONFIDENCE_BINS)
    confidences, rights = (
        np.bincount(index, of, minlength=CONFIDENCE_BINS) for of in (confidence, right)
    )
    return tuple(
        Bin(float(edges[i]), float(confidences[i] / count), float(rights[i] / count), int(count))
        for i, count in enumerate(counts)
        if count
    )
