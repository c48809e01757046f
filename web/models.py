"""The page that compares the versions of a model, and moves the champion's alias."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import streamlit as st

from sightstream.errors import InputError, SightstreamError, first_line
from sightstream.models.registry import Registry, Version
from sightstream.scoring.child import Child, LostError
from sightstream.tables import predictions
from sightstream.tables.agreement import Agreement, agreement
from web import charts, page
from web.page import plain

# The figures shown first; of the last, less is better.
FIGURES = {
    "accuracy": "Accuracy",
    "f1_macro": "Macro F1",
    "top3_accuracy": "Top-3 accuracy",
    "ece": "Calibration error",
}

_REPORT = ("confusion.png", "evaluation.json", "report.html", "wrong.png")
"""Files of a report that are shown."""

DAYS = 7
"""Days of the stream on which versions are compared."""


def draw() -> None:
    """Draws the page."""
    with page.page("Models"):
        # Whatever a browser sends for a button that is off.
        if (move := st.session_state.pop("move", None)) and page.may_promote():
            _move(*move)
        with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
            name = page.model()
            if name is None:
                return
            versions = page.versions(page.registry(), name)
            if not versions:
                page.missing(f"{name} has no version yet. Train one:", f"sightstream train {name}")
                return
            _aliases(name, versions)
        if not page.may_promote():
            st.caption(
                "Promoting and rolling back are off, since this page is open to other machines. "
                "The setting `web_promote` turns them on."
            )
        pair = _pair(versions)
        _figures(pair)
        _live(name, pair)
        _table(versions)
        _details(pair)


def _aliases(name: str, versions: list[Version]) -> None:
    """Draws the buttons that change the champion."""
    champion, allowed = page.champion_of(versions), page.may_promote()
    earlier = page.registry().earlier(name) if champion else None
    others = [v for v in versions if v is not champion]
    off = None if allowed else "Off, since this page is open to other machines: see web_promote."
    chosen = st.selectbox(
        "Version to promote", others, disabled=not others, width=280, format_func=_title,
        placeholder="there is no other",
    )  # fmt: skip
    number = chosen.number if chosen else None
    if st.button(
        "Promote…", icon=":material/arrow_upward:", disabled=not (allowed and number), help=off
    ):
        _confirm(f"Make version {number} the champion?", number, "Promote", name, number)
    back = f"Roll back to version {earlier}…" if earlier else "Roll back…"
    if st.button(
        back, icon=":material/undo:", disabled=not (allowed and earlier),
        help=off or (None if earlier else "There was no champion before this one."),
    ):  # fmt: skip
        _confirm(f"Roll back to version {earlier}?", earlier, "Roll back", name, None)


def _confirm(question: str, future: int | None, verb: str, name: str, number: int | None) -> None:
    def decide() -> None:
        st.session_state["move"] = name, number

    def body() -> None:
        st.text(f"The stream takes version {future} of {name} at its next micro-batch.")
        st.text("Its files are verified first, and it must answer a test image.")
        with st.container(horizontal=True):
            sure = st.button(verb, type="primary", key="sure", on_click=decide)
            if st.button("Cancel", key="cancel") or sure:
                st.rerun()

    st.dialog(question)(body)()


def _move(name: str, number: int | None) -> None:
    """Promotes or rolls back (None), in a process that verifies the files; shows the outcome."""
    child = Child(Registry, page.registry().uri)
    try:
        with st.spinner("Verifying the version"):
            version = child.ask("promote", name, number) if number else child.ask("rollback", name)
    except LostError as lost:
        fault = f"{name} could not be verified: {lost.detail}"
    except SightstreamError as error:
        fault = str(error)
    except RuntimeError as error:  # of that process
        fault = f"{name} could not be verified: {first_line(error)}"
    else:
        st.cache_data.clear()
        done = f"Version {version.number} of {plain(version.name)} is the champion."
        st.success(done, icon=":material/check:")
        return
    finally:
        child.end()
    st.error(plain(fault), icon=":material/error:")


def _pair(versions: list[Version]) -> list[Version]:
    """The two versions to compare: champion and challenger, unless others are chosen."""
    first = page.champion_of(versions) or versions[0]
    rest = [v for v in versions if v is not first]
    if not rest:
        return versions
    second = next((v for v in rest if "challenger" in v.aliases), rest[0])
    with st.container(horizontal=True):
        one = st.selectbox("Compare", versions, versions.index(first), format_func=_title) or first
        other = st.selectbox("with", versions, versions.index(second), format_func=_title) or second
    return [one] if one == other else [one, other]


def _figures(pair: list[Version]) -> None:
    for column, version in zip(st.columns(len(pair)), pair, strict=True):
        with column, st.container(border=True):
            st.subheader(plain(_title(version)), anchor=False)
            with st.container(horizontal=True):
                for key, label in FIGURES.items():
                    if key in version.metrics:
                        _figure(key, label, version, pair[0])
            images = version.metrics.get("test_images")
            made = "imported" if page.card(page.registry(), version).origin else "trained"
            parts = [f"{made} {page.when(version.created)}"]
            if images:
                parts.append(f"judged on {images:,.0f} images")
            st.caption(plain(" · ".join(parts)))
            st.text(version.decision or "No decision is on record.")


def _figure(key: str, label: str, version: Version, first: Version) -> None:
    value, other = version.metrics[key], first.metrics.get(key)
    delta = None if version is first or other is None else f"{value - other:+.4f}"
    colour: Literal["normal", "inverse", "off"] = "inverse" if key == "ece" else "normal"
    if delta in {"+0.0000", "-0.0000"}:
        delta, colour = "no difference", "off"
    st.metric(label, f"{value:.4f}", delta, delta_color=colour)


def _live(name: str, pair: list[Version]) -> None:
    """Draws how the two agree on the stream's images, if it ran with one as the other's shadow."""
    settings = page.settings()
    if len(pair) < 2 or predictions.version(settings.predictions) is None:
        return
    numbers, made = (pair[0].number, pair[1].number), max(each.created for each in pair)
    found = _agreement(settings.predictions, name, numbers, made, settings.labels)
    if found is None or not found.images:
        return
    with st.container(border=True):
        st.subheader("On the stream's images", anchor=False)
        with st.container(horizontal=True):
            st.metric("Agreement", f"{found.share:.1%}")
            st.metric(f"Images of {DAYS} days", f"{found.images:,}")
            if found.labelled:
                for each, right in zip(pair, (found.right_a, found.right_b), strict=True):
                    told = f"{right} of {found.labelled}"
                    st.metric(f"Labelled, version {each.number} right", told)
        share = st.column_config.NumberColumn(format="percent")
        by_label = [{**row, "agreement": row["agreed"] / row["images"]} for row in found.classes]
        st.dataframe(by_label, hide_index=True, column_config={"agreement": share},
                     column_order=["label", "images", "agreed", "agreement"])  # fmt: skip
        if found.examples:
            with st.expander(f"The newest {len(found.examples)} on which they differ"):
                columns = ["original_name", "a", "b", "truth", "event_id"]
                st.dataframe(found.examples, hide_index=True, column_order=columns)


@st.cache_data(max_entries=8, ttl=60, show_spinner=False)
def _agreement(
    path: str, name: str, pair: tuple[int, int], made: datetime, labels: Path
) -> Agreement | None:
    try:
        since = max(made, datetime.now(UTC) - timedelta(days=DAYS))
        return agreement(path, name, pair, labels=labels, since=since)
    except InputError:  # the table is of before others could answer
        return None


def _table(versions: list[Version]) -> None:
    keys = [key for key in FIGURES if any(key in v.metrics for v in versions)]
    rows = [
        {
            "version": v.number, "alias": ", ".join(v.aliases), "trained": page.when(v.created),
            **{FIGURES[key]: v.metrics.get(key) for key in keys},
            "decision": v.decision,
        }
        for v in versions
    ]  # fmt: skip
    numbers = {FIGURES[key]: st.column_config.NumberColumn(format="%.4f") for key in keys}
    with st.expander(f"All versions ({len(versions)})", icon=":material/list:"):
        st.dataframe(rows, hide_index=True, column_config=numbers, height="content")


def _details(pair: list[Version]) -> None:
    curves, confusion, wrong, classes, training = st.tabs(
        ["Learning curves", "Confusion", "Most confidently wrong", "By class", "Training"]
    )
    with curves:
        _curves(pair)
    with confusion:
        _side_by_side(pair, _confusion)
    with wrong:
        for version in pair:  # one below the other, since each is a sheet of small pictures
            st.markdown(f"**{plain(_title(version))}**")
            _wrong(version)
    with classes:
        _side_by_side(pair, _classes)
    with training:
        _side_by_side(pair, _training)


def _side_by_side(pair: list[Version], draw: Callable[[Version], None]) -> None:
    for column, version in zip(st.columns(len(pair)), pair, strict=True):
        with column:
            st.markdown(f"**{plain(_title(version))}**")
            draw(version)


def _curves(pair: list[Version]) -> None:
    found = {f"version {v.number}": _known_curves(page.registry(), v) for v in pair}
    if not any(found.values()):
        st.info("These versions have no curves: they were not trained in rounds.")
        return
    for column, figure in zip(st.columns(2), ("loss", "accuracy"), strict=True):
        with column:
            st.markdown(f"**{figure.title()}**")
            charts.curves(found, figure)
    st.caption("A round is one pass over the images or a few; at its end the workers are averaged.")


def _confusion(version: Version) -> None:
    evaluation, matrix = _evaluation(version), _file(version, "confusion.png")
    if evaluation and matrix:
        right = sum(row[i] for i, row in enumerate(evaluation["confusion"]))
        described = f"{right} of {evaluation['images']} images lie on the diagonal."
        st.image(matrix, alt=described)
        st.caption("Rows: labels of the test images. Columns: predictions. Dark: most of a row.")


def _wrong(version: Version) -> None:
    sheet, report = _file(version, "wrong.png"), _file(version, "report.html")
    if sheet:
        st.image(
            sheet,
            alt=f"The most confidently wrong answers of {_title(version)}: each picture with what "
            "it is and what was said. The report names them in a list.",
        )  # fmt: skip
    elif report:
        st.info("No test image was answered wrongly.")
    else:
        _no_report()
    if report:
        st.download_button(
            "The whole report", report, f"{version.name}-{version.number}.html",
            "text/html", icon=":material/download:", key=f"report {version.number}",
        )  # fmt: skip


def _classes(version: Version) -> None:
    if evaluation := _evaluation(version):
        share = st.column_config.NumberColumn(format="%.3f")
        columns = dict.fromkeys(("precision", "recall", "f1", "fpr"), share)
        st.dataframe(evaluation["classes"], hide_index=True, column_config=columns)


def _training(version: Version) -> None:
    card = page.card(page.registry(), version)
    facts = {**vars(card.preprocessing), **card.training, "labels": ", ".join(card.labels)}
    facts["onnx_difference"] = card.onnx_difference
    page.facts(facts | {f"origin: {key}": value for key, value in (card.origin or {}).items()})


def _evaluation(version: Version) -> dict[str, Any] | None:
    content = _file(version, "evaluation.json")
    if content is None:
        _no_report()
        return None
    try:
        found: dict[str, Any] = json.loads(content)
        if {*found} >= {"confusion", "images", "classes"}:
            return found
    except (TypeError, ValueError, RecursionError):
        pass
    st.info("The report of this version is damaged.")
    return None


def _file(version: Version, name: str) -> bytes | None:
    """A file of a version's report; None if there is none."""
    return _report(page.registry(), version).get(name)


def _no_report() -> None:
    st.info("This version has no report: its training run holds none.")


def _title(version: Version) -> str:
    alias = ", ".join(version.aliases)
    return f"Version {version.number}" + (f" · {alias}" if alias else "")


@st.cache_data(max_entries=4, ttl=600, show_spinner="Fetching the report", hash_funcs=page.HASHES)
def _report(registry: Registry, version: Version) -> dict[str, bytes]:
    """The files of a version's report that are shown, by name."""
    with registry.report(version) as folder:
        found = [folder / name for name in _REPORT] if folder else []
        return {file.name: file.read_bytes() for file in found if file.is_file()}


@st.cache_data(max_entries=64, ttl=600, show_spinner="Fetching the curves", hash_funcs=page.HASHES)
def _known_curves(registry: Registry, version: Version) -> dict[str, list[float]]:
    return registry.curves(version)


if __name__ == "__main__":
    draw()
