"""streaming.job: a stream from its start to its end, without Spark."""

from threading import Event
from types import SimpleNamespace

import pytest

from sightstream.errors import StreamFailedError
from streaming import job, query
from tests.streams import Checkpoint, Running, Source, Table


@pytest.fixture
def make(tmp_path):
    def made(ids="abcde", table=None):
        place = tmp_path / "checkpoint"
        return Running(Source(place, ids), table or Table(), Checkpoint(place))

    return made


def sample(running, name, **labels):
    return running.metrics.registry.get_sample_value(name, labels)


def stepping(running, monkeypatch):
    """Lets Spark run a micro-batch whenever the stream waits, so that no thread is needed."""
    stop = Event()
    stop.wait = lambda _=None: not running.spark.step() and stop.is_set()
    return stop


def test_it_drains_and_ends_when_all_is_classified(make, monkeypatch):
    running = make()
    assert running.stream.drain() == running.stream.behind == 5
    running.stream.start()
    running.stream.finish(stepping(running, monkeypatch))
    assert running.stream.behind == 0
    assert running.table.counts == dict.fromkeys("abcde", 1)
    assert running.shown == [*"abcde"]


def test_the_figures_are_there_before_the_first_row_and_follow_it(make):
    running = make()
    assert sample(running, "sightstream_images_behind") == 5
    assert sample(running, "sightstream_images_total", source="folder", outcome="ok") == 0
    running.run()
    assert sample(running, "sightstream_images_behind") == 0
    assert sample(running, "sightstream_images_total", source="folder", outcome="ok") == 5
    assert sample(running, "sightstream_batches_total") == 3


def test_a_failure_in_between_costs_nothing_and_is_counted(make, monkeypatch):
    running, failures = make(), iter([True, True, False])
    append = running.table.append

    def unsteady(*arguments):
        if next(failures, False):
            raise OSError("the disk is full")
        return append(*arguments)

    running.table.append = unsteady
    monkeypatch.setattr(query, "LONGEST_PAUSE", 0.001)
    running.stream.start()
    running.stream.finish(stepping(running, monkeypatch))
    assert running.table.counts == dict.fromkeys("abcde", 1)
    assert running.restarts == 2


def test_it_gives_up_in_the_end_and_a_later_start_goes_on(make, monkeypatch):
    running = make()
    append = running.table.append

    def full(*_):
        raise OSError("the disk is full")

    running.table.append = full
    monkeypatch.setattr(query, "LONGEST_PAUSE", 0.001)
    running.stream.start()
    with pytest.raises(StreamFailedError, match="8 times in a row: the disk is full"):
        running.stream.finish(stepping(running, monkeypatch))
    running.table.append = append
    Running(Source(running.source.checkpoint, "abcde"), running.table, running.checkpoint).run()
    assert running.table.counts == dict.fromkeys("abcde", 1)


def test_a_stop_leaves_the_rest_to_the_next_start(make):
    running = make()
    running.query.start()
    running.spark.step()
    running.stream.stop()
    assert not running.spark.step()
    assert running.stream.behind == 3
    Running(Source(running.source.checkpoint, "abcde"), running.table, running.checkpoint).run()
    assert running.table.counts == dict.fromkeys("abcde", 1)


def test_no_question_goes_to_a_spark_that_has_ended(make):
    running = make().run()
    running.stream.alive = lambda: False
    running.stream.stop()
    assert running.spark.isActive
    assert running.stopping.is_set()


def test_a_new_version_is_loaded_before_it_answers_and_counted_from_zero(make):
    running = make()
    elm = SimpleNamespace(name="leaf", version=2, labels=("elm",), reference=None)
    running.stream.ready(elm)
    assert running.workers.loaded == [elm]
    counted = {"label": "elm", "model_version": "2"}
    samples = [
        each for family in running.metrics.registry.collect() for each in family.samples
        if each.name == "sightstream_predictions_total" and counted.items() <= each.labels.items()
    ]  # fmt: skip
    assert [each.value for each in samples] == [0]


def test_a_model_that_does_not_load_ahead_is_left_to_the_first_micro_batch(make):
    running = make()

    def broken(_):
        raise RuntimeError("no worker")

    running.workers.load = broken
    running.stream._warm_up()
    running.run()
    assert running.table.counts == dict.fromkeys("abcde", 1)


def test_it_is_idle_while_nothing_waits(make):
    running = make()
    assert running.stream.idle == 0
    running.run()
    assert running.stream.idle > 0


def test_its_sources_watch_until_the_same_moment(make):
    running, stop = make(), Event()
    running.stream.watch(stop)
    assert running.source.watched is stop


@pytest.mark.parametrize("alive", [True, False])
def test_an_error_after_the_end_of_spark_tells_of_that_end(monkeypatch, alive):
    monkeypatch.setattr(job.spark, "is_alive", lambda session: alive)
    expected = ConnectionError if alive else StreamFailedError
    with pytest.raises(expected), job._end_of_spark("session", "the logs"):
        raise ConnectionError("refused")


def test_images_that_have_a_row_already_are_counted(make, monkeypatch):
    running = make("abcab")
    monkeypatch.setattr(running.source, "first", lambda rows: rows.slice(0, 1))
    running.stream.start()
    running.stream.finish(stepping(running, monkeypatch))
    assert (running.stream.repeats, running.stream.images) == (2, 5)
    assert sum(running.table.counts.values()) == 3
