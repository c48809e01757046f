"""predictions: a table in a store that refuses, or forgets to answer, holds each row once."""

import os
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from sightstream.tables.predictions import Predictions
from sightstream.tables.schema import ROW
from tests import objects
from tests.chaos.store import Store

TODAY = datetime(2025, 11, 21, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with objects.running(tmp_path_factory.mktemp("objects"), "tables") as environment:
        proxy, before = Store(environment["AWS_ENDPOINT_URL"]), dict(os.environ)
        os.environ.update(environment | {"AWS_ENDPOINT_URL": proxy.address})
        yield proxy
        os.environ.clear()
        os.environ.update(before)
        proxy.end()


@pytest.fixture
def once(store):
    """Has the store do what a mode says, once: at the next request for a part of a table."""

    def arm(mode, method, part):
        armed = [True]
        store.mode = mode
        store.faulty = lambda m, path: m == method and part in path and bool(armed and armed.pop())
        return armed

    yield arm
    store.mode = "good"


def rows(*names):
    columns = {"source": "kafka", "status": "ok", "processed_at": TODAY, "date": TODAY.date()}
    return pa.Table.from_pylist([{"event_id": name, **columns} for name in names], ROW)


def ids(path):
    return sorted(DeltaTable(path).to_pyarrow_table(columns=["event_id"])["event_id"].to_pylist())


@pytest.mark.parametrize("part", ["_delta_log", ".parquet"])
@pytest.mark.parametrize("mode", ["forgets", "refuses"])
def test_a_micro_batch_is_in_the_table_once(store, once, mode, part):
    path = f"s3://tables/{mode}-{part[1:]}"
    table = Predictions(path)
    table.append(rows("1", "2"), "checkpoint", 0)
    armed = once(mode, "PUT", part)
    assert table.append(rows("3", "4"), "checkpoint", 1).num_rows == 2
    assert not armed
    assert table.append(rows("5"), "checkpoint", 2).num_rows == 1
    assert ids(path) == ["1", "2", "3", "4", "5"]
    assert table.last_batch("checkpoint") == 2


def test_a_micro_batch_that_another_commit_preceded_is_still_written(store, once):
    path = "s3://tables/others"
    ours, theirs = Predictions(path), Predictions(path)
    theirs.append(rows("1"), "other", 7)
    once("forgets", "PUT", "_delta_log")
    ours.append(rows("2"), "checkpoint", 7)
    assert ids(path) == ["1", "2"]
