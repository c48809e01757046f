"""Drift: what is told of pixels, and how far the images of today are from those of the training."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from sightstream.models import drift
from sightstream.models.drift import Reference, Window, psi, statistics


def images(value, count=3, shape=(8, 8, 3)):
    return np.full((count, *shape), value, np.uint8)


@pytest.fixture
def random():
    return np.random.default_rng(5)


class TestStatistics:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_of_one_grey_only_its_brightness_is_more_than_zero(self, channels):
        found = statistics(images(51, shape=(20, 30, channels)))
        assert found.dtype == np.float32
        assert found == pytest.approx(np.array([[0.2, 0, 0]] * 3), abs=1e-3)

    def test_colours_are_as_bright_as_they_look(self):
        pure = np.zeros((3, 4, 4, 3), np.uint8)
        for channel in range(3):
            pure[channel, ..., channel] = 255
        assert statistics(pure)[:, 0] == pytest.approx([0.299, 0.587, 0.114], abs=6e-3)

    def test_stripes_are_sharp_and_full_of_contrast(self):
        stripes = images(0, shape=(8, 8, 1))
        stripes[:, :, ::2] = 255
        assert statistics(stripes)[0] == pytest.approx([0.5, 0.5, 1])

    def test_a_blurred_image_is_less_sharp(self, random):
        noise = random.integers(0, 256, (1, 40, 40, 1), np.uint8)
        blurred = (noise[:, :, 1:].astype(int) + noise[:, :, :-1]) // 2
        assert statistics(blurred.astype(np.uint8))[0, 2] < 0.8 * statistics(noise)[0, 2]

    def test_a_single_pixel_will_do(self):
        assert statistics(images(255, 1, (1, 1, 3)))[0] == pytest.approx([1, 0, 0], abs=1e-3)

    def test_an_image_answers_the_same_in_any_company(self, random):
        many = random.integers(0, 256, (5, 50, 60, 3), np.uint8)
        alone = np.concatenate([statistics(many[i : i + 1]) for i in range(5)])
        assert statistics(many) == pytest.approx(alone, rel=1e-5)


class TestPsi:
    def test_the_same_shares_are_no_drift(self):
        assert psi(np.array([100, 200]), np.array([1000, 2000])) == pytest.approx(0, abs=1e-4)

    def test_it_is_the_documented_sum(self):
        e, a = np.array([0.5, 0.5]), np.array([0.9, 0.1])
        expected = ((a - e) * np.log(a / e)).sum()
        assert psi(1e6 * e, 1e6 * a) == pytest.approx(expected, rel=1e-4)

    def test_an_empty_bin_is_no_infinity(self):
        assert 1 < psi(np.array([1000, 0]), np.array([0, 1000])) < 20


class TestReference:
    def test_bins_hold_equal_shares_and_none_is_beyond(self, random):
        reference = Reference.of({"score": random.random(1000).astype(np.float32)}, {})
        assert reference.counts["score"] == (0, *[100] * drift.BINS, 0)

    def test_one_value_for_all_still_tells_smaller_from_larger(self):
        reference = Reference.of({"size": np.full(50, 64, np.float32)}, {})
        assert reference.counts["size"] == (0, 50, 0)
        sizes = np.array([63, 64, 65], np.float32)
        assert reference.binned("size", sizes).tolist() == [1, 1, 1]

    def test_it_goes_through_json(self, random):
        before = Reference.of({"size": random.random(99)}, {"label": [3, 4]})
        assert Reference.from_json(json.loads(json.dumps(asdict(before)))) == before

    @pytest.mark.parametrize(
        "wrong",
        [
            [],
            {"edges": {}},
            {"edges": [], "counts": {}},
            {"edges": {"size": 3}, "counts": {}},
            {"edges": {"size": ["x"]}, "counts": {"size": [1, 2]}},
            {"edges": {"size": [0.5]}, "counts": {"size": [1]}},
            {"edges": {"size": [0.5]}, "counts": {"label": [1]}},
            {"edges": {}, "counts": {"size": [1, 2]}},
            {"edges": {}, "counts": {"label": [None]}},
            {"edges": {}, "counts": {"label": [float("inf")]}},
        ],
    )
    def test_json_that_images_cannot_be_compared_with_is_refused(self, wrong):
        with pytest.raises((ArithmeticError, AttributeError, KeyError, TypeError, ValueError)):
            Reference.from_json(wrong)


class TestWindow:
    @pytest.fixture
    def window(self, random):
        brightness = random.random(2000)
        return Window(Reference.of({"brightness": brightness}, {"label": [1000, 1000]}))

    def test_few_images_say_nothing(self, window, random):
        window.add("brightness", random.random(drift.FEWEST - 1))
        assert window.psi() == {}

    def test_images_of_the_same_kind_do_not_drift(self, window, random):
        window.add("brightness", random.random(1000))
        window.add("label", random.integers(0, 2, 1000))
        assert window.psi().keys() == {"brightness", "label"}
        assert max(window.psi().values()) < 0.1

    def test_darker_images_and_other_labels_do(self, window, random):
        window.add("brightness", 0.5 * random.random(1000))
        window.add("label", np.zeros(1000, int))
        assert min(window.psi().values()) > 0.25

    def test_what_was_long_ago_is_forgotten(self, window, random):
        for _ in range(10):
            window.add("brightness", 0.5 * random.random(100))
        assert window.psi()["brightness"] > 0.25
        for _ in range(drift.WINDOW // 100):
            window.add("brightness", random.random(100))
        assert window.psi()["brightness"] < 0.1

    def test_many_categories_ask_for_many_images(self, random):
        window = Window(Reference.of({}, {"label": [10] * 500}))
        window.add("label", random.integers(0, 500, 9_999))
        assert window.psi() == {}
        window.add("label", random.integers(0, 500, 1))
        assert window.psi()["label"] < 0.25

    def test_what_the_reference_does_not_know_is_left_out(self, window):
        window.add("colour", np.ones(1000))
        assert window.psi() == {}
