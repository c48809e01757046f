"""What a network learns from and what it is asked about are the same bytes."""

import io

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from sightstream.images.decode import Preprocessing, decode
from sightstream.images.limits import Limits
from sightstream.images.store import read
from sightstream.models.version import ServedModel
from sightstream.runtime import spark
from training import compare, datasets
from training.datasets import Source

SHAPE = Preprocessing(12, 9, aspect="crop")


def pictures():
    random = np.random.default_rng(7)
    for number, size in enumerate([(64, 48), (640, 480), (33, 70)]):
        image = Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8)).resize(size)
        exif = Image.Exif()
        exif[0x0112] = 6
        yield f"turned-{number}.jpg", image, {"exif": exif, "quality": 80}
        yield f"cmyk-{number}.jpg", image.convert("CMYK"), {}
        yield f"palette-{number}.png", image.quantize(17), {}
        yield f"alpha-{number}.webp", image.convert("RGBA"), {"lossless": True}
        yield (
            f"deep-{number}.tiff",
            Image.fromarray(np.asarray(image)[..., 0].astype(np.uint16) * 257),
            {},
        )


@pytest.fixture
def folders(tmp_path):
    for number, (name, image, options) in enumerate(pictures()):
        folder = tmp_path / "pictures" / ("even", "odd")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / name, **options)
    return tmp_path / "pictures"


def repeating():
    """A model whose scores are the pixels that it was given."""
    count = int(np.prod(SHAPE.shape))
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", *SHAPE.shape])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", count])
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["scores"]),
    ]
    graph = helper.make_graph(nodes, "repeat", [pixels], [scores])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    content = io.BytesIO()
    onnx.save(model, content)
    labels = tuple(str(n) for n in range(count))
    return ServedModel("repeat", 1, labels, SHAPE, "onnx", content.getvalue())


def test_training_and_serving_see_the_same_bytes(settings, folders):
    session = spark.start("test", settings.root, settings.master)
    try:
        dataset = datasets.load(
            session, Source((folders,)), SHAPE, Limits(), shares=(0.6, 0.2, 0.2), seed=0
        )
        rows = dataset.images.select("uri", "pixels").collect()
        learned = {row.uri: bytes(row.pixels) for row in rows}
        model = repeating()
        asked = compare.answers(session, model, dataset.examples, model.labels, Limits())
    finally:
        spark.stop(session)
    assert len(learned) == 15
    for example, scores in zip(dataset.examples, asked, strict=True):
        alone = decode(read(example.path), SHAPE)
        assert learned[example.uri] == scores.astype(np.uint8).tobytes() == alone.pixels.tobytes()
