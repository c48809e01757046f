"""training.fit: rounds with a network that stands in for Keras', and workers for Elephas'."""

from types import SimpleNamespace

import numpy as np
import pytest

from training import fit
from training.fit import Curves, Rounds


class Network:
    """Weights that are the number of passes made."""

    def __init__(self):
        self.weights = 0

    def get_weights(self):
        return self.weights

    def set_weights(self, weights):
        self.weights = weights


class Callbacks:
    """Records when it is called, and halves the rate after each round."""

    def __init__(self, learner, stop_after=None):
        self.learner, self.stop_after, self.calls = learner, stop_after, []

    def on_train_begin(self):
        self.calls.append("train")
        self.learner.stop_training = True  # which the training takes back, as Keras does

    def on_epoch_begin(self, number):
        self.calls.append(("begin", number))

    def on_epoch_end(self, number, logs):
        self.calls.append(("end", number, logs["val_accuracy"]))
        self.learner.optimizer.learning_rate /= 2
        self.learner.stop_training = number == self.stop_after


class Training:
    """A training whose rounds reach these accuracies; an exception among them is raised."""

    def __init__(self, *accuracies, losses=None, stop_after=None):
        self.accuracies = iter(accuracies)
        self.losses = iter(losses or [1 - a if isinstance(a, float) else 0 for a in accuracies])
        self.network, self.passes, self.seen = Network(), [], []
        learner = SimpleNamespace(optimizer=SimpleNamespace(learning_rate=0.8))
        self.callbacks = Callbacks(learner, stop_after)
        self.rounds = Rounds(self.network, learner, self.callbacks, self.train, self.validate)

    def train(self, start, passes):
        self.passes.append((start, passes))
        self.network.weights = start + passes
        return {"loss": 1.0 / (start + passes), "accuracy": 0.5}

    def validate(self):
        accuracy, loss = next(self.accuracies), next(self.losses)
        if isinstance(accuracy, BaseException):
            raise accuracy
        return {"val_accuracy": accuracy, "val_loss": loss}

    def run(self, epochs, passes=1):
        return self.rounds.run(epochs, passes, lambda done, curves: self.seen.append(done))


def test_a_round_makes_its_passes_and_the_last_one_those_that_are_left():
    training = Training(0.1, 0.2, 0.3)
    training.run(epochs=7, passes=3)
    assert training.passes == [(0, 3), (3, 3), (6, 1)]
    assert training.seen == [3, 6, 7]


def test_the_curves_have_a_value_for_each_round():
    curves = Training(0.1, 0.2).run(epochs=2)
    assert curves == Curves([1.0, 0.5], [0.5, 0.5], [0.9, 0.8], [0.1, 0.2], [0.8, 0.4])


def test_the_network_is_left_with_the_weights_of_its_best_round():
    training = Training(0.5, 0.9, 0.7)
    training.run(epochs=3)
    assert training.network.weights == 2


def test_of_equal_accuracies_the_lower_loss_is_the_better_and_of_equal_losses_the_later():
    training = Training(0.9, 0.9, 0.9, 0.9, losses=[0.4, 0.3, 0.3, 0.5])
    training.run(epochs=4)
    assert training.network.weights == 3


def test_a_training_that_never_answers_with_numbers_keeps_its_first_weights():
    nan = float("nan")
    training = Training(nan, nan, losses=[nan, nan])
    training.run(epochs=2)
    assert training.network.weights == 0


def test_callbacks_act_around_each_round_and_the_rate_is_the_one_that_was_trained_with():
    training = Training(0.1, 0.2)
    curves = training.run(epochs=2)
    assert training.callbacks.calls == [
        "train", ("begin", 0), ("end", 0, 0.1), ("begin", 1), ("end", 1, 0.2)
    ]  # fmt: skip
    assert curves.learning_rate == [0.8, 0.4]


def test_a_callback_may_stop_the_training_after_a_round():
    training = Training(0.1, 0.2, 0.3, stop_after=1)
    training.run(epochs=3)
    assert training.seen == [1, 2]
    assert training.network.weights == 2


def test_ctrl_c_keeps_the_best_of_the_rounds_before():
    training = Training(0.8, 0.6, KeyboardInterrupt())
    curves = training.run(epochs=5)
    assert len(curves.loss) == 2
    assert training.network.weights == 1


def test_ctrl_c_in_the_first_round_ends_the_training():
    with pytest.raises(KeyboardInterrupt):
        Training(KeyboardInterrupt()).run(epochs=5)


def test_another_error_ends_the_training_too():
    with pytest.raises(ValueError, match="broken"):
        Training(0.8, ValueError("broken")).run(epochs=5)


def test_the_logs_of_a_round_are_the_means_of_the_workers_last_passes():
    histories = [{"loss": [9.0, 1.0], "accuracy": [0.0, 0.5]}, {"loss": [3.0], "accuracy": [1.0]}]
    assert fit._means(histories) == {"loss": 2.0, "accuracy": 0.75}


def test_workers_without_a_history_leave_a_gap_in_the_curves():
    assert np.isnan([*fit._means([]).values()]).all()


def test_smoothed_targets_are_probabilities_with_the_right_label_first():
    np.testing.assert_allclose(fit._targets(4, 0.2)[1], [0.05, 0.85, 0.05, 0.05], rtol=1e-6)
    np.testing.assert_array_equal(fit._targets(3, 0.0), np.eye(3))
    assert fit._targets(4, 0.1).dtype == np.float32
