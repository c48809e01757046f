"""pace: the size of chunks is measured; answers do not depend on it, and memory is bounded."""

import os
import subprocess
import sys
from time import process_time

import numpy as np
import pytest

from sightstream.models.engines import Onnx
from sightstream.models.pace import MOST, PIXELS, Paced, fitting
from tests.tiny_model import PREPROCESSING, onnx_bytes

GROWTH = """
import sys
import numpy as np, onnx, psutil
from onnx import TensorProto, helper, numpy_helper
from sightstream.images.decode import Preprocessing
from sightstream.models.version import ServedModel

random, side, width = np.random.default_rng(0), 48, 32
def weights(name, *shape):
    return numpy_helper.from_array(random.normal(size=shape).astype(np.float32) / 30, name)
nodes = [
    helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
    helper.make_node("Transpose", ["floats"], ["first"], perm=[0, 3, 1, 2]),
    helper.make_node("Conv", ["first", "a"], ["second"], pads=[1, 1, 1, 1]),
    helper.make_node("Conv", ["second", "b"], ["third"], pads=[1, 1, 1, 1]),
    helper.make_node("GlobalAveragePool", ["third"], ["mean"]),
    helper.make_node("Flatten", ["mean"], ["flat"]),
    helper.make_node("Softmax", ["flat"], ["answer"], axis=1),
]
graph = helper.make_graph(
    nodes, "wide",
    [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", side, side, 3])],
    [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["n", width])],
    [weights("a", width, 3, 3, 3), weights("b", width, width, 3, 3)],
)
made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
labels = tuple(map(str, range(width)))
model = ServedModel("m", 1, labels, Preprocessing(side, side), "onnx", made.SerializeToString())
engine, pixels = model.load(), np.zeros((64, side, side, 3), np.uint8)
for calls in 400, 250:  # what an engine keeps is there after some hundred
    for count in random.integers(1, 65, calls):
        engine(pixels[:count])
    print(psutil.Process().memory_info().rss >> 20)
"""


def slow(*, each, call):
    """An engine that takes some time for each call, and some for each image; and its calls."""
    calls = []

    def run(pixels):
        calls.append(len(pixels))
        until = process_time() + call + each(len(pixels)) * len(pixels)
        while process_time() < until:
            pass
        return pixels.reshape(len(pixels), -1).astype(np.float32)

    return run, calls


@pytest.mark.parametrize("side", [1, 24, 96, 224, 299, 512, 8192])
def test_chunks_are_bounded_by_images_and_by_pixels(side):
    most = fitting(side, side)
    assert 1 <= most <= MOST
    assert most == 1 or most * side * side <= PIXELS


@pytest.mark.parametrize(
    ("each", "call", "best"),
    [
        (lambda _n: 1e-5, 1e-3, 16),  # a call costs as much as a hundred images
        (lambda n: 1e-4 * max(1, n - 1), 1e-5, 2),  # three do not fit the processor's cache
        (lambda n: 1e-4 * n, 0.0, 1),
    ],
    ids=["calls cost", "caches hold two", "one by one"],
)
def test_the_fastest_size_is_taken(each, call, best):
    run, calls = slow(each=each, call=call)
    engine = Paced(run, 16)
    for _ in range(20):
        engine(np.zeros((64, 1), np.uint8))
    calls.clear()
    engine(np.zeros((256, 1), np.uint8))
    assert max(set(calls), key=lambda size: size * calls.count(size)) == best
    assert sum(size for size in calls if size == best) >= 0.8 * sum(calls)


def test_a_size_that_has_become_slow_is_left():
    worse = []
    run, calls = slow(each=lambda n: 1e-3 if worse and n == 8 else 1e-6, call=2e-4)
    engine = Paced(run, 8)
    engine(np.zeros((400, 1), np.uint8))
    assert calls.count(8) > 20
    worse.append("other work on the machine")
    calls.clear()
    engine(np.zeros((400, 1), np.uint8))
    assert calls.count(8) < 20


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 9, 63, 64, 65, 200])
def test_answers_are_those_of_the_engine_whatever_the_number_of_images(count):
    side = PREPROCESSING
    pixels = np.random.default_rng(count).integers(0, 256, (count, *side.shape), dtype=np.uint8)
    engine = Onnx(onnx_bytes())
    paced = Paced(engine, 64)
    for _ in range(12):  # through all sizes
        assert np.abs(paced(pixels) - engine(pixels)).max(initial=0) < 1e-6
    assert paced(pixels).shape == (count, 3)


def test_no_chunk_is_larger_than_the_most_and_none_of_one_image_is_left_over():
    run, calls = slow(each=lambda _n: 1e-5, call=1e-3)
    engine = Paced(run, 21)
    for count in range(1, 100):
        assert len(engine(np.zeros((count, 1), np.uint8))) == count
    assert max(calls) == 21
    calls.clear()
    for _ in range(20):
        engine(np.zeros((17, 1), np.uint8))
    assert calls.count(17) >= 18


def test_memory_stays_where_it_was_with_chunks_of_changing_sizes():
    done = subprocess.run(
        [sys.executable, "-c", GROWTH], capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    first, then = map(int, done.stdout.split())
    assert then < 1.05 * first + 8, (done.stdout, done.stderr)
    assert then < 300
