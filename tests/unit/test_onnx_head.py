"""training.onnx_head: a network without its last layer, and with another."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from sightstream.errors import InputError
from sightstream.models.bring.bring import Wish, bring
from sightstream.models.bring.scale import NAMED
from sightstream.models.engines import Onnx
from tests.foreign import onnx_model, save
from training.onnx_head import FEATURES, cut, fold

RANDOM = np.random.default_rng(3)
X = RANDOM.normal(0, 1, (5, 6)).astype(np.float32)
HIDDEN = RANDOM.normal(0, 1, (6, 7)).astype(np.float32)
LAST = RANDOM.normal(0, 1, (7, 3)).astype(np.float32)
BIAS = RANDOM.normal(0, 1, 3).astype(np.float32)
EXPECTED = np.tanh(X @ HIDDEN)


def network(*steps, before=(), outputs=("y",), rank=2, **constants):
    """A hidden layer of seven features, h, and steps behind it; each a tuple of make_node."""
    fixed = {"hidden": HIDDEN, "last": LAST, "bias": BIAS} | constants
    nodes = [("MatMul", ["x", "hidden"], ["s"]), ("Tanh", ["s"], ["h"]), *steps]
    graph = helper.make_graph(
        [helper.make_node(kind, i, o, **(more[0] if more else {})) for kind, i, o, *more in nodes],
        "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
        [numpy_helper.from_array(v, k) for k, v in fixed.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return made.SerializeToString()


SOFTMAX = ("Softmax", ["z"], ["y"], {"axis": 1})
ENDINGS = {
    "a dense layer of PyTorch": [("Gemm", ["h", "last", "bias"], ["y"])],
    "its transposed kernel": [
        ("Transpose", ["last"], ["t"], {"perm": [1, 0]}),
        ("Gemm", ["h", "t", "bias"], ["z"], {"transB": 1}), SOFTMAX,
    ],
    "a dense layer of Keras": [
        ("MatMul", ["h", "last"], ["m"]), ("Add", ["m", "bias"], ["z"]), SOFTMAX,
    ],
    "a bias before": [("MatMul", ["h", "last"], ["m"]), ("Add", ["bias", "m"], ["z"]), SOFTMAX],
    "no bias": [("MatMul", ["h", "last"], ["z"]), SOFTMAX],
    "a reshape by the number of images": [
        ("Gemm", ["h", "last", "bias"], ["m"]),
        ("Shape", ["m"], ["shape"]), ("Reshape", ["m", "shape"], ["z"]), SOFTMAX,
    ],
    "a temperature": [
        ("Gemm", ["h", "last", "bias"], ["m"]), ("Div", ["m", "five"], ["z"]), SOFTMAX,
    ],
    "a convolution of one place": [
        ("Reshape", ["h", "one place"], ["map"]), ("Conv", ["map", "kernel"], ["m"]),
        ("Flatten", ["m"], ["z"]), SOFTMAX,
    ],
    "features in three dimensions": [
        ("Unsqueeze", ["h", "axis"], ["u"]), ("MatMul", ["u", "last"], ["m"]),
        ("Squeeze", ["m", "axis"], ["z"]), SOFTMAX,
    ],
    "a probability and the rest": [
        ("MatMul", ["h", "last"], ["m"]), ("Sigmoid", ["m"], ["p"]), ("Sub", ["1", "p"], ["q"]),
        ("Concat", ["q", "p"], ["y"], {"axis": 1}),
    ],
}  # fmt: skip
CONSTANTS = {
    "five": np.float32(5), "1": np.float32(1), "axis": np.array([1], np.int64),
    "one place": np.array([-1, 7, 1, 1], np.int64), "kernel": LAST.T[..., None, None].copy(),
}  # fmt: skip


@pytest.mark.parametrize("steps", ENDINGS.values(), ids=ENDINGS)
def test_features_are_what_the_last_layer_got(steps):
    content = cut(network(*steps, **CONSTANTS))
    found = Onnx(content)(X)
    np.testing.assert_allclose(found[:, :7], EXPECTED, atol=1e-6)
    # Of a map with one place the maximum is the mean.
    assert (found[:, 7:] == found[:, : found.shape[1] - 7]).all()


@pytest.mark.parametrize("steps", ENDINGS.values(), ids=ENDINGS)
def test_nothing_of_the_old_head_is_left(steps):
    made = onnx.ModelProto.FromString(cut(network(*steps, **CONSTANTS)))
    onnx.checker.check_model(made, full_check=True)
    assert not {each.name for each in made.graph.initializer} & {"last", "bias", "kernel", "five"}
    assert [each.name for each in made.graph.output] == [FEATURES]


def test_maps_before_a_convolution_give_their_means_and_maxima():
    """As SqueezeNet ends: its last convolution is followed by the mean of its maps."""
    maps = RANDOM.normal(0, 1, (2, 3, 4, 5)).astype(np.float32)
    nodes = [
        helper.make_node("Tanh", ["x"], ["h"]), helper.make_node("Conv", ["h", "kernel"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]), helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["z"]), helper.make_node("Softmax", ["z"], ["y"]),
    ]  # fmt: skip
    kernel = numpy_helper.from_array(np.ones((9, 3, 1, 1), np.float32), "kernel")
    size = kernel.dims[2:]
    nodes[1].attribute.append(helper.make_attribute("kernel_shape", size))
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 4, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], [kernel],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    found = Onnx(cut(made.SerializeToString()))(maps)
    h = np.tanh(maps)
    expected = np.hstack([h.mean(axis=(2, 3)), h.max(axis=(2, 3))])
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_joins_of_branches_give_features_of_each_width():
    """A residual block of three channels, one of five, and a sum behind their means."""
    maps = RANDOM.normal(0, 1, (2, 3, 6, 6)).astype(np.float32)
    fixed = {
        name: RANDOM.normal(0, 1, shape).astype(np.float32)
        for name, shape in {
            "a": (3, 3, 3, 3),
            "b": (5, 3, 1, 1),
            "c": (5, 5, 1, 1),
            "last": (5, 2),
        }.items()
    }
    make, pads = helper.make_node, {"pads": [1, 1, 1, 1]}
    nodes = [
        make("Conv", ["x", "a"], ["1"], **pads), make("Add", ["1", "x"], ["first"]),
        make("Conv", ["first", "a"], ["2"], **pads), make("Add", ["2", "first"], ["second"]),
        make("Conv", ["second", "b"], ["3"]), make("Conv", ["3", "c"], ["4"]),
        make("Add", ["3", "4"], ["third"]), make("GlobalAveragePool", ["third"], ["m"]),
        make("Flatten", ["m"], ["f"]), make("Add", ["f", "f"], ["g"]),
        make("MatMul", ["g", "last"], ["z"]), make("Softmax", ["z"], ["y"]),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 6, 6])],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in ("y",)],
        [numpy_helper.from_array(v, k) for k, v in fixed.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    found = Onnx(cut(made.SerializeToString()))(maps)
    graph.output.extend(
        helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in ("g", "second", "third")
    )
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = onnxruntime.InferenceSession(whole.SerializeToString())
    g, second, third = session.run(["g", "second", "third"], {"x": maps})
    joins = [pool(axis=(2, 3)) for each in (second, third) for pool in (each.mean, each.max)]
    np.testing.assert_allclose(found, np.hstack([g, *joins]), rtol=1e-4, atol=1e-5)


REFUSED = {
    "nothing behind": ([("Softmax", ["h"], ["y"])], "Tanh"),
    "a normalisation": ([("LpNormalization", ["h"], ["y"])], "LpNormalization"),
    "two branches": (
        [("MatMul", ["h", "last"], ["a"]), ("Sin", ["a"], ["b"]), ("Add", ["a", "b"], ["y"])],
        "Add",
    ),
    "attention": (
        [("Transpose", ["h"], ["t"]), ("MatMul", ["t", "h"], ["a"]), ("Softmax", ["a"], ["y"])],
        "MatMul",
    ),
    "a convolution of more places": (
        [("Reshape", ["h", "place"], ["map"]),
         ("Conv", ["map", "wide"], ["m"], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
         ("Flatten", ["m"], ["y"])], "Conv",
    ),
    "a constant": ([("Identity", ["bias"], ["y"])], "none"),
    "the picture itself": ([("Identity", ["x"], ["y"])], "none"),
}  # fmt: skip
MORE = {"place": CONSTANTS["one place"], "wide": np.ones((3, 7, 3, 3), np.float32)}


@pytest.mark.parametrize(("steps", "kind"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_end_in_a_linear_layer_is_refused(steps, kind):
    with pytest.raises(InputError, match=f"its last layer is {kind}, not a dense one"):
        cut(network(*steps, **MORE))


def test_several_outputs_are_refused():
    with pytest.raises(InputError, match="2 outputs"):
        cut(network(("MatMul", ["h", "last"], ["y"]), outputs=("y", "h")))


@pytest.mark.parametrize("steps", ENDINGS.values(), ids=ENDINGS)
def test_a_head_is_a_linear_layer_and_a_softmax(steps):
    bias = np.array([0.5, -1, 0, -1e9], np.float32)
    features = cut(network(*steps, **CONSTANTS))
    found = Onnx(features)(X)
    kernel = RANDOM.normal(0, 1, (found.shape[1], 4)).astype(np.float32)
    made = fold(features, kernel, bias)
    onnx.checker.check_model(onnx.ModelProto.FromString(made), full_check=True)
    powers = np.exp(found @ kernel + bias)
    expected = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(Onnx(made)(X), expected, atol=1e-6)
    assert (Onnx(made)(X)[:, 3] == 0).all()  # a label without an image


def test_a_head_is_replaced_again_and_again():
    once = cut(network(*ENDINGS["a dense layer of PyTorch"]))
    made = once
    for _ in range(3):
        made = cut(fold(made, LAST, BIAS))
    assert len(made) == len(once)
    np.testing.assert_allclose(Onnx(made)(X), EXPECTED, atol=1e-6)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8])
@pytest.mark.parametrize(("head", "outputs"), [("softmax", 4), ("logits", 4), ("sigmoid", 1)])
def test_an_imported_network_gives_features_of_pixels(tmp_path, layout, kind, head, outputs):
    scale = None if kind == TensorProto.UINT8 else NAMED["0..1"]
    path = save(tmp_path, layout=layout, kind=kind, head=head, outputs=outputs)
    brought = bring(path, Wish(("a", "b", "c", "d")[: max(outputs, 2)], scale=scale))
    pixels = RANDOM.integers(0, 256, (3, 16, 20, 3), np.uint8)
    found = Onnx(cut(brought.content))(pixels)
    assert (found.shape, found.dtype) == ((3, 8), np.float32)  # means and maxima
    assert (found[:, :4] <= found[:, 4:]).all()
    assert found.std(axis=0).max() > 0
    made = Onnx(fold(cut(brought.content), np.eye(8, dtype=np.float32), np.zeros(8, np.float32)))
    powers = np.exp(found)
    np.testing.assert_allclose(made(pixels), powers / powers.sum(axis=1)[:, None], atol=1e-6)


def test_an_imported_network_without_a_dense_layer_is_refused(tmp_path):
    made = onnx_model(outputs=None)
    with pytest.raises(InputError, match="its last layer is Tanh"):
        cut(made.SerializeToString())
