"""A peer of the benchmark, really run: the loop written by hand labels as sightstream does."""

import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks.peers.peer import Running, Workload, peers, prepare
from sightstream import load_model, predict
from tests import tiny_model


@pytest.fixture
def workload(tmp_path):
    model, images = tmp_path / "tiny", tmp_path / "images"
    model.with_suffix(".onnx").write_bytes(tiny_model.onnx_bytes())
    images.mkdir()
    random = np.random.default_rng(0)
    for number, grey in enumerate(random.integers(20, 236, 40)):
        pixels = np.clip(random.normal(grey, 20, (48, 64, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(images / f"{number}.jpg")
    return Workload("tiny", 8, model, images, images, images)


@pytest.fixture
def by_hand(workload, tmp_path):
    peer = peers()["by-hand"]
    command = prepare(peer, tmp_path, print)
    assert command[0] == sys.executable
    running = Running(peer, command, workload, tmp_path / "work", 2)
    yield running
    running.close()


def test_its_labels_are_ours(by_hand, workload, tiny_home, tmp_path):
    assert by_hand.classify(workload.images) > 0
    settings = tiny_home().settings
    tiny_model.register(settings, "tiny", tmp_path / "version")
    images = sorted(workload.images.iterdir())
    ours = predict(images, load_model("tiny", home=settings.root))
    expected = [tiny_model.LABELS.index(answer["label"]) for answer in ours]
    assert set(expected) == {0, 1, 2}
    assert [by_hand.labels[image.name] for image in images] == expected


def test_a_peer_that_ends_is_reported_with_its_last_words(by_hand, workload):
    (workload.images / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(RuntimeError, match=r"it ended: PIL\.UnidentifiedImageError: .*bad\.jpg"):
        by_hand.classify(workload.images)
