"""A real model, made in milliseconds and without TensorFlow: bright or dark, by the mean pixel."""

import numpy as np
from PIL import Image

from sightstream.images.decode import Preprocessing
from sightstream.models.engines import Onnx
from sightstream.models.registry import Registry
from sightstream.models.version import Card, write_card

LABELS = ("bright", "dark", "grey")
PREPROCESSING = Preprocessing(8, 8)


def onnx_bytes():
    """uint8 (n, 8, 8, 3) to probabilities; the farther the mean from a label's own, the lower."""
    from onnx import TensorProto, helper, numpy_helper

    means = numpy_helper.from_array(np.array([[255.0, 0.0, 128.0]], np.float32), "means")
    scale = numpy_helper.from_array(np.array([-0.1], np.float32), "scale")
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"]),
        helper.make_node("ReduceMean", ["flat", "axes"], ["mean"]),
        helper.make_node("Sub", ["mean", "means"], ["difference"]),
        helper.make_node("Abs", ["difference"], ["distance"]),
        helper.make_node("Mul", ["distance", "scale"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["answer"], axis=1),
    ]
    graph = helper.make_graph(
        nodes, "brightness",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", 8, 8, 3])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["n", 3])],
        [means, scale, axes],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return made.SerializeToString()


def write_version(folder, labels=LABELS):
    """Writes a version's files; returns the SHA-256 of its card."""
    folder.mkdir(parents=True)
    (folder / Onnx.file).write_bytes(onnx_bytes())
    return write_card(folder, Card(labels, PREPROCESSING, {"accuracy": 1.0}, {}, 0.0))


def register(settings, name, folder):
    """Registers such a version under a name, and makes it the champion."""
    registry, digest = Registry(settings.registry_address), write_version(folder)
    made = registry.publish(name, folder, digest, parameters={}, metrics={}, curves={})
    return registry.promote(name, made.number)


def photograph(path, brightness):
    """Writes an image of one grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 24), (brightness,) * 3).save(path)
    return path
