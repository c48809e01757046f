"""optimise: faster engines are tried, and kept only where they answer as well."""

import numpy as np
import pytest

from sightstream.images.decode import Preprocessing
from sightstream.models.engines import Int8, Onnx
from sightstream.models.optimise import Tried, optimise, quantise
from sightstream.models.version import Card, automatic, ready, write_card

SIDE = 32


def colours(width=64):
    """A graph of convolutions that tells which of three colours an image has most of."""
    from onnx import TensorProto, helper, numpy_helper

    first, second = np.zeros((width, 3, 3, 3), "f4"), np.zeros((width, width, 3, 3), "f4")
    for n in range(width):
        first[n, n % 3, 1, 1] = 1 / 255
        second[n, n, 1, 1] = 1
    last = np.zeros((width, 3), "f4")
    last[range(width), np.arange(width) % 3] = 30 / width
    values = {"a": first, "b": second, "c": second, "d": last}
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["x"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["x", "a"], ["y"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["y", "b"], ["z"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["z", "c"], ["w"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["w"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "d"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["answer"], axis=1),
    ]
    graph = helper.make_graph(
        nodes, "colours",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return made.SerializeToString()


def coloured(count, seed):
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 120, (count, SIDE, SIDE, 3), dtype=np.uint8)
    truth = np.arange(count) % 3
    for image, colour in zip(pixels, truth, strict=True):
        image[..., colour] += 100
    return pixels, truth


@pytest.fixture
def files(tmp_path):
    (tmp_path / Onnx.file).write_bytes(colours())
    return tmp_path


@pytest.mark.parametrize(
    ("tried", "good"),
    [
        (Tried("int8", 3.0, 1.0, 0.0), True),
        (Tried("int8", 1.3, 0.995, 0.01), True),
        (Tried("int8", 1.3, 0.995), True),
        (Tried("int8", 1.29, 1.0, 0.0), False),
        (Tried("int8", 3.0, 0.994, 0.0), False),
        (Tried("int8", 3.0, 0.999, -0.0001), False),
        (Tried("int8", fault="it does not load"), False),
    ],
    ids=str,
)
def test_an_engine_is_good_if_it_is_fast_and_answers_as_well(tried, good):
    assert tried.good is good


def test_eight_bits_answer_with_nearly_the_same_scores(files):
    pixels, truth = coloured(60, seed=1)
    quantise(files / Onnx.file, files / Int8.file, coloured(30, seed=0)[0])
    scores = [kind((files / kind.file).read_bytes())(pixels) for kind in (Onnx, Int8)]
    assert np.abs(scores[0] - scores[1]).max() < 0.05
    assert np.abs(scores[1].sum(axis=1) - 1).max() < 1e-5
    assert scores[1].argmax(axis=1).tolist() == truth.tolist()
    assert (files / Int8.file).stat().st_size < 0.5 * (files / Onnx.file).stat().st_size


def test_what_is_kept_is_what_auto_serves(files):
    facts = optimise(files, coloured(30, seed=0)[0], *coloured(60, seed=1))
    assert "int8: " in facts["optimised_tried"]
    assert "100.00% of labels equal, macro F1 +0.0000" in facts["optimised_tried"]
    kept = facts["optimised"]
    assert (files / Int8.file).exists() == kept.endswith("int8")
    card = Card(("red", "green", "blue"), Preprocessing(SIDE, SIDE), {}, {**facts}, 0.0)
    write_card(files, card)
    served = ready(files, card, "colours")
    assert served.engine == {"no": "onnx"}.get(kept, kept)
    assert served.load()(coloured(3, seed=2)[0]).argmax(axis=1).tolist() == [0, 1, 2]


def test_labels_that_differ_keep_nothing(files):
    """Images that two colours share alike get either label with eight bits."""
    even = np.random.default_rng(0).integers(0, 256, (200, SIDE, SIDE, 3), dtype=np.uint8)
    facts = optimise(files, coloured(30, seed=0)[0] // 8, even)
    assert not facts["optimised"].endswith("int8")
    assert not (files / Int8.file).exists()


def test_without_an_onnx_file_there_is_nothing_to_try(tmp_path):
    facts = optimise(tmp_path, *coloured(3, seed=0))
    assert facts == {"optimised": "no", "optimised_tried": "there is no ONNX file"}


def test_a_graph_that_cannot_be_changed_is_told_and_served_as_it_is(tmp_path):
    (tmp_path / Onnx.file).write_bytes(b"no graph")
    facts = optimise(tmp_path, coloured(3, seed=0)[0], coloured(3, seed=1)[0])
    assert facts["optimised"] == "no"
    assert facts["optimised_tried"].startswith("int8: ")
    assert [path.name for path in tmp_path.iterdir()] == [Onnx.file]


@pytest.mark.parametrize(
    ("training", "difference", "engine"),
    [
        ({}, 0.0, "onnx"),
        ({"optimised": "no"}, 0.0, "onnx"),
        ({"optimised": "int8"}, 0.0, "int8"),
        ({"optimised": "int8"}, 0.5, "keras"),
        ({"optimised": "int8"}, None, "keras"),
        ({"optimised": "made up"}, 0.0, "onnx"),
        ({"optimised": ["int8"]}, 0.0, "onnx"),
    ],
)
def test_auto_takes_the_fastest_that_agrees(training, difference, engine):
    card = Card(("a", "b"), Preprocessing(2, 2), {}, training, difference)
    assert automatic(card) == engine
