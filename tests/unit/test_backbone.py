"""training.backbone: a registered model as a featuriser, found, cut, and folded with a head."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto

from sightstream.config import load
from sightstream.errors import InputError, ModelNotFoundError
from sightstream.images.decode import Preprocessing
from sightstream.models.engines import Onnx
from sightstream.models.registry import Registry
from sightstream.models.version import Card, ready, sha256, write_card
from tests.foreign import onnx_model
from training import backbone, train
from training.options import Options
from training.recipes import find

PIXELS = np.random.default_rng(1).integers(0, 256, (5, 16, 20, 3), np.uint8)
KERNEL = np.random.default_rng(2).normal(0, 3, (8, 3))
BIAS = np.array([0.1, -0.2, 0])


CARD = Card(("a", "b", "c", "d"), Preprocessing(16, 20, crop=0.9), {}, {}, 0.0)


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A registry with versions as an import writes them, and one that did not export to ONNX."""
    folder = tmp_path_factory.mktemp("models")
    made = Registry(load(home=folder / "home").registry_address)

    def publish(name, **changes):
        fixed = {"layout": "nhwc", "kind": TensorProto.UINT8, "scaled": 1 / 255} | changes
        files = folder / f"{name}-{len(made.versions(name))}"
        files.mkdir()
        (files / Onnx.file).write_bytes(onnx_model(**fixed).SerializeToString())
        register(name, files, CARD)

    def register(name, files, card):
        digest = write_card(files, card)
        made.publish(name, files, digest, parameters={}, metrics={}, curves={})

    publish("lite")
    made.promote("lite", 1)
    publish("lite")
    publish("bare", outputs=None)
    publish("nan", scaled=np.inf)
    (folder / "keras").mkdir()
    (folder / "keras" / "model.keras").write_bytes(b"a network that did not export")
    register("old", folder / "keras", replace(CARD, onnx_difference=None))
    return made


def test_a_champion_is_found_by_its_name_and_others_by_alias_and_number(registry):
    found = {which: backbone.find(registry, which) for which in ("lite", "lite@2", "lite@champion",
                                                                 "lite@challenger")}  # fmt: skip
    shown = {which: each.origin["featuriser"] for which, each in found.items()}
    assert shown == {"lite": "lite@1", "lite@2": "lite@2", "lite@champion": "lite@1",
                     "lite@challenger": "lite@2"}  # fmt: skip


def test_it_has_the_preprocessing_and_tells_its_digest(registry):
    base = backbone.find(registry, "lite")
    assert (base.preprocessing, base.width) == (CARD.preprocessing, 8)
    path = registry.version("lite").folder / Onnx.file
    assert base.origin["featuriser_sha256"] == sha256(path)


@pytest.mark.parametrize("which", ["lite@7", "lite@other", "bare", "nobody"])
def test_what_is_not_registered_is_named(registry, which):
    with pytest.raises(ModelNotFoundError):
        backbone.find(registry, which)


@pytest.mark.parametrize(
    ("which", "told"),
    [
        ("bare@1", "bare@1 cannot be a featuriser: its last layer is Tanh, not a dense one"),
        ("nan@challenger", "nan@1 cannot be a featuriser: its features are not numbers"),
        ("old@1", "old@1 has no model.onnx, so it cannot be a featuriser"),
    ],
)
def test_what_cannot_give_features_is_refused_by_its_name(registry, which, told):
    with pytest.raises(InputError, match=told):
        backbone.find(registry, which)


def test_a_folded_network_is_a_version_of_its_own(registry, tmp_path):
    base = backbone.find(registry, "lite")
    difference = base.fold(KERNEL, BIAS).export(tmp_path / "files", PIXELS)
    assert difference < 1e-6
    card = Card(("x", "y", "z"), base.preprocessing, {}, {}, difference, origin=base.origin)
    write_card(tmp_path / "files", card)
    answers = ready(tmp_path / "files", card, "cars").load()(PIXELS)
    features = Onnx(base.content)(PIXELS)
    powers = np.exp(features @ KERNEL + BIAS)
    np.testing.assert_allclose(answers, powers / powers.sum(axis=1)[:, None], atol=1e-5)
    again = backbone.again(tmp_path / "files", card)
    assert again == base


@pytest.mark.parametrize("origin", [None, {"file": "net.onnx"}])
def test_other_versions_have_no_featuriser_inside(tmp_path, origin):
    card = Card(("x", "y"), Preprocessing(16, 20), {}, {}, 0.0, origin=origin)
    assert backbone.again(tmp_path, card) is None


# What a user asks for


def chosen(registry, recipe="cars", network=None, **options):
    options = Options(recipe, network, **options)
    return train._registered(registry, find(recipe, network), options)


@pytest.mark.parametrize(
    ("recipe", "network"),
    [("cars", None), ("leaf", None), ("skin", None), ("xray", None), ("skin", "squeezenet")],
)
def test_a_registered_featuriser_takes_the_place_of_any_network(registry, recipe, network):
    base = chosen(registry, recipe, network, featuriser="lite")
    made, options = train.upon(base, find(recipe, network), Options(recipe, featuriser="lite"))
    assert (made.network, made.preprocessing) == (None, base.preprocessing)
    assert made.shares == find(recipe, network).shares
    assert options.used(made)["featuriser"] == "lite@1"


@pytest.mark.parametrize(
    "options",
    [{}, {"featuriser": "squeezenet", "weights": "w.h5"}, {"featuriser": "MobileNetV2"},
     {"featuriser": "lite", "weights": "imagenet"}],
)  # fmt: skip
def test_networks_of_keras_go_on_as_before(registry, options):
    assert chosen(registry, **options) is None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"featuriser": "lite@1", "weights": "imagenet"}, "leave --weights out"),
        ({"featuriser": "lite", "network": "cnn"}, "--network cnn learns all by itself"),
    ],
)
def test_what_contradicts_itself_is_refused(registry, options, told):
    with pytest.raises(InputError, match=told):
        chosen(registry, **options)


def test_a_name_that_is_neither_is_told_of_both():
    with pytest.raises(InputError, match=r"--weights imagenet .* the name of a registered model"):
        train._require_fitting(find("cars"), Options("cars", featuriser="lite"))
    with pytest.raises(InputError, match="takes its place where it names a registered model"):
        train._require_fitting(find("leaf"), Options("leaf", featuriser="lite"))
