"""windows: DICOM's three functions by the standard's formulas, and the texts that choose one."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from sightstream.cli.main import app
from sightstream.errors import InputError
from sightstream.images.decode import Preprocessing
from sightstream.images.windows import NAMED, Window, chosen
from sightstream.models.version import Card, read_card, write_card

VALUES = np.array([-1e9, 900, 1000, 1024, 1100, 1e9])


def linear(x, c, w):  # PS3.3 C.11.2.1.2.1
    if x <= c - 0.5 - (w - 1) / 2:
        return 0
    if x > c - 0.5 + (w - 1) / 2:
        return 1
    return (x - (c - 0.5)) / (w - 1) + 0.5


def exact(x, c, w):  # C.11.2.1.3.2
    return 0 if x <= c - w / 2 else 1 if x > c + w / 2 else (x - c) / w + 0.5


def sigmoid(x, c, w):  # C.11.2.1.3.1
    return 1 / (1 + np.exp(min(700, -4 * (x - c) / w)))


@pytest.mark.parametrize(("center", "width"), [(1024, 200), (1000.5, 1), (1000, 2), (950, 333.3)])
@pytest.mark.parametrize(
    ("function", "formula"), [("LINEAR", linear), ("LINEAR_EXACT", exact), ("SIGMOID", sigmoid)]
)
def test_each_function_is_the_standards(function, formula, center, width):
    shown = Window(center, width, function).shown(VALUES)
    np.testing.assert_allclose(shown, [formula(x, center, width) for x in VALUES], atol=1e-12)


def test_a_window_of_no_width_is_a_threshold():
    assert Window(100, 0, "LINEAR_EXACT").shown(np.array([99.0, 100, 101])).tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("center", "width", "function", "valid"),
    [(0, 1, "LINEAR", True), (0, 0.5, "LINEAR", False), (0, 0.5, "SIGMOID", True),
     (0, 0, "LINEAR_EXACT", False), (float("nan"), 9, "LINEAR", False),
     (0, float("inf"), "LINEAR", False)],
)  # fmt: skip
def test_widths_that_the_functions_do_not_know(center, width, function, valid):
    assert Window(center, width, function).is_valid is valid


def test_the_text_of_a_preprocessing_chooses():
    assert [chosen(each) for each in ("", "1", "3")] == [1, 1, 3]
    assert chosen("lung") == NAMED["lung"] == Window(-600, 1500)
    assert chosen("-600/1500") == Window(-600, 1500)
    assert chosen("0.5/0.25e3") == Window(0.5, 250)


@pytest.mark.parametrize("text", ["0", "-1", "lungs", "40/", "40/0", "1/2/3", "nan/5", "/", "1.5"])
def test_other_texts_are_refused_with_what_may_stand_there(text):
    with pytest.raises(ValueError, match=r"lung.*-600/1500"):
        Preprocessing(8, 8, window=text)


def test_a_version_keeps_its_window_and_those_of_before_look_through_the_files_first(tmp_path):
    card = Card(("a", "b"), Preprocessing(8, 8, window="lung", frame="middle"), {}, {})
    write_card(tmp_path, card)
    assert read_card(tmp_path).preprocessing == card.preprocessing
    path = tmp_path / "version.json"
    fields = json.loads(path.read_text())
    for added in ("window", "frame"):
        del fields["preprocessing"][added]
    path.write_text(json.dumps(fields))
    assert read_card(tmp_path).preprocessing == Preprocessing(8, 8)


def test_models_import_takes_a_window(tmp_path):
    pytest.importorskip("onnx")
    arguments = ["models", "import", "m.onnx", "--name", "m", "--home", str(tmp_path), "--window"]
    done = CliRunner().invoke(app, [*arguments, "lungs"])
    assert isinstance(done.exception, InputError)
    assert str(done.exception).startswith("--window must be empty")
    done = CliRunner().invoke(app, [*arguments, "lung"])
    assert "m.onnx" in str(done.exception)  # which is what is missing now
