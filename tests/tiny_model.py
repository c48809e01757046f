"""A real model, made in milliseconds and without TensorFlow: bright or dark, by the mean pixel."""

import numpy as np
import psutil
from PIL import Image

from sightstream.images.decode import Preprocessing
from sightstream.models.engines import Onnx
from sightstream.models.registry import Registry
from sightstream.models.version import Card, write_card

LABELS = ("bright", "dark", "grey")
PREPROCESSING = Preprocessing(8, 8)


def onnx_bytes(side=8, fault="", means=(255.0, 0.0, 128.0), grey=128.0):
    """uint8 (n, side, side, 3) to probabilities; the farther the mean from a label's, the lower.

    With a fault (raises, hangs, drags, eats, nans), it has it for all images whose mean is not
    `grey`.
    """
    from onnx import TensorProto, helper, numpy_helper

    centres = numpy_helper.from_array(np.array([means], np.float32), "means")
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
    constants = [centres, scale, axes]
    if fault:
        more, also = _faulty(fault, grey)
        nodes, constants = [*nodes[:-1], *more], [*constants, *also]
    graph = helper.make_graph(
        nodes, "brightness",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", side, side, 3])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["n", len(means)])],
        constants,
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return made.SerializeToString()


def _faulty(fault, grey):
    """Nodes that make `answer` of `logits`, and have a fault where a mean is not grey."""
    from onnx import TensorProto, helper, numpy_helper

    def constant(name, values, kind):
        return numpy_helper.from_array(np.array(values, kind), name)

    constants = [
        constant("grey", [grey], np.float32), constant("nought", [0.0], np.float32),
        constant("much", [2**17 if fault == "drags" else 2**40], np.int64),
    ]  # fmt: skip
    nodes = [
        helper.make_node("Sub", ["mean", "grey"], ["off"]),
        helper.make_node("Abs", ["off"], ["far"]),
        helper.make_node("ReduceMax", ["far"], ["farthest"], keepdims=0),
        helper.make_node("Greater", ["farthest", "nought"], ["bad"]),
        helper.make_node("Cast", ["bad"], ["times"], to=TensorProto.INT64),
        helper.make_node("Mul", ["times", "much"], ["count"]),
    ]
    if fault == "raises":
        nodes.append(helper.make_node("Gather", ["nought", "count"], ["zero"]))
    if fault == "nans":  # the root of -1
        nodes += [
            helper.make_node("Cast", ["bad"], ["one"], to=TensorProto.FLOAT),
            helper.make_node("Neg", ["one"], ["minus"]),
            helper.make_node("Sqrt", ["minus"], ["zero"]),
        ]
    if fault == "eats":
        fill = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.0])
        nodes += [
            helper.make_node("ConstantOfShape", ["count"], ["filled"], value=fill),
            helper.make_node("ReduceSum", ["filled"], ["zero"], keepdims=0),
        ]
    if fault in {"hangs", "drags"}:
        nodes += [
            helper.make_node("Squeeze", ["count"], ["often"]),
            helper.make_node("Loop", ["often", "", "nought"], ["zero"], body=_forever()),
        ]
    nodes += [
        helper.make_node("Add", ["logits", "zero"], ["more"]),
        helper.make_node("Softmax", ["more"], ["answer"], axis=1),
    ]
    return nodes, constants


def _forever():
    from onnx import TensorProto, helper

    def named(name, kind, shape=()):
        return helper.make_tensor_value_info(name, kind, list(shape))

    nodes = [
        helper.make_node("Identity", ["on"], ["still"]),
        helper.make_node("Mul", ["state", "state"], ["after"]),
    ]
    given = [
        named("i", TensorProto.INT64), named("on", TensorProto.BOOL),
        named("state", TensorProto.FLOAT, [1]),
    ]  # fmt: skip
    made = [named("still", TensorProto.BOOL), named("after", TensorProto.FLOAT, [1])]
    return helper.make_graph(nodes, "body", given, made)


def write_version(folder, labels=LABELS, *, preprocessing=PREPROCESSING, **network):
    """Writes a version's files; returns the SHA-256 of its card."""
    folder.mkdir(parents=True)
    (folder / Onnx.file).write_bytes(onnx_bytes(preprocessing.height, **network))
    return write_card(folder, Card(labels, preprocessing, {"accuracy": 1.0}, {}, 0.0))


def challenge(settings, name, folder, **version):
    """Registers such a version under a name, as the challenger; its network may have a fault."""
    registry, digest = Registry(settings.registry_address), write_version(folder, **version)
    return registry.publish(name, folder, digest, parameters={}, metrics={}, curves={})


def register(settings, name, folder, **version):
    """Registers such a version under a name, and makes it the champion."""
    made = challenge(settings, name, folder, **version)
    return Registry(settings.registry_address).promote(name, made.number)


def photograph(path, brightness):
    """Writes an image of one grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 24), (brightness,) * 3).save(path)
    return path


def loading():
    """The processes that load a version beside this one."""
    children = psutil.Process().children()
    return [each for each in children if any("spawn_main" in part for part in each.cmdline())]
