"""sightstream.scoring.api: what it refuses, and what importing it costs; no Spark is started."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from pyspark.sql.types import BinaryType, LongType, StringType, StructType

import sightstream
from sightstream import classify, load_model, predict
from sightstream.errors import ConfigError, InputError, ModelDamagedError, ModelNotFoundError
from sightstream.scoring import udf
from sightstream.scoring.udf import identity
from tests import tiny_model


@pytest.fixture
def files(tmp_path):
    tiny_model.write_version(tmp_path / "bright-or-dark")
    return tmp_path / "bright-or-dark"


@pytest.fixture
def model(files, settings):
    return load_model(files)


def rows(**columns):
    """A DataFrame as far as its schema."""
    schema = StructType()
    for name, kind in columns.items():
        schema.add(name, kind())
    return SimpleNamespace(schema=schema)


def test_a_column_that_is_not_there(model):
    with pytest.raises(InputError, match=r"no column 'content' among path, value; set image="):
        classify(rows(path=StringType, value=BinaryType), model)


def test_a_column_of_another_type(model):
    with pytest.raises(InputError, match="'length' is of type long; images are binary"):
        classify(rows(length=LongType), model, image="length")


def test_columns_of_the_same_name(model):
    taken = rows(content=BinaryType, Label=StringType, score=LongType)
    with pytest.raises(InputError) as raised:
        classify(taken, model)
    assert "'Label', 'score'" in str(raised.value)
    assert "df.drop('Label', 'score')" in str(raised.value)


@pytest.mark.parametrize("other", ["bright-or-dark", None])
def test_what_is_no_model(other):
    with pytest.raises(TypeError, match=r"is no loaded model; write: load_model\("):
        predict([b""], other)


def test_what_is_no_dataframe_of_spark(model):
    with pytest.raises(TypeError, match="takes a DataFrame of Spark, and not <class 'list'>"):
        classify([b""], model)


def test_a_column_in_place_of_its_name(model):
    with pytest.raises(TypeError, match="image is the name of a column, and not <class 'tuple'>"):
        classify(rows(content=BinaryType), model, image=("content",))


def test_what_is_no_image(model):
    with pytest.raises(TypeError, match="its path or its uri, and not 3 of <class 'int'>"):
        predict([3], model)


@pytest.mark.parametrize("limit", ["top_k", "max_bytes", "max_pixels"])
def test_a_limit_of_nothing(model, limit):
    with pytest.raises(ValueError, match=limit):
        predict([], model, **{limit: 0})


def test_a_folder_is_a_model(model, files):
    assert (model.name, model.version, model.engine) == ("bright-or-dark", 0, "onnx")


def test_a_folder_whose_files_were_changed(files, settings):
    (files / "model.onnx").write_bytes(b"another")
    with pytest.raises(ModelDamagedError, match=r"model\.onnx is not the file"):
        load_model(files)


@pytest.mark.parametrize("which", ["leaf", "leaf@champion", "leaf@3"])
def test_a_model_that_is_not_there(settings, tmp_path, which):
    with pytest.raises(ModelNotFoundError, match="no version of 'leaf'"):
        load_model(which, home=tmp_path / "home")


def test_a_version_of_the_registry(settings, tmp_path):
    tiny_model.register(settings, "leaf", tmp_path / "files")
    names = [str(load_model(f"leaf{at}", home=settings.home)) for at in ("", "@champion", "@1")]
    assert names == ["leaf version 1"] * 3


def test_predict(model, tmp_path):
    path = tiny_model.photograph(tmp_path / "a b.png", 250)
    images = [path, str(path), path.as_uri(), path.read_bytes(), b"", None, tmp_path / "none.jpg"]
    answers = predict(images, model, top_k=2)
    assert [each["label"] for each in answers] == ["bright"] * 4 + [None] * 3
    assert [each["error_code"] for each in answers[4:]] == ["empty", "empty", "not_found"]
    assert {len(each["top"]) for each in answers[:4]} == {2}
    assert {each["model"] for each in answers} == {"bright-or-dark"}


def test_predict_keeps_limits(model, tmp_path):
    path = tiny_model.photograph(tmp_path / "a.png", 250)
    (small,) = predict([path], model, max_bytes=10)
    (wide,) = predict([path], model, max_pixels=10)
    assert (small["error_code"], wide["error_code"]) == ("too_large", "too_many_pixels")


@pytest.mark.parametrize("one", ["a.jpg", b"content"])
def test_predict_takes_a_list(model, one):
    with pytest.raises(TypeError, match="list of images"):
        predict(one, model)


def test_predict_of_more_images_than_a_piece(model, tmp_path):
    content = tiny_model.photograph(tmp_path / "a.png", 0).read_bytes()
    assert [each["label"] for each in predict([content] * 300, model)] == ["dark"] * 300


def test_models_of_one_name_and_number_are_told_apart(model, tmp_path):
    tiny_model.write_version(tmp_path / "other" / model.name, ("x", "y", "z"))
    other = load_model(tmp_path / "other" / model.name)
    assert (other.name, other.version) == (model.name, model.version)
    assert identity(other) != identity(model)
    content = tiny_model.photograph(tmp_path / "a.png", 250).read_bytes()
    labels = [predict([content], each)[0]["label"] for each in (model, other, model)]
    assert labels == ["bright", "x", "bright"]


def test_few_models_stay_loaded(model):
    for top_k in range(1, 2 * udf.KEPT):
        predict([b""], model, top_k=top_k)
    assert len(udf._loaded) == udf.KEPT


IMPORT = """
import os, signal, sys, time, warnings
before = dict(os.environ), list(warnings.filters), signal.getsignal(signal.SIGINT)
begin = time.process_time()
from sightstream import classify, classify_udf, load_model, predict
seconds = time.process_time() - begin
assert before == (dict(os.environ), list(warnings.filters), signal.getsignal(signal.SIGINT))
heavy = {"numpy", "pyarrow", "PIL", "pyspark", "mlflow", "onnxruntime", "pandas"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
print(seconds)
"""


def test_importing_changes_nothing_and_is_quick():
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, text=True, timeout=60, check=True
    )
    assert float(done.stdout) < 0.1


def test_the_door_is_all_there_is():
    assert all(callable(getattr(sightstream, name)) for name in sightstream.__all__)
    with pytest.raises(AttributeError, match="no attribute 'classifier_of'"):
        _ = sightstream.classifier_of


@pytest.mark.parametrize("which", ["leaf@", "@3", "leaf@1@2", "a leaf"])
def test_what_names_no_version_is_told_the_forms(settings, tmp_path, which):
    with pytest.raises(ConfigError, match="NAME, NAME@ALIAS or NAME@NUMBER, not"):
        load_model(which, home=tmp_path / "home")
