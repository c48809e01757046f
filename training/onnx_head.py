"""An ONNX network without its last layer, and with another in its place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, inliner, numpy_helper

from sightstream.errors import InputError
from sightstream.models.bring.graph import the_output

FEATURES = "sightstream/features"

_BEHIND = {
    "Softmax", "LogSoftmax", "Sigmoid", "Cast", "Identity", "Dropout", "Reshape", "Flatten",
    "Squeeze", "Unsqueeze", "Transpose", "Concat", "Relu", "Clip", "GlobalAveragePool",
    "AveragePool", "ReduceMean",
}  # fmt: skip
"""Operators that may stand between the last layer and the output; they learn nothing."""

_ARITHMETIC = {"Add", "Sub", "Mul", "Div"}
"""Operators that may, too, where the other operand is a constant, as a bias is."""


def cut(content: bytes) -> bytes:
    """Return a network from its input to the features (n, features) that its last layer gets.

    Features in places of a map are averaged over the places.

    Raises:
        InputError: Its last step with weights is no linear layer.
    """
    model = ModelProto.FromString(content)
    if model.functions:
        model = inliner.inline_local_functions(model)
    last = _last_layer(model)
    name = next(each for each in last.input if each in _moving(model))
    nodes = [] if name == FEATURES else _as_vectors(name, mapped=last.op_type == "Conv")
    return bytes(_until(model, nodes).SerializeToString())


def fold(features: bytes, kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> bytes:
    """Return what `cut` returned with a linear layer, (features, labels), and a softmax behind."""
    model = ModelProto.FromString(features)
    weights = [numpy_helper.from_array(kernel, "sightstream/kernel"),
               numpy_helper.from_array(bias, "sightstream/bias")]  # fmt: skip
    logits, answer = "sightstream/logits", "probabilities"
    model.graph.initializer.extend(weights)
    model.graph.node.extend([
        helper.make_node("Gemm", [FEATURES, *(each.name for each in weights)], [logits]),
        helper.make_node("Softmax", [logits], [answer], axis=1),
    ])  # fmt: skip
    shape = ["n", len(bias)]
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(answer, TensorProto.FLOAT, shape))
    return bytes(model.SerializeToString())


def _last_layer(model: ModelProto) -> NodeProto:
    """Walk back from the output, along what depends on the pixels, to a linear layer."""
    made = {name: node for node in model.graph.node for name in node.output}
    moving = _moving(model)
    node = made.get(the_output(model))
    while node is not None:
        found = [each for each in node.input if each in moving]
        if node.op_type not in _BEHIND and (node.op_type not in _ARITHMETIC or len(found) != 1):
            break
        node = made.get(found[0]) if found else None
    if node is None or not _is_linear(model, node, moving):
        raise InputError(
            f"its last layer is {node.op_type if node else 'none'}, not a dense one before a "
            "softmax, so it has no features to give"
        )
    return node


def _is_linear(model: ModelProto, node: NodeProto, moving: set[str]) -> bool:
    """Tell whether a node is a matrix times features, in one place or in each of a map."""
    if node.op_type not in ("Gemm", "MatMul", "Conv"):
        return False
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    if node.op_type == "Conv":
        kernels = [each.dims[2:] for each in model.graph.initializer if each.name == node.input[1]]
        size = attributes.get("kernel_shape", kernels[0] if kernels else ())
        if set(size) != {1} or attributes.get("group", 1) != 1:
            return False
    return node.input[0] in moving and node.input[1] not in moving and not attributes.get("transA")


def _moving(model: ModelProto) -> set[str]:
    """The names of all tensors that depend on the network's input."""
    fixed = {each.name for each in model.graph.initializer}
    moving = {each.name for each in model.graph.input} - fixed
    for node in model.graph.node:  # which stand in the order of their running
        if moving.intersection(node.input) or moving.intersection(_captured(node)):
            moving.update(node.output)
    return moving


def _captured(node: NodeProto) -> set[str]:
    """The names that the branches of an If or a Loop take from around them."""
    graphs = [each.g for each in node.attribute if each.HasField("g")]
    return {
        name
        for graph in graphs
        for inner in graph.node
        for name in {*inner.input, *_captured(inner)}
    } | {each.name for graph in graphs for each in graph.output}


def _as_vectors(name: str, *, mapped: bool) -> list[NodeProto]:
    """Nodes from features of any form to `FEATURES`, (n, features) of 32 bits."""
    pooled, flat = "sightstream/pooled", "sightstream/flat"
    nodes = [helper.make_node("GlobalAveragePool", [name], [pooled])] if mapped else []
    return [
        *nodes,
        helper.make_node("Flatten", [pooled if mapped else name], [flat], axis=1),
        helper.make_node("Cast", [flat], [FEATURES], to=TensorProto.FLOAT),
    ]


def _until(model: ModelProto, more: list[NodeProto]) -> ModelProto:
    """The network with further nodes, as far as `FEATURES` need it."""
    needed, kept = {FEATURES}, []
    for node in reversed([*model.graph.node, *more]):
        if needed.intersection(node.output):
            needed |= {*node.input, *_captured(node)}
            kept.append(node)
    found = ModelProto()
    found.CopyFrom(model)
    graph = found.graph
    weights = [each for each in model.graph.initializer if each.name in needed]
    sparse = [each for each in model.graph.sparse_initializer if each.values.name in needed]
    inputs = [each for each in model.graph.input if each.name in needed]
    for field in (graph.node, graph.initializer, graph.sparse_initializer, graph.input,
                  graph.output, graph.value_info):  # fmt: skip
        del field[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(weights)
    graph.sparse_initializer.extend(sparse)
    graph.input.extend(inputs)
    graph.output.append(helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["n", None]))
    return found
