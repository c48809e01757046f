"""The page that asks people what images show, the least certain answers first."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from sightstream.errors import InputError, SightstreamError
from sightstream.tables import predictions
from sightstream.tables.labels import Labels, user
from sightstream.tables.query import snapshot
from sightstream.terminal import shortened
from web import page, pictures
from web.page import plain

QUEUE = 50  # rows that are asked for at once
KEYS = 9  # labels with a button and a key of their own
SIDE = 480  # pixels of the picture's longest side

Row = dict[str, Any]


def draw() -> None:
    """Draws the page."""
    with page.page("Label"):
        settings = page.settings()
        if predictions.version(settings.predictions) is None:
            page.missing("There is no row yet. Start the stream:", "sightstream run")
            return
        model = _model(settings.predictions)
        if model is None:
            page.missing("No image was classified yet. Send some:", "sightstream drop photos/")
            return
        state = st.session_state
        if state.get("labelling") != model:
            state.update(labelling=model, queue=[], done=[], skipped=set())
        if not state.queue:
            with snapshot(settings.predictions, labels=settings.labels) as now:
                state.queue = now.uncertain(model, QUEUE, state.skipped)
        _report()
        if state.queue:
            _ask(model, state.queue[0])
        else:
            st.success(f"Every row of {plain(model)} is labelled.", icon=":material/check:")
            page.missing("The next refresh learns from that:", f"sightstream refresh {model}")


def _model(path: str) -> str | None:
    with snapshot(path) as now:
        names = sorted({model for model, _ in now.kinds().versions})
    return page.choice(names) if names else None


def _ask(model: str, row: Row) -> None:
    left, right = st.columns([1, 1], gap="large")
    name = row["original_name"] or row["event_id"]
    with left:
        pictures.show(pictures.thumbnail(row, SIDE), name, SIDE)
        st.text(shortened(name))
        st.caption(plain(f"{page.when(row['event_time'])} · {model} {row['model_version']}"))
    with right:
        scores = {each["label"]: each["score"] for each in row["top"] or ()}
        known = _labels(model) or tuple(scores)
        st.markdown("**What does it show?**")
        keys = _keys(list(scores), known)
        places = st.columns(2 if max(len(label) for _, label in keys) < 16 else 1)
        for number, (key, label) in enumerate(keys):
            shown = f"{label} · {scores[label]:.1%}" if label in scores else label
            places[number % len(places)].button(
                plain(shown), shortcut=key, key=f"{row['event_id']} {key}", width="stretch",
                type="primary" if label == row["label"] else "secondary",
                on_click=_put, args=(row, label, known),
            )  # fmt: skip
        with st.form("another", border=False, clear_on_submit=True):
            other = st.selectbox(
                "Another label", sorted(known), None, accept_new_options=True,
                placeholder="choose one, or write a new one",
            )  # fmt: skip
            if st.form_submit_button("Save", icon=":material/save:") and other:
                _put(row, other, known)
                st.rerun()
        with st.container(horizontal=True):
            st.button("Skip", shortcut="S", icon=":material/skip_next:", on_click=_skip, key="skip")
            st.button(
                "Undo", shortcut="U", icon=":material/undo:", on_click=_undo, key="undo",
                disabled=not st.session_state.done,
            )  # fmt: skip


def _keys(best: Sequence[str], known: Sequence[str]) -> list[tuple[str, str]]:
    """Labels with their keys: the model's answers, then others; digits have their own key."""
    if len(known) <= 10 and all(len(label) == 1 and label.isdigit() for label in known):
        return [(label, label) for label in sorted(known)]
    others = [label for label in known if label not in best]
    return [(str(n), label) for n, label in enumerate([*best, *others][:KEYS], 1)]


def _put(row: Row, label: str, known: Sequence[str]) -> None:
    state = st.session_state
    try:
        Labels(page.settings().labels).put({row["event_id"]: label}, user())
    except InputError as error:
        state.report = ("error", str(error))
        return
    state.queue = [each for each in state.queue if each["event_id"] != row["event_id"]]
    state.done.append(row)
    new = "" if label in known else ", a label that the model does not know; refresh extends it"
    state.report = (
        "success",
        f"{shortened(row['original_name'] or row['event_id'])} is {label}{new}",
    )


def _undo() -> None:
    state = st.session_state
    row = state.done.pop()
    state.queue = [row, *state.queue]
    label = Labels(page.settings().labels).undo(row["event_id"], user()).label
    name = shortened(row["original_name"] or row["event_id"])
    state.report = ("info", f"{name} " + ("has no label now" if label is None else f"is {label}"))


def _skip() -> None:
    state = st.session_state
    state.skipped.add(state.queue.pop(0)["event_id"])


def _report() -> None:
    """Shows the effect of the last key, and how many images are labelled."""
    kind, text = st.session_state.pop("report", ("info", ""))
    count = len(st.session_state.done)
    if text:
        {"error": st.error, "success": st.success, "info": st.info}[kind](plain(text))
    else:
        st.caption(
            "The least certain answers come first. One key labels a picture; the blue button is "
            "the model's answer; the next refresh learns from you."
        )
    if count:
        st.caption(f"{count} labelled here since you came")


def _labels(model: str) -> tuple[str, ...]:
    """The labels of the champion; none if the registry does not answer."""
    try:
        version = page.champion_of(page.versions(page.registry(), model))
        return page.card(page.registry(), version).labels if version else ()
    except SightstreamError:
        return ()


if __name__ == "__main__":
    draw()
