"""An ONNX network without its last layer, and with another in its place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, inliner, numpy_helper, shape_inference

from sightstream.errors import InputError
from sightstream.models.bring.graph import the_output

FEATURES = "sightstream/features"

_BEHIND = {
    "Softmax", "LogSoftmax", "Sigmoid", "Cast", "Identity", "Dropout", "Reshape", "Flatten",
    "Squeeze", "Unsqueeze", "Transpose", "Concat", "Relu", "Clip", "GlobalAveragePool",
    "AveragePool", "ReduceMean",
}  # fmt: skip
"""Operators that may stand between the last layer and the output; they learn nothing."""

_FILTERS = {"Conv", "BatchNormalization", "Relu", "Clip"}
"""Operators that make maps with the channels first."""

_WIDTHS = 6  # of joins that give features

_ARITHMETIC = {"Add", "Sub", "Mul", "Div"}
"""Operators that may, too, where the other operand is a constant, as a bias is."""


def cut(content: bytes) -> bytes:
    """Return a network from its input to features (n, features).

    They are what its last layer gets, then the means and maxima of the maps where its branches
    meet, which tell of textures and parts: of each width the last, of six widths at most.

    Features in places of a map are averaged over the places.

    Raises:
        InputError: Its last step with weights is no linear layer.
    """
    model = ModelProto.FromString(content)
    if model.functions:
        model = inliner.inline_local_functions(model)
    last = _last_layer(model)
    name = next(each for each in last.input if each in _moving(model))
    nodes = [] if name == FEATURES else _vectors(model, name, mapped=last.op_type == "Conv")
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


def _vectors(model: ModelProto, name: str, *, mapped: bool) -> list[NodeProto]:
    """Nodes from what the last layer gets, and from maps before, to `FEATURES`."""
    nodes: list[NodeProto] = []
    flat: list[str] = []
    last = [name] if mapped else _averaged(model, name)
    pools = [("GlobalMaxPool", each) for each in last]
    pools += [(f"Global{of}Pool", each) for each in _joins(model) for of in ("Average", "Max")]
    for kind, source in [("GlobalAveragePool" if mapped else "Identity", name), *pools]:
        made = f"sightstream/{len(nodes)}"
        flat += [f"{made}/flat"]
        nodes += [helper.make_node(kind, [source], [made]),
                  helper.make_node("Flatten", [made], [flat[-1]], axis=1)]  # fmt: skip
    joined = "sightstream/joined"
    nodes.append(helper.make_node("Concat", flat, [joined], axis=1))
    return [*nodes, helper.make_node("Cast", [joined], [FEATURES], to=TensorProto.FLOAT)]


def _averaged(model: ModelProto, name: str) -> list[str]:
    """The map whose mean a tensor is; none where it is something else."""
    made = {name: node for node in model.graph.node for name in node.output}
    node = made.get(name)
    while node is not None and node.op_type in ("Flatten", "Reshape", "Squeeze", "Identity"):
        node = made.get(node.input[0])
    return [node.input[0]] if node is not None and node.op_type == "GlobalAveragePool" else []


def _joins(model: ModelProto) -> list[str]:
    """The last maps of each width where branches meet: residual sums, joined filters."""
    made = {name: node for node in model.graph.node for name in node.output}
    moving, shapes = _moving(model), _shapes(model)
    found: dict[int, str] = {}
    for node in model.graph.node:
        kinds = {made[each].op_type for each in node.input if each in made}
        branches = node.op_type in ("Add", "Concat") and moving.issuperset(node.input)
        shape = shapes.get(node.output[0], [])
        if branches and kinds & _FILTERS and len(shape) == 4 and shape[1]:
            found.pop(shape[1], None)
            found[shape[1]] = node.output[0]
    return list(found.values())[-_WIDTHS:]


def _shapes(model: ModelProto) -> dict[str, list[int]]:
    """The shapes of tensors as far as they are known; 0 for a free dimension."""
    inferred = shape_inference.infer_shapes(model).graph.value_info
    return {each.name: [d.dim_value for d in each.type.tensor_type.shape.dim] for each in inferred}


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
