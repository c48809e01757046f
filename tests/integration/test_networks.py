"""Every network of every recipe, built and sent as Elephas sends it."""

from importlib import import_module

import numpy as np
import pytest

from sightstream.models.engines import import_keras
from training import features
from training.recipes import NAMES
from training.refresh import extended

RECIPES = {
    f"{name}-{network}": recipe
    for name in NAMES
    for module in [import_module(f"training.recipes.{name}")]
    for network, recipe in {"": module.RECIPE, **getattr(module, "NETWORKS", {})}.items()
    if recipe.network
}


@pytest.fixture(scope="module")
def keras():
    return import_keras()


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_network_and_its_augmentation_survive_the_way_to_a_worker(keras, recipe):
    keras.utils.set_random_seed(1)
    shape = recipe.preprocessing.shape
    network = recipe.network(4)
    learner = keras.Sequential([keras.Input(shape, dtype="uint8"), *recipe.augmentation(), network])
    there = keras.models.model_from_json(learner.to_json())
    there.set_weights(learner.get_weights())
    pixels = np.random.default_rng(1).integers(0, 256, (3, *shape), np.uint8)
    answers = network(pixels, training=False)
    np.testing.assert_allclose(there(pixels, training=False), answers, atol=1e-6)
    np.testing.assert_allclose(np.sum(answers, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_network_with_more_outputs_answers_as_before_among_the_old_ones(keras, recipe):
    network = recipe.network(4)
    wider = extended(network, 6)
    pixels = np.random.default_rng(2).integers(0, 256, (3, *recipe.preprocessing.shape), np.uint8)
    before, after = (np.asarray(n(pixels, training=False)) for n in (network, wider))
    assert after.shape == (3, 6)
    among = after[:, :4] / after[:, :4].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(among, before, atol=1e-5)


def test_features_and_a_linear_head_fold_into_one_network(keras, tmp_path):
    keras.utils.set_random_seed(3)
    weights = tmp_path / "random.weights.h5"
    features._squeezenet((64, 64, 3))[0].save_weights(weights)
    base = features.featuriser("squeezenet", str(weights), (64, 64, 3))
    pixels = np.random.default_rng(3).integers(0, 256, (2, 64, 64, 3), np.uint8)
    found = np.asarray(base(pixels))
    assert found.shape == (2, 2 * (256 + 256 + 384 + 384 + 512 + 512))
    head = features.linear(found.shape[1], 3, (found.mean(axis=0), found.var(axis=0)))
    folded = features.fold(base, head)
    np.testing.assert_allclose(folded(pixels), head(found), atol=1e-6)
    assert features.base(folded) is base


def test_the_channels_and_the_mean_are_those_of_the_pretrained_network(keras):
    preprocess = keras.applications.imagenet_utils.preprocess_input
    layer = features._as_layer(preprocess, {"mode": "caffe"})
    pixels = np.random.default_rng(4).uniform(0, 255, (2, 5, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(layer(pixels), preprocess(pixels.copy(), mode="caffe"), atol=1e-3)
