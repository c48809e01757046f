"""version: checksums, the two engines, and what is refused before it serves."""

import gc
import json
import shutil
import sys

import numpy as np
import pytest

from sightstream.errors import ModelDamagedError
from sightstream.images.decode import Preprocessing, decode
from sightstream.images.limits import Limits
from sightstream.models.engines import import_keras
from sightstream.models.registry import Registry
from sightstream.models.version import CARD_FILE, ServedModel, export, read_card
from sightstream.models.version import serve as served

TINY = Preprocessing(2, 1, 1)


@pytest.fixture(scope="module")
def version(new_home):
    return Registry(new_home().settings.registry_address).version("starter")


@pytest.fixture
def files(version, tmp_path):
    """A copy of the version's files, to be damaged."""
    return shutil.copytree(version.source.removeprefix("file://"), tmp_path / "files")


@pytest.fixture
def serve(version, files):
    return lambda engine="auto": served(files, "starter", 1, version.digest, engine)


def onnx_model(*nodes, inputs=2, outputs=2):
    """A graph from the pixels of `TINY`, flattened to floats as `flat`, to `answer`."""
    from onnx import TensorProto, checker, helper

    first = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"]),
    ]
    graph = helper.make_graph(
        [*first, *nodes],
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", inputs, 1, 1])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["n", outputs])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    return model.SerializeToString()


def tiny(content, labels=("a", "b")):
    return ServedModel("tiny", 1, labels, TINY, "onnx", content)


def node(*arguments):
    from onnx import helper

    return helper.make_node(*arguments)


def test_both_engines_agree(serve, starter):
    onnx, keras = serve("onnx"), serve("keras")
    decoded = [
        decode(digit.read_bytes(), onnx.preprocessing, Limits()) for digit in starter.digits[::20]
    ]
    pixels = np.stack([image.pixels for image in decoded])
    difference = np.abs(onnx.load()(pixels) - keras.load()(pixels))
    assert difference.shape == (len(pixels), 10)
    assert difference.max() <= 1e-4


@pytest.mark.parametrize("told", [True, False], ids=["told", "adapted"])
def test_layers_that_hold_tensors_are_exported(told, tmp_path):
    """As those of EfficientNet, whose Normalization knows its mean, or has learnt it."""
    keras = import_keras()
    pixels = np.random.default_rng(0).integers(0, 256, (5, 2, 1, 1), dtype=np.uint8)
    given = {"mean": [100.0], "variance": [400.0]} if told else {}
    scaling = keras.layers.Normalization(**given)
    if not told:
        scaling.adapt(pixels.astype(np.float32))
    inner = keras.Sequential([keras.Input((2, 1, 1)), scaling, keras.layers.Flatten()])
    network = keras.Sequential(
        [keras.Input((2, 1, 1), dtype="uint8"), inner, keras.layers.Dense(2, "softmax")]
    )
    assert export(tmp_path, network, pixels) < 1e-4
    assert network.predict(pixels, verbose=0).shape == (5, 2)


def test_auto_takes_onnx_where_it_agrees(serve):
    assert serve("auto").engine == "onnx"


@pytest.mark.parametrize("name", ["model.keras", "model.onnx", "version.json"])
def test_a_flipped_byte_is_found_and_its_file_named(files, serve, name):
    content = bytearray((files / name).read_bytes())
    content[len(content) // 2] ^= 1
    (files / name).write_bytes(content)
    with pytest.raises(ModelDamagedError, match=rf"{name} is not the file that was registered"):
        serve()


@pytest.mark.parametrize("name", ["model.keras", "model.onnx", "version.json"])
def test_a_missing_file_is_named(files, serve, name):
    (files / name).unlink()
    with pytest.raises(ModelDamagedError, match=rf"{name} cannot be read: No such file"):
        serve()


def test_a_lambda_layer_is_refused(tmp_path):
    keras = import_keras()
    network = keras.Sequential(
        [
            keras.Input((2, 1, 1), dtype="uint8"),
            keras.layers.Flatten(),
            keras.layers.Lambda(lambda x: x / 0),
        ]
    )
    network.save(tmp_path / "model.keras")
    content = (tmp_path / "model.keras").read_bytes()
    served = ServedModel("tiny", 1, ("a", "b"), TINY, "keras", content)
    with pytest.raises(ModelDamagedError, match=r"tiny version 1 does not run: .*[Ll]ambda"):
        served.check()


def test_keras_is_imported_without_hiding_anything_for_long_contract():
    """Keras imports without these two packages, and both can be imported afterwards."""
    hidden = {name: sys.modules.get(name, "absent") for name in ("matplotlib", "sklearn")}
    assert import_keras().saving.load_model
    assert None not in hidden.values()
    assert None not in [sys.modules.get(name, "absent") for name in hidden]
    assert gc.isenabled()


def test_a_softmax_is_accepted():
    served = tiny(onnx_model(node("Softmax", ["flat"], ["answer"])))
    assert served.check() is None
    assert served.load()(np.zeros((3, 2, 1, 1), np.uint8)).tolist() == [[0.5, 0.5]] * 3


def test_an_answer_for_another_number_of_labels_is_refused():
    served = tiny(onnx_model(node("Softmax", ["flat"], ["answer"])), labels=("a", "b", "c"))
    with pytest.raises(ModelDamagedError, match=r"answers with shape \(1, 2\) for 3 labels"):
        served.check()


def test_nan_is_refused():
    zero = [node("Sub", ["flat", "flat"], ["zero"]), node("Div", ["zero", "zero"], ["answer"])]
    with pytest.raises(ModelDamagedError, match="does not answer with probabilities"):
        tiny(onnx_model(*zero)).check()


def test_scores_that_are_no_probabilities_are_refused():
    with pytest.raises(ModelDamagedError, match="does not answer with probabilities"):
        tiny(onnx_model(node("Identity", ["flat"], ["answer"]))).check()


def test_a_model_for_another_size_of_image_is_refused():
    with pytest.raises(ModelDamagedError, match="tiny version 1 does not run"):
        tiny(onnx_model(node("Softmax", ["flat"], ["answer"]), inputs=5, outputs=5)).check()


def test_what_is_no_model_is_refused():
    with pytest.raises(ModelDamagedError, match="tiny version 1 does not run"):
        tiny(b"no model").check()


CARD = {
    "labels": ["a", "b"], "preprocessing": {"height": 8, "width": 8}, "metrics": {},
    "training": {}, "checksums": {},
}  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"labels": "ab"}, {"labels": []}, {"labels": [1, 2]}, {"labels": [None, "b"]},
        {"labels": ["\ud800", "b"]}, {"labels": ["", "b"]}, {"labels": [["a"], "b"]},
        {"labels": {"a": 1, "b": 2}}, {"checksums": ["model.onnx"]}, {"checksums": "x"},
        {"checksums": {"model.onnx": 3}}, {"metrics": []}, {"training": None}, {"origin": 3},
        {"onnx_difference": "0"}, {"preprocessing": {"height": 8, "width": 8, "crop": "1"}},
        {"reference": {"edges": {}, "counts": {"label": [1, 2, 3]}}},
        {"reference": {"edges": {"size": [1.5]}, "counts": {"size": [1]}}},
    ],
    ids=str,
)  # fmt: skip
def test_a_card_that_rows_could_not_hold_is_refused_before_it_is_served(tmp_path, wrong):
    card = tmp_path / CARD_FILE
    card.write_text(json.dumps(CARD))
    assert read_card(tmp_path).labels == ("a", "b")
    card.write_text(json.dumps(CARD | wrong))
    with pytest.raises(ModelDamagedError, match=rf"^{card} does not describe a version: "):
        read_card(tmp_path)
