"""web.live: a page that stays open beside a stream whose rows come and go."""

import itertools
from datetime import UTC, datetime
from math import inf
from pathlib import Path

import pyarrow as pa
import pytest
from streamlit.testing.v1 import AppTest

from sightstream.tables.predictions import Predictions
from sightstream.tables.schema import ROW
from web import app, live


@pytest.fixture
def arrive(settings):
    """Appends rows to the table, the newest last, and returns their event ids."""
    table, numbers = Predictions(settings.predictions), itertools.count()

    def append(count):
        now = datetime.now(UTC)
        event_ids = [f"event {next(numbers)}" for _ in range(count)]
        required = {
            "source": "folder", "status": "rejected", "error_code": "corrupt", "event_time": now,
            "processed_at": now, "date": now.date(),
        }  # fmt: skip
        rows = [{"event_id": each, **required} for each in event_ids]
        table.append(pa.Table.from_pylist(rows, ROW), "app", (table.last_batch("app") or 0) + 1)
        return event_ids

    return append


@pytest.fixture
def page(settings, arrive, monkeypatch):
    """The page Live of a home with some rows."""
    monkeypatch.setenv("SIGHTSTREAM_HOME", str(settings.root))
    arrive(live.ROWS)
    seen = AppTest.from_file(str(Path(app.__file__)), default_timeout=60)
    seen.run()
    return seen.switch_page("live.py").run()


def buttons(seen):
    assert not seen.exception, seen.exception
    found = [each for each in seen.button if each.label == "Open"]
    assert len({each.key for each in found}) == len(found) == live.ROWS
    return found


@pytest.mark.slow  # it draws the page some twenty times
def test_it_keeps_no_more_of_rows_that_went_by(page, arrive):
    keys = {each.key for each in buttons(page)}
    for _ in range(live.SLOTS // live.ROWS + 5):
        arrive(live.ROWS)
        keys |= {each.key for each in buttons(page.run())}
    assert len(keys) == live.SLOTS


def test_a_row_keeps_its_button_while_it_is_shown(page, arrive):
    before = [each.key for each in buttons(page)]
    arrive(3)
    assert [each.key for each in buttons(page.run())][3:] == before[:-3]


def test_a_row_that_went_by_at_the_moment_of_the_click_is_opened(page, arrive):
    newest = next(each.value for each in page.text if each.value.startswith("event "))
    (first, *_) = buttons(page)
    arrive(live.ROWS)
    first.click().run()
    assert page.query_params["event"] == newest


def test_figures_of_a_large_table_rest_while_its_rows_go_on(page, arrive):
    def images():
        (found,) = (each.value for each in page.metric if each.label == "Images")
        return int(found)

    asked, _, trend = page.session_state["figures"]
    before = buttons(page)[0].key
    page.session_state["figures"] = asked, inf, trend
    arrive(live.ROWS)
    page.run()
    assert buttons(page)[0].key != before
    assert images() == live.ROWS
    page.session_state["figures"] = asked, 0.0, trend
    page.run()
    assert images() == 2 * live.ROWS
