"""Small models as other tools make them, which tell apart what they are fed."""

import numpy as np

KERNEL = np.random.default_rng(5).normal(0, 1, (4, 3, 3, 3)).astype(np.float32)


def onnx_model(
    layout="nchw", kind=1, batch="n", size=(16, 20), channels=3, head="softmax", outputs=4,
    scaled=None, metadata=None, pinned=False, opset=18, free=None, name="image",
):  # fmt: skip
    """A convolution, the mean and maximum of its maps, and a head; `kind` is a TensorProto type.

    `free` names the sides of an input of no fixed shape. `pinned` reshapes with the number of
    images as a constant, as fixed exports do.
    """
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(7)
    fixed, nodes, last = {}, [], name

    def then(op, *names, **attributes):
        nonlocal last
        last_before, last = last, f"t{len(nodes)}"
        nodes.append(helper.make_node(op, [last_before, *names], [last], **attributes))

    def constant(name, value):
        fixed[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    if kind != TensorProto.FLOAT:
        then("Cast", to=TensorProto.FLOAT)
    if scaled:
        then("Mul", constant("factor", np.float32(scaled)))
    if layout == "nhwc":
        then("Transpose", perm=[0, 3, 1, 2])
    then("Conv", constant("kernel", KERNEL[:, :channels]), pads=[1, 1, 1, 1])
    then("Tanh")
    then("GlobalAveragePool")
    then("Reshape", constant("shape", np.array([batch if pinned else 0, 4], np.int64)))
    if outputs is not None:
        weights = (random.normal(0, 4, (4, outputs))).astype(np.float32)
        then("MatMul", constant("weights", weights))
    if head == "softmax":
        then("Softmax", axis=1)
    elif head == "sigmoid":
        then("Sigmoid")
    elif head == "hard":
        then("HardSigmoid")
    elif head == "surprise":
        then("LogSoftmax", axis=1)
        then("Neg")
    elif head == "tanh":
        then("Tanh")
    elif head == "far":
        then("Add", constant("years", np.float32(40)))
    elif head == "unit":
        then("LpNormalization", axis=1, p=2)
    elif head == "nan":
        then("Log")
    elif head == "maps":
        then("Unsqueeze", constant("axes", np.array([1, 2], np.int64)))
        then("Tile", constant("times", np.array([1, 5, 5, 1], np.int64)))
    if kind == TensorProto.FLOAT16:
        then("Cast", to=kind)
    shape = [batch, channels, *size] if layout == "nchw" else [batch, *size, channels]
    shape = free or shape
    rank = 4 if head == "maps" else 2
    answer = kind if kind == TensorProto.FLOAT16 else TensorProto.FLOAT
    outs = [helper.make_tensor_value_info(last, answer, [batch, *[None] * (rank - 1)])]
    if head == "two":
        outs.append(helper.make_tensor_value_info(nodes[-2].output[0], TensorProto.FLOAT, None))
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info(name, kind, shape)], outs,
        list(fixed.values()),
    )  # fmt: skip
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9
    )  # fmt: skip
    helper.set_model_props(made, metadata or {})
    return made


def save(folder, **changes):
    """Writes such a model; returns its path."""
    import onnx

    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(onnx_model(**changes), folder / "net.onnx")
    return folder / "net.onnx"
