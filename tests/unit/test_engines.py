"""engines: by name, also those of other packages; ONNX with ONNX Runtime alone."""

import subprocess
import sys

import numpy as np
import pytest

from sightstream import plugins
from sightstream.errors import ConfigError
from sightstream.images.decode import Preprocessing
from sightstream.models import engines
from sightstream.models.version import Card, ready, write_card
from tests.integration.test_version import TINY, node, onnx_model

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


def test_the_entry_points_are_onnx_and_keras():
    found = plugins.installed("sightstream.engines")
    assert found == {"onnx": engines.Onnx, "keras": engines.Keras}


def test_an_unknown_engine_is_named_with_those_that_are_there():
    with pytest.raises(ConfigError, match=r"no engine 'torch'; there are: auto, onnx, keras"):
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
