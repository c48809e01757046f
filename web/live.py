"""The page that shows the stream at work."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import streamlit as st

from sightstream.tables import predictions
from sightstream.tables.labels import Labels
from sightstream.tables.query import Filter, snapshot
from sightstream.tables.schema import LARGE
from sightstream.terminal import shortened
from web import charts, page, pictures
from web.page import plain

if TYPE_CHECKING:
    import pyarrow as pa

# How far back to look.
SPANS = {
    "15 minutes": timedelta(minutes=15),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "all time": None,
}

ROWS = 20  # on a page

SLOTS = 400
"""Buttons of rows: Streamlit keeps what it knows of a button's key as long as the page is open."""

LOOK_SECONDS = 1.0  # between two looks at the table
BINS = 60  # points of a chart over time

REST = 9
"""How many times as long as they took figures stay: those of millions of rows take long."""


def draw() -> None:
    """Draws the page."""
    with page.page("Live"):
        path = page.settings().predictions
        if predictions.version(path) is None:
            page.missing("There is no row yet. Start the stream:", "sightstream run")
            _look_again()
            return
        with st.container(horizontal=True, vertical_alignment="bottom"):
            span = st.segmented_control(
                "The last", list(SPANS), default="day", key="span", bind="query-params"
            )
            moving = st.toggle("Refresh by itself", value=True, key="moving")
        back = SPANS[span or "all time"]
        wanted = _filter(path, back)
        st.session_state.setdefault("skip", 0)
        if st.session_state.get("asked") != (span, wanted):
            st.session_state["asked"], st.session_state["skip"] = (span, wanted), 0
        st.fragment(_rows, run_every=LOOK_SECONDS if moving else None)(path, wanted, back)
        if event := st.query_params.get("event"):
            st.dialog("Row", width="medium", position="right", on_dismiss=_close)(_details)(event)


@st.fragment(run_every=LOOK_SECONDS)
def _look_again() -> None:
    if predictions.version(page.settings().predictions) is not None:
        st.rerun()


def _filter(path: str, back: timedelta | None) -> Filter:
    """The chosen filters, without the time, which moves on with each look."""
    kinds = _kinds(path, predictions.version(path), _since(back))
    with st.expander("Filters", icon=":material/filter_alt:"):
        left, middle, right = st.columns(3)
        status = left.selectbox("Status", ["ok", "rejected"], None, placeholder="any")
        labels = middle.multiselect("Labels", kinds.labels, placeholder="any")
        low, high = right.slider("Score", 0.0, 1.0, (0.0, 1.0), 0.01)
        versions = left.multiselect(
            "Versions", kinds.versions, format_func=lambda v: f"{v[0]} {v[1]}",
            placeholder="any",
        )  # fmt: skip
        sources = middle.multiselect("Sources", kinds.sources, placeholder="any")
        scores = None if (low, high) == (0.0, 1.0) else (low, high)
    return Filter(None, status, tuple(labels), tuple(sources), tuple(versions), scores)


def _since(back: timedelta | None) -> datetime | None:
    """The start of a span; it moves in steps, so that answers can be cached for a while."""
    if back is None:
        return None
    step = back.total_seconds() / BINS
    now = datetime.now(UTC).timestamp()
    return datetime.fromtimestamp(now // step * step, UTC) - back


@page.errors_shown()  # A fragment that runs again runs outside of its page.
def _rows(path: str, wanted: Filter, back: timedelta | None) -> None:
    if event := st.session_state.pop("opened", None):
        st.query_params["event"] = event
        st.rerun()
    skip, version = st.session_state["skip"], predictions.version(path)
    if version is None:
        st.rerun()
    asked = wanted, back
    kept, until, trend = st.session_state.get("figures", (None, 0.0, None))
    due = kept != asked or time.monotonic() >= until
    rows, found, took = _look(path, version, replace(wanted, since=_since(back)), skip, due=due)
    if found is not None:
        trend = found
        st.session_state["figures"] = asked, time.monotonic() + REST * took, trend
    if not trend.num_rows:
        sentence = "No row matches. Choose a longer time or other filters, or send an image:"
        page.missing(sentence, "sightstream drop photo.jpg")
        return
    charts.overview(trend, page.zone())
    images = sum(r["images"] for r in trend.to_pylist() if r["whole"])
    _pages(skip, len(rows), images)
    for row in rows:
        _row(row)


def _pages(skip: int, count: int, images: int) -> None:
    def move(by: int) -> None:
        st.session_state["skip"] = max(0, skip + by)

    with st.container(horizontal=True, vertical_alignment="center"):
        st.text(f"Rows {skip + 1:,} to {skip + count:,} of {images:,}, the newest first")
        st.space("stretch")
        st.button(
            "Newer", icon=":material/chevron_left:", disabled=not skip, on_click=move,
            args=(-ROWS,), key="newer",
        )  # fmt: skip
        st.button(
            "Older", icon=":material/chevron_right:", disabled=skip + count >= images,
            on_click=move, args=(ROWS,), key="older",
        )  # fmt: skip


def _row(row: dict[str, Any]) -> None:
    name = row["original_name"] or row["event_id"]
    picture = pictures.thumbnail(row, 128)
    with st.container(horizontal=True, vertical_alignment="center", gap="medium", border=True):
        with st.container(width=72):
            pictures.show(picture, shortened(name), 56)
        with st.container(width="stretch", gap=None):
            st.text(shortened(name))
            st.caption(plain(f"{page.when(row['event_time'])} · {row['source']}"))
        with st.container(width=280):
            if row["status"] == "ok":
                score = f"{plain(shortened(row['label'], 32))} · {row['score']:.1%}"
                st.progress(min(1.0, max(0.0, row["score"])), score)
            else:
                st.badge(plain(row["error_code"] or "rejected"), color="orange")
        with st.container(width=110):
            st.caption(plain(f"{row['model'] or ''} {row['model_version'] or ''}"))
        st.button(
            "Open", key=f"open {_slot(row['event_id'])}", icon=":material/open_in_full:",
            help="Everything that is known about it", on_click=_open, args=(row["event_id"],),
        )  # fmt: skip


def _slot(event: str) -> int:
    """The number of a row's button: a new one, or that of the row that was drawn longest ago."""
    slots: dict[str, int] = st.session_state.setdefault("slots", {})
    number = slots.pop(event, None)
    if number is None:
        number = len(slots) if len(slots) < SLOTS else slots.pop(next(iter(slots)))
    slots[event] = number
    return number


def _open(event: str) -> None:
    st.session_state["opened"] = event


def _close() -> None:
    st.query_params.pop("event", None)


def _details(event: str) -> None:
    settings = page.settings()
    with snapshot(settings.predictions) as now:
        row = now.row(event)
    if row is None:
        st.warning("There is no such row.")
        return
    name = row["original_name"] or event
    pictures.show(pictures.thumbnail(row, 640), name, 360)
    st.text(name)
    for each in row["top"] or ():
        st.progress(min(1.0, each["score"]), f"{plain(each['label'])} · {each['score']:.2%}")
    if row["error_code"]:
        sentence = f"**{plain(row['error_code'])}**: {plain(row['error_detail'] or '')}"
        st.warning(sentence, icon=":material/block:")
    for label in Labels(settings.labels).current().to_pylist():
        if label["event_id"] == event:
            st.success(f"Labelled as **{plain(label['label'])}**", icon=":material/label:")
    shown = {key: v for key, v in row.items() if key not in LARGE and v is not None}
    for each in row.get("also") or ():
        score = "no answer" if each["label"] is None else f"{each['label']} {each['score']:.4f}"
        shown[f"{each['model']}@{each['alias']}"] = score
    page.facts(shown)


@st.cache_data(max_entries=8, ttl=60, show_spinner=False)
def _look(
    path: str, version: int, wanted: Filter, skip: int, *, due: bool
) -> tuple[list[dict[str, Any]], pa.Table | None, float]:
    """Rows of a version of the table; figures where they are due, and the seconds they took."""
    with snapshot(path, since=wanted.since) as now:
        rows, begin = now.newest(wanted, ROWS, skip=skip), time.monotonic()
        trend = now.trend(wanted, BINS) if due else None
        return rows, trend, time.monotonic() - begin


@st.cache_data(max_entries=8, ttl=60, show_spinner=False)
def _kinds(path: str, version: int | None, since: datetime | None) -> Filter:
    with snapshot(path, since=since) as now:
        return now.kinds(since)


if __name__ == "__main__":
    draw()
