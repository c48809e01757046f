"""What a model is worth, on images that its training never saw."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def metrics(probabilities: NDArray[np.float32], truth: NDArray[np.int64]) -> dict[str, float]:
    """Accuracy and the macro averages of precision, recall and F1.

    Args:
        probabilities: (n, labels).
        truth: the indices of the right labels, (n,).
    """
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    answers = probabilities.argmax(axis=1)
    precision, recall, f1, _ = precision_recall_fscore_support(
        truth, answers, average="macro", zero_division=0
    )
    return {
        "accuracy": float(accuracy_score(truth, answers)),
        "precision_macro": float(precision),
        "recall_macro": float(recall),
        "f1_macro": float(f1),
        "test_images": float(len(truth)),
    }
