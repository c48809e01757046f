"""sightstream.scoring.udf: a model is loaded once, and its file's bytes are let go."""

import pickle

from pyspark import Broadcast

from sightstream.images.limits import Limits
from sightstream.models.version import ServedModel
from sightstream.scoring import udf
from tests import tiny_model


def model(version=1):
    return ServedModel(
        "tiny", version, tiny_model.LABELS, tiny_model.PREPROCESSING, "onnx",
        tiny_model.onnx_bytes(),
    )  # fmt: skip


def shipped(folder, version=1):
    """The model as a worker has it: a broadcast that reads its file when it is asked."""
    path = folder / f"broadcast-{version}"
    path.write_bytes(pickle.dumps(model(version)))
    return Broadcast(path=str(path))


def test_models_of_one_name_and_number_are_told_apart_by_their_content():
    other = ServedModel("tiny", 1, ("a", "b", "c"), tiny_model.PREPROCESSING, "onnx", b"")
    assert udf.identity(model()) == udf.identity(model())
    assert len({udf.identity(each) for each in (model(), model(2), other)}) == 3


def test_the_latest_models_stay_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(udf, "_loaded", {})
    for version in range(udf.KEPT + 2):
        udf.Answering(shipped(tmp_path, version), Limits(), 3).prepare_worker()
    assert len(udf._loaded) == udf.KEPT
    assert udf.Answering(shipped(tmp_path, udf.KEPT + 1), Limits(), 3)._key in udf._loaded
