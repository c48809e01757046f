"""Spark's progress events as phases of a micro-batch, the quick way and the public one."""

import json
from types import SimpleNamespace

import pytest

from streaming.observe.listener import Events, record
from tests.streams import Sink


@pytest.mark.parametrize("waited", [{"latestOffset": 150}, {}], ids=["waited", "planned before"])
def test_the_wait_for_images_is_no_part_of_a_micro_batch(waited):
    durations = {"addBatch": 40, "triggerExecution": 50 + sum(waited.values()), **waited}
    record(durations, sink := Sink())
    assert sink.phases == pytest.approx({"add_batch": 0.04, "trigger_execution": 0.05})


def test_a_look_without_a_micro_batch_has_no_phases():
    record({"latestOffset": 150, "triggerExecution": 151}, sink := Sink())
    assert sink.phases == {}


def test_an_event_of_the_jvm_is_read_from_its_json():
    text = json.dumps({"durationMs": {"addBatch": 40}})
    event = SimpleNamespace(progress=lambda: SimpleNamespace(json=lambda: text))
    Events(sink := Sink()).onQueryProgress(event)
    assert sink.phases == {"add_batch": 0.04}


def test_an_idle_query_is_progress_too():
    Events(sink := Sink()).onQueryIdle(None)
    assert sink.idles == 1
