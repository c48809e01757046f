"""From a function of TensorFlow to an ONNX graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightstream.errors import InputError, first_line
from sightstream.models.bring.foreign import Answer

_CHUNK = 16


def to_onnx(
    function: Callable[[Any], Any], shape: Sequence[int | None], dtype: Any
) -> tuple[Any, Answer]:
    """Return the ONNX model of a function of one tensor, and the function in TensorFlow."""
    import tensorflow as tf
    import tf2onnx

    spec = tf.TensorSpec(shape, dtype, name="image")
    graph = tf.function(function, input_signature=[spec])
    try:
        with warnings.catch_warnings():  # tf2onnx uses deprecated parts of numpy
            warnings.simplefilter("ignore")
            model, _ = tf2onnx.convert.from_function(graph, [spec], opset=18)
    except Exception as error:  # an operator that ONNX has not
        raise InputError(f"the model cannot become ONNX: {first_line(error)}") from error
    _with_erf(model)
    if any("PartitionedCall" in node.op_type for node in model.graph.node):
        raise InputError(
            "the model has layers that TensorFlow compiles as a whole, as Keras' convolutions with "
            "groups (ConvNeXt's), and they cannot become ONNX from there; with KERAS_BACKEND=torch "
            "Keras exports them: model.export('model.onnx', format='onnx')"
        )
    _with_constants(model, graph.get_concrete_function())
    batch = shape[0]

    def answer(images: NDArray[Any]) -> NDArray[np.float32]:
        rows, step = [], batch or _CHUNK
        for start in range(0, len(images), step):
            part = images[start : start + step]
            fill = np.repeat(part[-1:], (batch or len(part)) - len(part), axis=0)
            filled = np.concatenate([part, fill])
            rows.append(np.asarray(graph(tf.constant(filled, dtype)), np.float32)[: len(part)])
        return np.concatenate(rows)

    return model, answer


def _with_erf(model: Any) -> None:
    """Write `erfc`, of which TensorFlow makes GELU and ONNX knows nothing, as 1 - erf."""
    from onnx import helper, numpy_helper

    nodes = list(model.graph.node)
    if not any(node.op_type == "Erfc" for node in nodes):
        return
    one = numpy_helper.from_array(np.array(1, np.float32), "erfc/one")
    model.graph.initializer.append(one)
    del model.graph.node[:]
    for node in nodes:
        model.graph.node.append(node)
        if node.op_type == "Erfc":
            last, erf = model.graph.node[-1], f"{node.output[0]}/erf"
            made = helper.make_node("Sub", [one.name, erf], [node.output[0]])
            last.op_type, last.output[0] = "Erf", erf
            model.graph.node.append(made)


def _with_constants(model: Any, function: Any) -> None:
    """Keep tensors that the function holds, such as those of Normalization, which are inputs."""
    from onnx import numpy_helper

    held = {inner.name: outer for outer, inner in function.graph.captures}
    for each in [found for found in model.graph.input if found.name in held]:
        value = np.asarray(held[each.name])
        model.graph.initializer.append(numpy_helper.from_array(value, each.name))
        model.graph.input.remove(each)
