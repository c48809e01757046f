"""training.elephas: what it changes of Elephas is as it expects, and trains in Spark's workers."""

import logging
import sys
import threading

import numpy as np
import psutil
import pytest

from sightstream.errors import EnvironmentUnfitError
from sightstream.models.engines import import_keras
from sightstream.runtime import spark
from training import elephas, networks
from training.train import spark_options

WORKERS, BATCH = 2, 8


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    home = tmp_path_factory.mktemp("elephas")
    it = spark.start("train", home, "local[*,4]", options=spark_options())
    yield it
    spark.stop(it)


@pytest.fixture(scope="module")
def rows(session):
    """Points right and left of a line, with which side they are on."""
    random = np.random.default_rng(0)
    points = random.normal(size=(200, 2)).astype(np.float32)
    sides = np.eye(2, dtype=np.float32)[(points.sum(axis=1) > 0).astype(int)]
    pairs = [*zip(points, sides, strict=True)]
    return session.sparkContext.parallelize(pairs, WORKERS).cache()


@pytest.fixture
def learner():
    keras = import_keras()
    keras.utils.set_random_seed(1)
    made = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dropout(0.1), keras.layers.Dense(2, "softmax")]
    )
    made.compile(keras.optimizers.Adam(0.05), "categorical_crossentropy", metrics=["accuracy"])
    return made


def accuracy(network, rows):
    points, sides = (np.array(part) for part in zip(*rows.collect(), strict=True))
    return (network.predict(points, verbose=0).argmax(axis=1) == sides.argmax(axis=1)).mean()


def test_workers_are_forked_by_a_daemon_that_has_imported_tensorflow(session):
    def look(_):
        parent = psutil.Process().parent()
        yield {"tensorflow", "training.networks"} <= sys.modules.keys(), " ".join(parent.cmdline())

    found = session.sparkContext.parallelize(range(WORKERS), WORKERS).mapPartitions(look).collect()
    assert all(imported for imported, _ in found)
    assert all("training.daemon" in command for _, command in found)


# Contracts: a failure says that another Elephas has other insides


def test_elephas_gives_its_workers_the_fields_that_ours_read():
    elephas._takes_workers.cache_clear()
    assert elephas._takes_workers()


def test_our_workers_make_all_passes_of_a_round(learner, rows):
    train = elephas.trainer(learner, "synchronous", BATCH)
    first = train(networks.seeded(rows, 0), 5)
    assert [len(history["loss"]) for history in first] == [5] * WORKERS
    second = train(networks.seeded(rows, 5), 5)
    assert len(second) == WORKERS
    assert np.mean([h["loss"][-1] for h in second]) < np.mean([h["loss"][0] for h in first])
    assert accuracy(learner, rows) > 0.9


def test_a_round_depends_on_its_seed_alone(learner, rows):
    before = learner.get_weights()
    train = elephas.trainer(learner, "synchronous", BATCH)
    found = []
    for seed in (3, 4, 3):
        learner.set_weights(before)
        train(networks.seeded(rows, seed), 2)
        found.append(learner.get_weights()[0])
    np.testing.assert_array_equal(found[0], found[2])
    assert not np.array_equal(found[0], found[1])


def test_without_our_workers_elephas_trains_with_its_own(learner, rows, monkeypatch, caplog):
    elephas._takes_workers.cache_clear()
    monkeypatch.setattr(elephas, "_WORKER_FIELDS", {"a field that no Elephas has"})
    with caplog.at_level(logging.WARNING):
        trains = [elephas.trainer(learner, "synchronous", BATCH) for _ in range(2)]
    elephas._takes_workers.cache_clear()
    assert [r.message for r in caplog.records if r.name == elephas.__name__] == [
        "this Elephas has other workers than 7.3: they are used as they are"
    ]
    histories = trains[0](networks.seeded(rows, 0), 3)
    assert [len(history["loss"]) for history in histories] == [1] * 3 * WORKERS


@pytest.mark.parametrize("mode", ["asynchronous", "hogwild"])
def test_the_server_takes_what_workers_send_and_leaves_no_thread(learner, rows, mode):
    before = threading.active_count()
    train = elephas.trainer(learner, mode, BATCH)
    assert train(networks.seeded(rows, 0), 12) == []
    assert accuracy(learner, rows) > 0.85
    assert threading.active_count() == before


def test_a_server_of_another_kind_is_used_as_it_is(learner, monkeypatch, caplog):
    from elephas.parameter.server import SocketServer

    monkeypatch.delattr(SocketServer, "action_listener")
    with caplog.at_level(logging.WARNING):
        elephas.trainer(learner, "hogwild", BATCH)
    assert "this Elephas has another server than 7.3, which is used as it is" in caplog.text


def test_the_server_ends_with_a_training_that_fails(learner, rows):
    before = threading.active_count()
    broken = rows.map(lambda row: row[0] / "no number")
    with pytest.raises(Exception, match=r"no number|unsupported|ufunc"):
        elephas.trainer(learner, "asynchronous", BATCH)(broken, 1)
    assert threading.active_count() == before


def test_keras_lists_the_states_of_random_layers_among_its_variables(learner):
    states = [v for v in learner.variables if id(v) not in {id(w) for w in learner.weights}]
    assert [tuple(state.shape) for state in states] == [(2,)]


@pytest.mark.parametrize("installed", ["3.4.8", "7.2.0"])
def test_an_elephas_that_is_too_old_is_refused_in_one_line(installed, monkeypatch):
    monkeypatch.setattr(elephas, "version", lambda _: installed)
    with pytest.raises(EnvironmentUnfitError, match=rf"elephas {installed} is too old; .*pip") as e:
        elephas.require()
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("installed", ["7.3.0", "8.0"])
def test_an_elephas_that_fits_is_taken(installed, monkeypatch):
    monkeypatch.setattr(elephas, "version", lambda _: installed)
    elephas.require()
