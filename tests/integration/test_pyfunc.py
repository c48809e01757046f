"""pyfunc: a version is an MLflow model, and answers as the stream does."""

import base64
import json
import os
import socket
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sightstream.errors import InputError, ModelDamagedError, ModelNotFoundError
from sightstream.images.limits import Limits
from sightstream.models.registry import Registry, resolve
from sightstream.models.version import Card, write_card
from sightstream.runtime import spark
from sightstream.scoring.classifier import Classifier
from tests.conftest import end_session
from tests.integration.test_version import TINY, node, onnx_model

# MLflow's own, of its type hints, when its pyfunc module is imported.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow")

CHAMPION = "models:/tiny@champion"


def encoded(format, top, bottom):
    stream = BytesIO()
    Image.fromarray(np.array([[top], [bottom]], np.uint8)).save(stream, format)
    return stream.getvalue()


IMAGES = [encoded("PNG", 3, 1), encoded("BMP", 1, 2), b"no image", b"", encoded("PNG", 0, 0)]


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    root = tmp_path_factory.mktemp("tiny")
    (files := root / "files").mkdir()
    (files / "model.onnx").write_bytes(onnx_model(node("Softmax", ["flat"], ["answer"])))
    digest = write_card(files, Card(("a", "b"), TINY, {}, {}, onnx_difference=0.0))
    made = Registry(f"sqlite:///{root}/registry/mlflow.db")
    made.publish("tiny", files, digest, parameters={}, metrics={"f1": 1.0}, curves={})
    made.promote("tiny", 1)
    return made


@pytest.fixture
def pyfunc(registry, monkeypatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.uri)
    mlflow.set_tracking_uri(registry.uri)
    yield mlflow.pyfunc
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def expected(registry):
    """Of each image: status, error code, best label, its score."""
    model = registry.load(registry.version("tiny"))
    answers = Classifier(model, Limits(), 3)(IMAGES)
    return [
        ("rejected", a.error_code, None, None)
        if a.error_code
        else ("ok", None, model.labels[a.classes[0]], a.scores[0])
        for a in answers
    ]


def cells(rows):
    found = [(r["status"], r["error_code"], r["label"], r["score"]) for r in rows]
    return [tuple(None if cell == "" or pd.isna(cell) else cell for cell in row) for row in found]


def test_load_model_answers_as_the_classifier(pyfunc, expected):
    answers = pyfunc.load_model(CHAMPION).predict(pd.DataFrame({"image": IMAGES}, index=range(5)))
    rows = answers.to_dict("records")
    assert cells(rows) == expected
    assert [each["label"] for each in rows[0]["top"]] == ["a", "b"]
    assert (rows[0]["format"], rows[0]["width"], rows[0]["height"]) == ("PNG", 1, 2)


def test_uris_are_read_below_the_configured_prefixes_alone(pyfunc, expected, tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(IMAGES[0])
    uris = pd.DataFrame({"uri": [(tmp_path / "a.png").as_uri(), "file:///etc/passwd", None]})
    refused = pyfunc.load_model(CHAMPION).predict(uris)
    assert list(refused["error_code"]) == ["uri_refused", "uri_refused", "empty"]
    monkeypatch.setenv("SIGHTSTREAM_KAFKA_URI_PREFIXES", tmp_path.as_uri())
    read = pyfunc.load_model(CHAMPION).predict(uris)
    assert cells(read.to_dict("records"))[0] == expected[0]
    assert list(read["error_code"])[1:] == ["uri_refused", "empty"]


def test_a_damaged_file_is_found_without_the_registry(registry, tmp_path, pyfunc):
    import shutil

    copy = shutil.copytree(registry.version("tiny").folder, tmp_path / "copy")
    (copy / "model.onnx").write_bytes(b"something else")
    with pytest.raises(ModelDamagedError, match=r"model\.onnx is not the file"):
        pyfunc.load_model(str(copy))
    with pytest.raises(ModelDamagedError, match=r"model\.onnx is not the file"):
        resolve(str(copy), registry.uri)
    (copy / "version.json").write_text("{}")
    with pytest.raises(ModelDamagedError, match="does not describe a version"):
        resolve(str(copy), registry.uri)


def test_a_model_is_named_by_alias_number_or_folder(registry):
    folder = registry.version("tiny").folder
    found = [resolve(name, registry.uri) for name in ("tiny@champion", "tiny@1", "tiny")]
    assert {str(each) for each in found} == {"tiny version 1"}
    assert resolve(str(folder), "sqlite:////none").content == found[0].content
    with pytest.raises(ModelNotFoundError, match="alias 'none'"):
        resolve("tiny@none", registry.uri)
    with pytest.raises(ModelNotFoundError, match=r"it has no version\.json"):
        resolve(str(folder.parent), registry.uri)


def test_a_version_of_bare_artifacts_is_still_served(registry, tmp_path):
    """As versions were registered before they were MLflow models."""
    first, client = registry.version("tiny"), registry._client
    run = client.create_run(registry._experiment("old")).info
    client.log_artifacts(run.run_id, str(tmp_path.parent / first.folder), "model")
    (tmp_path / "index.html").write_text("a page")
    client.log_artifacts(run.run_id, str(tmp_path), "report")
    client.create_registered_model("old")
    source = f"{run.artifact_uri}/model"
    client.create_model_version("old", source, run.run_id, tags={"sha256": first.digest})
    version = registry.version("old", 1)
    assert registry.load(version).labels == ("a", "b")
    with registry.report(version) as report:
        assert (report / "index.html").read_text() == "a page"


def test_rows_without_a_column_that_it_knows_are_an_error(pyfunc):
    with pytest.raises(InputError, match="send a column `image`"):
        pyfunc.load_model(CHAMPION).predict(pd.DataFrame({"content": [b"no image"]}))


def test_spark_udf_answers_as_the_classifier(pyfunc, expected, monkeypatch):
    from pyspark.sql import SparkSession

    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    session = (
        SparkSession.builder.master("local[1]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "3")
        .getOrCreate()
    )
    try:
        answer = pyfunc.spark_udf(session, CHAMPION, env_manager="local")
        images = session.createDataFrame([(image,) for image in IMAGES], "image binary")
        rows = images.select(answer("image").alias("answer")).select("answer.*").collect()
    finally:
        spark.stop(session)
    assert cells(row.asDict() for row in rows) == expected
    assert [each["label"] for each in rows[0]["top"]] == ["a", "b"]


def test_models_serve_answers_as_the_classifier(registry, expected, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve = ["models", "serve", "-m", CHAMPION, "--env-manager", "local", "-p", str(port)]
    images = [{"image": base64.b64encode(image).decode()} for image in IMAGES]
    request = Request(
        f"http://127.0.0.1:{port}/invocations",
        json.dumps({"dataframe_records": images}).encode(),
        {"Content-Type": "application/json"},
    )
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # uvicorn among them
    environment = os.environ | {"MLFLOW_TRACKING_URI": registry.uri, "PATH": programs}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *serve],
            env=environment, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                with urlopen(request, timeout=30) as response:
                    rows = json.load(response)["predictions"]
                break
            except URLError as error:
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                assert process.poll() is None, (tmp_path / "log").read_text()
                if isinstance(error, HTTPError):
                    raise
                time.sleep(0.1)
    finally:
        end_session(process)
    assert cells(rows) == expected
