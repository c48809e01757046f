"""evaluate: the figures are those one works out by hand, and scikit-learn's."""

import json

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_fscore_support, top_k_accuracy_score

from sightstream.errors import InputError
from training.evaluate import CONFIDENCE_BINS, evaluate

LABELS = ("ant", "bee", "cat", "dog")
TRUTH = np.array([0, 0, 0, 1, 1, 2])
ANSWERS = np.array([0, 0, 1, 1, 1, 0])


def scores(answers, of_the_answer, labels):
    """Probabilities with the answers' scores as given, the rest shared by the other labels."""
    best = np.broadcast_to(of_the_answer, len(answers))
    others = ((1 - best) / (labels - 1))[:, None]
    made = np.repeat(others, labels, axis=1)
    made[np.arange(len(answers)), answers] = best
    return made.astype(np.float32)


def small():
    """Nobody tested dog."""
    return evaluate(scores(ANSWERS, 0.7, 4), TRUTH, LABELS)


def random_answers(seed, labels, images=500):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(labels, 0.3), images).astype(np.float32)
    return probabilities, rng.integers(0, labels, images)


def test_accuracy_is_the_share_of_right_answers():
    assert small().accuracy == pytest.approx(4 / 6)
    assert small().images == 6


@pytest.mark.parametrize(
    ("label", "precision", "recall", "f1", "fpr", "support"),
    [("ant", 2 / 3, 2 / 3, 2 / 3, 1 / 3, 3), ("bee", 2 / 3, 1, 0.8, 1 / 4, 2),
     ("cat", 0, 0, 0, 0, 1), ("dog", 0, 0, 0, 0, 0)],
)  # fmt: skip
def test_each_class_against_all_others(label, precision, recall, f1, fpr, support):
    made = small().classes[LABELS.index(label)]
    figures = (made.precision, made.recall, made.f1, made.fpr)
    assert figures == pytest.approx((precision, recall, f1, fpr))
    assert (made.label, made.support) == (label, support)


def test_a_class_without_images_is_not_in_the_mean_of_the_classes():
    macro = small().macro
    assert (macro.precision, macro.recall) == pytest.approx((4 / 9, 5 / 9))
    assert (macro.f1, macro.fpr) == pytest.approx(((2 / 3 + 0.8) / 3, 7 / 36))


def test_the_weighted_mean_counts_images():
    weighted = small().weighted
    assert (weighted.precision, weighted.recall) == pytest.approx((5 / 9, 4 / 6))
    assert (weighted.f1, weighted.fpr) == pytest.approx((0.6, 0.25))


def test_the_confusion_matrix_has_a_row_for_each_label():
    assert small().confusion == ((2, 1, 0, 0), (0, 2, 0, 0), (1, 0, 0, 0), (0, 0, 0, 0))


def test_an_answer_of_a_class_without_images_is_a_false_positive():
    made = evaluate(scores(np.array([3, 0, 1, 1]), 0.9, 4), np.array([0, 0, 1, 1]), LABELS)
    assert made.classes[3].fpr == 0.25
    assert made.macro.recall == pytest.approx(0.75)


def test_images_of_one_class_only():
    made = evaluate(scores(np.array([1, 1, 0]), 0.9, 2), np.array([1, 1, 1]), ("no", "yes"))
    assert made.accuracy == made.macro.recall == pytest.approx(2 / 3)
    assert made.classes[1].fpr == 0  # there is nothing to mistake for it
    assert made.classes[0].fpr == pytest.approx(1 / 3)


@pytest.mark.parametrize("labels", [2, 3, 4, 38])
def test_the_averages_are_those_of_scikit_learn(labels):
    probabilities, truth = random_answers(labels, labels)
    made = evaluate(probabilities, truth, [str(n) for n in range(labels)])
    for kind in ("macro", "weighted"):
        theirs = precision_recall_fscore_support(
            truth, probabilities.argmax(axis=1), average=kind, zero_division=0
        )
        ours = getattr(made, kind)
        assert (ours.precision, ours.recall, ours.f1) == pytest.approx(theirs[:3])


def test_top_3_accuracy_is_that_of_scikit_learn():
    probabilities, truth = random_answers(1, 9)
    made = evaluate(probabilities, truth, [str(n) for n in range(9)])
    assert made.top3_accuracy == pytest.approx(top_k_accuracy_score(truth, probabilities, k=3))
    assert made.accuracy < made.top3_accuracy < 1


@pytest.mark.parametrize("labels", [2, 3])
def test_among_three_classes_the_right_one_is_in_the_top_3(labels):
    probabilities, truth = random_answers(1, labels)
    assert evaluate(probabilities, truth, LABELS[:labels]).top3_accuracy == 1


def test_the_calibration_error_is_the_mean_distance_of_confidence_and_accuracy():
    probabilities = scores(np.zeros(4, int), np.array([0.9, 0.9, 0.7, 0.7]), 2)
    made = evaluate(probabilities, np.array([0, 1, 0, 0]), ("no", "yes"))
    assert made.ece == pytest.approx((2 * 0.4 + 2 * 0.3) / 4)


def test_the_reliability_curve_is_that_of_scikit_learn():
    probabilities, truth = random_answers(2, 9)
    right = probabilities.argmax(axis=1) == truth
    accuracy, confidence = calibration_curve(
        right, probabilities.max(axis=1), n_bins=CONFIDENCE_BINS
    )
    made = evaluate(probabilities, truth, [str(n) for n in range(9)]).reliability
    assert [b.accuracy for b in made] == pytest.approx(accuracy.tolist())
    assert [b.confidence for b in made] == pytest.approx(confidence.tolist())
    assert sum(b.count for b in made) == 500
    assert all(b.lower < b.confidence <= b.lower + 1 / CONFIDENCE_BINS for b in made)


def test_certainty_is_in_the_last_bin():
    (only,) = evaluate(scores(TRUTH, 1.0, 4), TRUTH, LABELS).reliability
    assert (only.lower, only.confidence, only.accuracy) == pytest.approx((14 / 15, 1, 1))
    assert only.count == 6


def test_the_metrics_are_flat_numbers():
    metrics = small().metrics()
    averages = {
        f"{f}_{k}" for f in ("precision", "recall", "f1", "fpr") for k in ("macro", "weighted")
    }
    assert metrics.keys() == averages | {"accuracy", "top3_accuracy", "ece", "test_images"}
    assert {type(value) for value in metrics.values()} == {float}
    assert (metrics["f1_weighted"], metrics["test_images"]) == (pytest.approx(0.6), 6)


def test_all_figures_survive_json():
    made = evaluate(scores(ANSWERS, 0.7, 4), TRUTH, ("ant", "b\ne", "caf\udce9", "<dog>"))
    read = json.loads(json.dumps(made.as_dict(), allow_nan=False))
    assert read["labels"] == ["ant", "b\ne", "caf\udce9", "<dog>"]
    assert read["confusion"] == [[2, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert read["macro"] == vars(made.macro)
    assert read["classes"][1] == vars(made.classes[1])
    assert read["reliability"] == [vars(b) for b in made.reliability]
    assert (read["accuracy"], read["ece"], read["images"]) == (made.accuracy, made.ece, 6)


def test_without_images_the_error_says_what_to_do():
    with pytest.raises(InputError, match=r"no test image.*give more images of each class"):
        evaluate(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), LABELS)


def test_a_network_that_diverged_is_not_evaluated():
    probabilities = scores(ANSWERS, 0.7, 4)
    probabilities[2] = np.nan
    with pytest.raises(InputError, match="lower the learning rate"):
        evaluate(probabilities, TRUTH, LABELS)
