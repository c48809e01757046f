"""Probes and progress events on a real Spark: the contracts with what pyspark keeps inside."""

import logging
import os
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from sightstream.models.registry import Registry
from sightstream.runtime import pyspark_inside, spark
from sightstream.tables.predictions import Predictions
from sightstream.tables.schema import ROW
from streaming import job
from streaming.folder import stuck
from streaming.observe import listener, probes
from streaming.observe.metrics import Metrics
from tests.streams import Sink


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    session = spark.start("probes", tmp_path_factory.mktemp("spark"), "local[*,4]")
    yield session
    spark.stop(session)


@pytest.fixture
def phases(session, tmp_path, until):
    """Runs a query of two micro-batches; returns the phases that a listener got."""

    def run():
        listener.listen(session, sink := Sink())
        rate = session.readStream.format("rate-micro-batch").option("rowsPerBatch", 5).load()
        query = rate.writeStream.foreachBatch(lambda batch, _: batch.count())
        query = query.option("checkpointLocation", str(tmp_path / "checkpoint")).start()
        try:
            until(lambda: sink.phases, 60)
        finally:
            query.stop()
        return sink.phases

    return run


def figures(found):
    return {(name, *labels): value for name, value, *labels in found}


def changed(name):
    """A reach into pyspark that meets another inside than it knows."""

    def reach(first, *_):
        return first.no_such_attribute

    reach.__name__ = name
    return pyspark_inside._guarded(reach)


def test_listener_contract_events_come_the_quick_way(phases, caplog):
    found = phases()
    assert {"add_batch", "trigger_execution", "wal_commit"} <= found.keys()
    assert all(seconds >= 0 for seconds in found.values())
    assert "give_whole_events" not in caplog.text


def test_events_come_the_public_way_where_pyspark_has_changed(phases, monkeypatch, caplog):
    monkeypatch.setattr(pyspark_inside, "give_whole_events", changed("events"))
    assert {"add_batch", "trigger_execution", "wal_commit"} <= phases().keys()
    assert "events" in caplog.text and "no_such_attribute" in caplog.text


def test_spark_contract_executors_and_heap_are_known(session, caplog):
    found = figures(probes.spark(session))
    assert found["spark_executors",] == 1
    assert found["spark_cores",] == session.sparkContext.defaultParallelism
    heap, storage = "spark_driver_heap_bytes", "spark_storage_bytes"
    assert 0 < found[heap, "used"] <= found[heap, "most"]
    assert 0 <= found[storage, "used"] <= found[storage, "all"]
    assert caplog.text == ""


def test_where_pyspark_has_changed_the_public_figures_are_left(session, monkeypatch, caplog):
    monkeypatch.setattr(pyspark_inside, "executors", changed("executors"))
    cores = session.sparkContext.defaultParallelism
    found = figures(probes.spark(session))
    assert found == {("spark_cores",): cores, ("spark_running_tasks",): 0}
    assert "executors" in caplog.text and "no_such_attribute" in caplog.text


def test_a_look_sets_every_gauge_of_a_home(session, settings, caplog):
    caplog.set_level(logging.WARNING)
    settings.inbox.mkdir(parents=True)
    (settings.inbox / "waits.png").touch()
    (settings.inbox / ".DS_Store").touch()
    inbox = os.fsencode(settings.inbox)
    stuck.write(settings.stuck, inbox, {inbox + b"/waits.png": "cannot be read"})
    (settings.images / "2026-05-01").mkdir(parents=True)
    table = Predictions(settings.predictions)
    metrics = Metrics()
    registry = Registry(settings.registry_address)
    looks = job._probes(settings, table, registry, "starter", session)
    probes.watch(metrics.of, looks, Ended())
    samples = [each for family in metrics.registry.collect() for each in family.samples]
    found = {each.name: each.value for each in sorted(samples, key=lambda each: each.value)}
    assert found["sightstream_inbox_files"] == found["sightstream_inbox_stuck_files"] == 1
    assert found["sightstream_oldest_image_timestamp_seconds"] == 1_777_593_600
    assert (found["sightstream_table_files"], found["sightstream_table_rows"]) == (0, 0)
    for name in ("disk_free_bytes", "spark_cores", "spark_driver_heap_bytes",
                 "memory_resident_bytes", "machine_memory_available_bytes",
                 "machine_cpu_seconds_total"):  # fmt: skip
        assert found[f"sightstream_{name}"] > 0
    assert caplog.text == ""


NOW = datetime.now(UTC)
ANSWER = {
    "event_id": "a", "source": "folder", "processed_at": NOW, "status": "ok", "date": NOW.date()
}  # fmt: skip


@pytest.mark.parametrize(("share", "seen"), [(1e9, 2), (1e-9, 1)])
def test_the_table_is_looked_at_seldom_where_that_takes_more_than_its_share(
    settings, monkeypatch, share, seen
):
    monkeypatch.setattr(probes, "TABLE_SHARE", share)
    table, look = Predictions(settings.predictions), probes.Table(settings.predictions)
    for number, files in enumerate((1, seen)):
        table.append(pa.Table.from_pylist([ANSWER], ROW), "app", number)
        assert dict(look())["table_files"] == files


class Ended:
    """An event that is set as soon as it is waited for."""

    def wait(self, _):
        return True


def test_the_disk_is_that_of_the_folder(tmp_path):
    found = figures(probes.disk(Path(tmp_path)))
    assert 0 < found["disk_free_bytes",] <= found["disk_size_bytes",]


def test_a_label_that_is_gone_goes_and_a_look_that_fails_changes_nothing():
    metrics = Metrics()
    champion, newest = (("registry_version", 1, "m", alias) for alias in ("champion", "newest"))
    found, busy = iter([[champion, newest], None, [newest]]), iter([10.0, 15.0, 12.0])
    looks = [lambda: next(found), lambda: [("machine_cpu_seconds", next(busy), "busy")]]
    ask, seen = metrics.registry.get_sample_value, []

    class Third:
        """An event that is set at the third look."""

        def wait(self, _):
            values = [
                ask("sightstream_registry_version", {"model": "m", "alias": alias})
                for alias in ("champion", "newest")
            ]
            seen.append((*values, ask("sightstream_machine_cpu_seconds_total", {"mode": "busy"})))
            return len(seen) == 3

    probes.watch(metrics.of, looks, Third())
    assert seen == [(1, 1, 10), (1, 1, 15), (None, 1, 15)]
