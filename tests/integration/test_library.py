"""The library in a session of anybody's: docs/library.md as it stands, and what it promises."""

import gc
import os
import re
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import pytest

import sightstream
from sightstream import classify, classify_udf, load_model, predict
from sightstream.config import ENV_PREFIX, Settings
from sightstream.scoring import results
from sightstream.scoring.udf import identity
from sightstream.tables.schema import RESULT, RESULT_COLUMNS, ddl
from tests import tiny_model

PAGE = Path(sightstream.__file__).parents[1] / "docs" / "library.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The current folder: a home with the model leaf, and photos of which two are broken."""
    folder = tmp_path_factory.mktemp("library")
    before = Path.cwd()
    os.chdir(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name in [each for each in os.environ if each.startswith(ENV_PREFIX)]:
            patch.delenv(name)
        settings = Settings(home=folder / "data")
        tiny_model.register(settings, "leaf", folder / "version")
        tiny_model.photograph(folder / "photos" / "light.png", 250)
        tiny_model.photograph(folder / "photos" / "a dark%20one.jpg", 5)
        (folder / "photos" / "no image.txt").write_text("words")
        torn = (folder / "photos" / "light.png").read_bytes()[:60]
        (folder / "photos" / "torn.png").write_bytes(torn)
        yield folder
    os.chdir(before)


@pytest.fixture(scope="module")
def spark(place):
    """A session with default options, which sightstream did not start."""
    from pyspark.sql import SparkSession

    from sightstream.runtime.spark import stop

    with pytest.MonkeyPatch.context() as patch:
        # As in an activated environment, whose Python Spark finds by itself.
        patch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        patch.delenv("PYSPARK_PYTHON", raising=False)
        session = SparkSession.builder.master("local[2]").getOrCreate()
        yield session
        stop(session)


@pytest.fixture(scope="module")
def model(place):
    return load_model("leaf@champion")


def files(spark):
    return spark.read.format("binaryFile").load("photos")


def by_name(rows, *columns):
    """The values of columns, by the name of the file."""
    found = rows.select("path", *columns).collect()
    return {row["path"].rpartition("/")[2]: tuple(row)[1:] for row in found}


STATUS = {
    "light.png": ("ok", "bright", None),
    "a dark%20one.jpg": ("ok", "dark", None),
    "no image.txt": ("rejected", None, "unsupported_format"),
    "torn.png": ("rejected", None, "truncated"),
}


def test_the_examples_of_the_page_run(spark, place, capsys):
    names = {}
    for block in BLOCKS:
        exec(compile(block, str(PAGE), "exec"), names)
    assert len(BLOCKS) == 7
    said = capsys.readouterr().out
    assert "[('ok', 'bright', None), ('rejected', None, 'unsupported_format')]" in said
    assert "unsupported_format" in said
    assert names["spark"].table("answers").filter("label is not null").count() == 2


def test_the_page_lists_the_columns():
    listed = PAGE.read_text().partition("<!-- columns -->\n")[2].partition("<!-- /columns -->")[0]
    types = [ddl([column]).removeprefix(f"{column.name} ") for column in RESULT_COLUMNS]
    rows = [
        f"| `{column.name}` | {type_} | {column.meaning} |\n"
        for column, type_ in zip(RESULT_COLUMNS, types, strict=True)
    ]
    assert listed == "| column | type | meaning |\n|---|---|---|\n" + "".join(rows)


@pytest.mark.parametrize("image", ["content", "path"])
def test_rows_get_the_columns_of_an_answer(spark, model, image):
    rows = classify(files(spark), model, image=image)
    assert rows.columns == ["path", "modificationTime", "length", "content", *RESULT.names]
    assert by_name(rows, "status", "label", "error_code") == STATUS
    (row,) = rows.filter("path like '%light.png'").collect()
    assert (row.model, row.model_version) == ("leaf", 1)
    assert (row.format, row.width, row.height) == ("PNG", 32, 24)
    assert [each.label for each in row.top] == ["bright", "grey", "dark"]
    assert row.top[0].score == row.score > 0.9


def test_the_address_in_a_file_s_metadata_works_too(spark, model):
    rows = files(spark).selectExpr("path", "_metadata.file_path AS uri")
    assert by_name(classify(rows, model, "uri"), "status", "label", "error_code") == STATUS


def test_predict_answers_alike(spark, model, place):
    paths = [f"photos/{name}" for name in STATUS]
    answers = predict(paths, model)
    rows = {row["path"].rpartition("/")[2]: row for row in classify(files(spark), model).collect()}
    for name, answer in zip(STATUS, answers, strict=True):
        assert answer == {key: rows[name].asDict(recursive=True)[key] for key in RESULT.names}


def test_a_null_is_rejected(spark, model):
    rows = classify(spark.sql("select cast(null as binary) as content"), model)
    (row,) = rows.collect()
    assert (row.status, row.error_code) == ("rejected", "empty")
    assert row.error_detail == "There is no image: the value is null."


def test_no_rows_and_more_rows_than_a_piece(spark, model, place):
    light = files(spark).filter("path like '%light.png'").select("content")
    many = light.crossJoin(spark.range(1000))
    assert classify(light.limit(0), model).count() == 0
    assert classify(many, model).filter("label = 'bright'").count() == 1000


def test_each_image_is_classified_once(spark, model, monkeypatch):
    seen = spark.sparkContext.accumulator(0)

    class Counting(results._Results):
        def __call__(self, images):
            seen.add(len(images))
            return super().__call__(images)

    monkeypatch.setattr(results, "_Results", Counting)
    rows = classify(files(spark), model)
    asked = rows.filter("score > 0.5 and label = 'bright'").select("label", "score", "top")
    assert len(asked.collect()) == 1
    assert seen.value == len(STATUS)


def test_a_model_is_broadcast_once_and_freed_after_its_last_use(spark, model):
    other = replace(model, name="another")
    key = spark.sparkContext.applicationId, identity(other)
    function = classify_udf(other)
    broadcast = weakref.ref(results._broadcasts[key])
    again = classify_udf(replace(other))
    assert results._broadcasts[key] is broadcast()
    del function, again
    gc.collect()
    assert broadcast() is None
    assert key not in results._broadcasts


def test_two_models_answer_in_one_query(spark, model, place):
    tiny_model.write_version(place / "turned", ("dunkel", "hell", "grau"))
    other = load_model(place / "turned")
    both = files(spark).select(
        "path",
        classify_udf(model)("content").label.alias("a"),
        classify_udf(other)("content").label.alias("b"),
    )
    assert by_name(both, "a", "b")["light.png"] == ("bright", "dunkel")


def test_what_deletes_the_bytes_of_a_broadcast_model(spark):
    """Contract with pyspark: a broadcast's value is read again after `_value` was deleted."""
    broadcast = spark.sparkContext.broadcast([1])
    assert broadcast.value == [1]
    assert vars(broadcast).pop("_value") == [1]
    assert broadcast.value == [1]


def test_the_session_s_workers_keep_their_signal_handlers(spark, model):
    from pyspark.sql.functions import udf

    @udf("string")
    def handler(_):
        import signal

        return signal.getsignal(signal.SIGALRM).name

    classify(files(spark), model).count()
    assert {row[0] for row in spark.range(8).select(handler("id")).collect()} == {"SIG_DFL"}
