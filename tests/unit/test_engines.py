"""engines: by name, also those of other packages; ONNX with ONNX Runtime alone."""

import os
import subprocess
import sys

import numpy as np
import pytest

from sightstream import plugins
from sightstream.errors import ConfigError, EnvironmentUnfitError
from sightstream.images.decode import Preprocessing
from sightstream.models import engines
from sightstream.models.version import Card, ready, serve, write_card
from tests.integration.test_version import TINY, node, onnx_model
from tests.tiny_model import onnx_bytes, write_version

ALONE = """
import sys
for name in ("tensorflow", "keras", "onnx", "elephas", "tf2onnx", "pyspark", "mlflow"):
    sys.modules[name] = None
from pathlib import Path
from sightstream.models.version import serve
model = serve(Path(sys.argv[1]), "tiny", 1, sys.argv[2], "onnx")
print(model.engine, model.labels)
"""


class Even:
    """An engine of another package: all labels are as likely."""

    file = "model.even"

    def __init__(self, content):
        self._labels = int(content)

    def __call__(self, pixels):
        return np.full((len(pixels), self._labels), 1 / self._labels, np.float32)


@pytest.fixture
def even(monkeypatch):
    monkeypatch.setattr(plugins, "installed", lambda _group: {"even": Even})
    engines.installed.cache_clear()
    yield
    engines.installed.cache_clear()


def test_the_entry_points_are_those_of_this_package():
    found = plugins.installed("sightstream.engines")
    assert found == {
        "onnx": engines.Onnx, "int8": engines.Int8, "openvino": engines.OpenVino,
        "openvino-int8": engines.OpenVinoInt8, "openvino-bf16": engines.OpenVinoBf16,
        "keras": engines.Keras,
    }  # fmt: skip


def test_an_unknown_engine_is_named_with_those_that_are_there():
    with pytest.raises(ConfigError, match=r"there are: auto, onnx, int8, openvino, .*keras"):
        engines.engine("torch")


def test_an_engine_of_another_package_serves_its_file(even, tmp_path):
    (tmp_path / "model.even").write_bytes(b"4")
    card = Card(("a", "b", "c", "d"), Preprocessing(2, 2), {}, {})
    write_card(tmp_path, card)
    model = ready(tmp_path, card, "four", engine="even")
    assert model.load()(np.zeros((3, 2, 2, 3), np.uint8)).tolist() == [[0.25] * 4] * 3


def test_onnx_needs_neither_tensorflow_nor_onnx_nor_spark(tmp_path):
    (tmp_path / "model.onnx").write_bytes(onnx_model(node("Softmax", ["flat"], ["answer"])))
    digest = write_card(tmp_path, Card(("a", "b"), TINY, {}, {}, onnx_difference=0.0))
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(tmp_path), digest],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "onnx ('a', 'b')\n", done.stderr


CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.mark.parametrize(
    ("device", "installed", "gpus", "first"),
    [
        ("auto", [CPU], [], CPU),
        ("auto", [CPU], [0], CPU),
        ("auto", [CUDA, CPU], [], CPU),
        ("auto", [CUDA, CPU], [0], CUDA),
        ("cpu", [CUDA, CPU], [0], CPU),
        ("cuda", [CUDA, CPU], [0], CUDA),
    ],
)
def test_a_gpu_is_used_where_one_is_there_and_may_be(device, installed, gpus, first):
    *others, last = engines.providers(device, installed, gpus)
    assert last == CPU
    assert [name for name, _ in others] == ([CUDA] if first == CUDA else [])


def test_a_process_uses_one_of_the_gpus():
    (_, options), _ = engines.providers("auto", [CUDA, CPU], [0, 1, 2])
    assert options["device_id"] == os.getpid() % 3


@pytest.mark.parametrize(
    ("installed", "gpus", "sentence"),
    [
        ([CPU], [0], "without CUDAExecutionProvider; install onnxruntime-gpu in place of"),
        ([CUDA, CPU], [], "there is no GPU; set device to auto"),
    ],
)
def test_a_gpu_that_is_asked_for_and_missing_is_told(installed, gpus, sentence):
    with pytest.raises(EnvironmentUnfitError, match=sentence):
        engines.providers("cuda", installed, gpus)


@pytest.mark.parametrize(
    ("shown", "count"), [("", 0), ("-1", 0), ("0", 1), ("1", 1), ("0,1", 2), ("GPU-8932f937", 1)]
)
def test_cuda_s_own_variable_chooses_the_gpus(monkeypatch, shown, count):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert len(engines.gpus()) == count


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_without_a_gpu_the_cores_answer(monkeypatch, device):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = engines.Onnx(onnx_bytes(), device)(np.zeros((2, 8, 8, 3), np.uint8))
    assert found.shape == (2, 3)


def test_a_version_on_a_gpu_that_is_missing_is_not_called_damaged(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    digest = write_version(tmp_path / "tiny")
    with pytest.raises(EnvironmentUnfitError, match="device is cuda"):
        serve(tmp_path / "tiny", "tiny", 1, digest, "auto", "cuda")


def test_hidden_modules_are_missing_for_a_while_unless_they_were_imported(monkeypatch):
    import json

    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with engines.hidden("this_is_no_module", "colorsys", "json"):
        with pytest.raises(ModuleNotFoundError):
            import colorsys
        assert sys.modules["json"] is json
    import colorsys

    assert colorsys.rgb_to_hsv(0, 0, 0) == (0, 0, 0)
    assert "this_is_no_module" not in sys.modules
