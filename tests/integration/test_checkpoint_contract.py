"""streaming.checkpoint against files that Spark itself writes."""

import pytest

from sightstream.errors import CheckpointMismatchError
from sightstream.runtime import spark
from streaming.checkpoint import app_id, offset, require_match


@pytest.fixture(scope="module")
def session(tmp_path_factory):

    home = tmp_path_factory.mktemp("home")
    made = spark.start("contract", home, "local[1]")
    yield made
    spark.stop(made)


# Which version is written is an internal option; Spark before 4.2 knows the first one alone.
@pytest.mark.parametrize("version", [1, 2])
def test_a_query_s_id_and_offsets_are_read(session, tmp_path, until, version):
    session.conf.set("spark.sql.streaming.offsetLog.formatVersion", version)
    rates = session.readStream.format("rate-micro-batch").option("rowsPerBatch", 3).load()
    writer = rates.writeStream.format("noop").option("checkpointLocation", str(tmp_path))
    query = writer.trigger(processingTime="100 milliseconds").start()
    try:
        until(lambda: (tmp_path / "commits" / "1").exists())
    finally:
        query.stop()
    assert app_id(tmp_path) == query.id
    assert [offset(tmp_path, number)["offset"] for number in (0, 1)] == [3, 6]
    assert offset(tmp_path)["offset"] % 3 == 0
    with pytest.raises(CheckpointMismatchError, match="with none"):
        require_match(tmp_path, str(tmp_path / "no table"))
