"""An ONNX graph: its input and output, what its first and last steps tell, and the wrapped one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, compose, helper, numpy_helper

from sightstream.errors import InputError
from sightstream.models.bring.foreign import Fact, Facts
from sightstream.models.bring.scale import NAMED, Scale

Layout = Literal["nchw", "nhwc"]
Ending = Literal["probabilities", "softmax", "one", "sigmoid"]
"""How raw outputs become probabilities: as they are; by softmax; one probability or logit p of two
labels as [1-p, p]."""

TYPES = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16,
         TensorProto.DOUBLE: np.float64, TensorProto.UINT8: np.uint8}  # fmt: skip
_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "Mul": lambda factor, offset, value: (factor * value, offset * value),
    "Div": lambda factor, offset, value: (factor / value, offset / value),
    "Add": lambda factor, offset, value: (factor, offset + value),
    "Sub": lambda factor, offset, value: (factor, offset - value),
}
_PASSES = {"Cast", "Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze"}


def the_input(model: ModelProto) -> Any:
    """Return the one input that is an image; InputError for other networks."""
    fixed = {each.name for each in model.graph.initializer}
    inputs = [each for each in model.graph.input if each.name not in fixed]
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs) or "none"
        raise InputError(f"the network has {len(inputs)} inputs ({names}); an image is one")
    tensor = inputs[0].type.tensor_type
    if len(tensor.shape.dim) != 4:
        raise InputError(
            f"the network's input has {len(tensor.shape.dim)} dimensions; images have 4: number, "
            "height, width and channels"
        )
    if tensor.elem_type not in TYPES:
        name = TensorProto.DataType.Name(tensor.elem_type)
        raise InputError(f"the network's input is of type {name}; it must be float or uint8")
    return inputs[0]


def the_output(model: ModelProto) -> str:
    """Return the name of the one output; InputError for detection, segmentation and others."""
    names = [each.name for each in model.graph.output]
    if len(names) != 1:
        raise InputError(
            f"the network has {len(names)} outputs ({', '.join(names[:4])}); a classifier has one: "
            "this looks like a model for detection, segmentation or several tasks"
        )
    return str(names[0])


def sides(model: ModelProto) -> tuple[int | None, ...]:
    """Return the four dimensions of the input; None where they are free."""
    dims = the_input(model).type.tensor_type.shape.dim
    return tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in dims)


def told(model: ModelProto) -> Facts:
    """Return what the input's shape and type, and the network's first steps, tell."""
    facts: Facts = {}
    _, a, b, c = sides(model)
    first, last = a in (1, 3), c in (1, 3)
    if a and c and not (first or last):
        raise InputError(
            f"the network's input is {a}x{b}x{c} for an image, with neither 1 nor 3 channels; "
            "images have 1 or 3"
        )
    if first != last:
        facts["layout"] = Fact("nchw" if first else "nhwc", "the shape of its input")
        size = (b, c) if first else (a, b)
        if None not in size:
            facts["size"] = Fact(size, "the shape of its input")
    elif fact := _named_layout(model):
        facts["layout"] = fact
    if the_input(model).type.tensor_type.elem_type == TensorProto.UINT8:
        facts["scale"] = Fact(NAMED["0..255"], "its input of type uint8")
    elif source := _scales_itself(model):
        facts["scale"] = Fact(NAMED["0..255"], source)
    return facts


def _named_layout(model: ModelProto) -> Fact | None:
    """The layout as names tell it, where all sides are free: as optimum exports them."""
    given = the_input(model)
    _, first, _, last = (d.dim_param.lower() for d in given.type.tensor_type.shape.dim)
    if "channel" in first or given.name == "pixel_values":  # transformers' name for NCHW
        return Fact("nchw", "the names of its input")
    return Fact("nhwc", "the names of its input") if "channel" in last else None


def ends_with(model: ModelProto) -> str:
    """Return the operator that makes the output, steps that only change its form left out."""
    made = {name: node for node in model.graph.node for name in node.output}
    name = the_output(model)
    while name in made and made[name].op_type in _PASSES and made[name].input:
        name = made[name].input[0]
    return made[name].op_type if name in made else ""


def _scales_itself(model: ModelProto) -> str:
    """Return the steps before the first layer if they bring pixels of 0 to 255 near 1."""
    constants = {each.name: each for each in model.graph.initializer}
    users: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
        for name in node.input:
            users.setdefault(name, []).append(node)
    name, steps = the_input(model).name, []
    factor, offset = np.ones(1), np.zeros(1)
    while len(found := users.get(name, [])) == 1:
        node = found[0]
        if step := _ARITHMETIC.get(node.op_type):
            others = [each for each in node.input if each != name]
            if len(others) != 1 or others[0] not in constants:
                break
            value = numpy_helper.to_array(constants[others[0]]).astype(float).ravel()
            turned = node.op_type in ("Sub", "Div") and node.input[0] != name
            if value.size > 3 or turned or (node.op_type == "Div" and not value.all()):
                break
            factor, offset = step(factor, offset, value)
            steps.append(node.op_type)
        elif node.op_type not in ("Cast", "Identity", "Transpose"):
            break
        name = node.output[0]
    small = np.abs(factor).max() <= 0.1 or np.abs(offset).max() >= 16
    return f"its first steps ({', '.join(steps)})" if steps and small else ""


def wrapped(
    model: ModelProto, size: tuple[int, int], channels: int, layout: Layout, scale: Scale,
    ending: Ending, outputs: int,
) -> ModelProto:  # fmt: skip
    """Return the network from uint8 (n, height, width, channels) to probabilities (n, labels)."""
    network = ModelProto()
    network.CopyFrom(model)
    free_batch(network)
    given, answer = the_input(network), the_output(network)
    kind = given.type.tensor_type.elem_type
    network = compose.add_prefix(network, "network/") if network.graph.node else network
    given, answer = f"network/{given.name}", f"network/{answer}"
    before, constants = _before(channels, layout, scale, kind, given)
    after, more = _after(ending, outputs, answer)
    domains = {each.domain: each.version for each in network.opset_import}
    nodes = [*before, *network.graph.node, *after]
    graph = helper.make_graph(
        nodes, "sightstream",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", *size, channels])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT,
                                       ["n", 2 if outputs == 1 else outputs])],
        [*network.graph.initializer, *constants, *more],
    )  # fmt: skip
    graph.sparse_initializer.extend(network.graph.sparse_initializer)
    opsets = [helper.make_opsetid(name, version) for name, version in domains.items()]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=max(network.ir_version, 8))
    made.functions.extend(network.functions)
    return made


def free_batch(model: ModelProto) -> None:
    """Let the number of images be any; constant shapes that begin with the old number follow it."""
    batch = sides(model)[0]
    for each in (the_input(model), *model.graph.output):
        if each.type.tensor_type.shape.dim:
            each.type.tensor_type.shape.dim[0].dim_param = "n"
    del model.graph.value_info[:]
    if batch is None:
        return
    shapes = {node.input[1] for node in model.graph.node if node.op_type == "Reshape"}
    for each in model.graph.initializer:
        if each.name in shapes:
            each.CopyFrom(_following(each, batch))
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output[0] in shapes:
            value = node.attribute[0]
            if value.name == "value":
                value.t.CopyFrom(_following(value.t, batch))


def _following(shape: TensorProto, batch: int) -> TensorProto:
    values = numpy_helper.to_array(shape).copy()
    if values.ndim == 1 and values.size > 1 and values[0] == batch:
        values[0] = 0  # as many as the input has
    return numpy_helper.from_array(values, shape.name)


def _before(
    channels: int, layout: Layout, scale: Scale, kind: int, name: str
) -> tuple[list[NodeProto], list[TensorProto]]:
    def constant(key: str, value: NDArray[Any]) -> str:
        constants.append(numpy_helper.from_array(value, f"pixels/{key}"))
        return str(constants[-1].name)

    def then(kind: str, *inputs: str, **attributes: Any) -> None:
        made = f"pixels/{len(nodes)}"
        source = nodes[-1].output[0] if nodes else "pixels"
        nodes.append(helper.make_node(kind, [source, *inputs], [made], **attributes))

    nodes: list[NodeProto] = []
    constants: list[TensorProto] = []
    if scale.bgr:
        then("Gather", constant("bgr", np.array([2, 1, 0], np.int64)), axis=3)
    if kind != TensorProto.UINT8:
        then("Cast", to=TensorProto.FLOAT)
        if scale.unit != 1:
            then("Div", constant("unit", np.array(scale.unit, np.float32)))
        if any(scale.mean):
            then("Sub", constant("mean", np.array(scale.mean, np.float32)))
        if set(scale.std) != {1.0}:
            then("Div", constant("std", np.array(scale.std, np.float32)))
    if layout == "nchw":
        then("Transpose", perm=[0, 3, 1, 2])
    if kind not in (TensorProto.UINT8, TensorProto.FLOAT):
        then("Cast", to=kind)
    if not nodes:
        then("Identity")
    nodes[-1].output[0] = name
    return nodes, constants


def _after(
    ending: Ending, outputs: int, name: str
) -> tuple[list[NodeProto], list[TensorProto]]:  # fmt: skip
    shape = numpy_helper.from_array(np.array([-1, outputs], np.int64), "answer/shape")
    make = helper.make_node
    nodes = [make("Cast", [name], ["answer/float"], to=TensorProto.FLOAT),
             make("Reshape", ["answer/float", shape.name], ["answer/flat"])]  # fmt: skip
    constants, flat, last = [shape], "answer/flat", "probabilities"
    if ending == "probabilities":
        nodes.append(make("Identity", [flat], [last]))
    elif ending == "softmax":
        nodes.append(make("Softmax", [flat], [last], axis=1))
    else:
        one = numpy_helper.from_array(np.array(1, np.float32), "answer/one")
        constants.append(one)
        if ending == "sigmoid":
            nodes.append(make("Sigmoid", [flat], ["answer/p"]))
            flat = "answer/p"
        nodes.append(make("Sub", [one.name, flat], ["answer/not"]))
        nodes.append(make("Concat", ["answer/not", flat], [last], axis=1))
    return nodes, constants


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every tensor of a model, those inside of its functions and branches too."""
    yield from _tensors_of(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _tensors_of_node(node)


def _tensors_of(graph: Any) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _tensors_of_node(node)


def _tensors_of_node(node: NodeProto) -> Iterator[TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for graph in (attribute.g, *attribute.graphs):
            yield from _tensors_of(graph)
