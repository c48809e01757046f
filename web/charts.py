"""Charts in the page's colours; names are drawn, never read as markup."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import TYPE_CHECKING, Any

import streamlit as st

from sightstream.terminal import shortened

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd
    import pyarrow as pa

NAMED = 7  # labels with their own colour; the others share one

# Okabe and Ito's colours, which colour-blind people tell apart, on light and on dark.
COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#B8A800", "#999999",
)  # fmt: skip
_HEIGHT = 220


def overview(trend: pa.Table, zone: tzinfo) -> None:
    """Draws rate, latency and label mix over time, and totals, of `Snapshot.trend`."""
    import altair as alt
    import pandas as pd

    data = trend.to_pandas()
    data["time"] = pd.to_datetime(data["start"], unit="s", utc=True).dt.tz_convert(zone)
    data["time"] = data["time"].dt.tz_localize(None)
    spans, labels = data[data["whole"]], data[~data["whole"]]
    _figures(spans, labels)
    seconds = data["start"].max() - data["start"].min()
    shown = "%H:%M:%S" if seconds < 300 else "%H:%M" if seconds < 172_800 else "%d %b"
    axis = alt.Axis(labelOverlap=True, tickCount=4, format=shown)
    time = alt.X("time:T", title=None, axis=axis)
    charts = {
        "Images per second": _rate(labels, time),
        "Seconds from arrival to row": _latency(spans, time),
        "Share of labels": _mix(labels, time),
    }
    for column, (title, chart) in zip(st.columns([3, 3, 4]), charts.items(), strict=True):
        with column:
            st.markdown(f"**{title}**")
            st.altair_chart(chart, height=_HEIGHT)


def _figures(spans: pd.DataFrame, labels: pd.DataFrame) -> None:
    images = int(spans["images"].sum())
    rejected = int(labels.loc[labels["label"].isna(), "images"].sum())
    latest = spans.iloc[-1]
    with st.container(horizontal=True, gap="medium"):
        st.metric("Images", f"{images:,}")
        st.metric("Rejected", f"{rejected:,}", help="See the filter Status for which, and why.")
        st.metric("Labels seen", f"{labels['label'].nunique():,}")
        st.metric(
            "Latency, now", f"{latest['p50']:.2f} s",
            help="The median from arrival to row in the last bar of the charts.",
        )  # fmt: skip


def _rate(labels: pd.DataFrame, time: alt.X) -> alt.Chart:
    import altair as alt

    marked = labels.assign(status=labels["label"].isna().map({True: "rejected", False: "ok"}))
    data = marked.groupby(["time", "seconds", "status"])["images"].sum().reset_index()
    data["rate"] = data["images"] / data["seconds"]
    tips = ["time:T", "status:N", "images:Q", alt.Tooltip("rate:Q", format=".3g")]
    described = f"Images a second over time; at most {data['rate'].max():.3g}."
    colour = _colour("status", ["ok", "rejected"], [COLOURS[0], COLOURS[5]], orient="top")
    return _bars(data, described, tips).encode(time, alt.Y("rate:Q", title=None), colour)


def _latency(spans: pd.DataFrame, time: alt.X) -> alt.Chart:
    import altair as alt

    names = ["median", "95th percentile"]
    named = spans.rename(columns={"p50": names[0], "p95": names[1]})
    data = named.melt("time", names, "figure", "latency")
    colour = _colour("figure", names, list(COLOURS[:2]), orient="top", symbolType="stroke")
    tips = ["time:T", "figure:N", alt.Tooltip("latency:Q", format=".2f")]
    described = "Seconds from an image's arrival to its row over time, median and 95th percentile."
    chart: alt.Chart = alt.Chart(data, description=described).mark_line(point=True).encode(
        time, alt.Y("latency:Q", title=None), colour, alt.StrokeDash("figure:N", legend=None),
        tooltip=tips,
    )  # fmt: skip
    return chart


def _mix(labels: pd.DataFrame, time: alt.X) -> alt.Chart:
    import altair as alt

    data = labels.dropna(subset=["label"])
    counts = Counter(dict(data.groupby("label")["images"].sum()))
    top = [label for label, _ in counts.most_common(NAMED)]
    named = {label: shortened(label, 24) for label in top}
    data = data.assign(label=data["label"].map(named).fillna("others"))
    data = data.groupby(["time", "label"])["images"].sum().reset_index()
    domain = [*named.values(), *(["others"] if len(counts) > NAMED else [])]
    colour = _colour("label", domain, [*COLOURS[: len(top)], COLOURS[-1]], orient="right")
    share = alt.Y("images:Q", title=None, stack="normalize", axis=alt.Axis(format="%"))
    described = f"Share of each label over time; most frequent: {', '.join(named.values())}."
    return _bars(data, described, ["time:T", "label:N", "images:Q"]).encode(time, share, colour)


def _bars(data: pd.DataFrame, described: str, tips: list[Any]) -> alt.Chart:
    """Bars over time that leave a gap between them, in a third of a page."""
    import altair as alt

    width = max(1.5, 240 / max(12, data["time"].nunique() * 1.6))
    bars: alt.Chart = alt.Chart(data, description=described).mark_bar(size=width)
    return bars.encode(tooltip=tips)


def _colour(field: str, names: list[str], colours: list[str], **legend: Any) -> alt.Color:
    import altair as alt

    scale = alt.Scale(domain=names, range=colours)
    return alt.Color(f"{field}:N", title=None, sort=names, scale=scale, legend=alt.Legend(**legend))


def curves(runs: Mapping[str, Mapping[str, Sequence[float]]], figure: str) -> None:
    """Draws the curves `figure` and `val_` + `figure` of several versions, by their names."""
    import altair as alt
    import pandas as pd

    kinds = {"training": figure, "validation": f"val_{figure}"}
    lines = {
        f"{run}, {kind}": (found[key], colour, dash)
        for (run, found), colour in zip(runs.items(), COLOURS, strict=False)
        for (kind, key), dash in zip(kinds.items(), ([], [5, 3]), strict=True)
        # Asynchronous workers report no loss.
        if any(map(math.isfinite, found.get(key, ())))
    }
    if not lines:
        st.info("It is not on record.")
        return
    data = pd.DataFrame(
        {"round": number, "value": value, "line": line}
        for line, (values, _, _) in lines.items()
        for number, value in enumerate(values, 1)
    )
    _, colours, dashes = zip(*lines.values(), strict=True)
    # Colour and dash of one field have one legend, whose samples show both.
    legend = alt.Legend(orient="bottom", columns=2, symbolType="stroke", symbolSize=600)
    every: dict[str, Any] = {"title": None, "legend": legend}
    colour = alt.Color("line:N", scale=alt.Scale(domain=list(lines), range=colours), **every)
    dash = alt.StrokeDash("line:N", scale=alt.Scale(domain=list(lines), range=dashes), **every)
    tips = ["line:N", "round:Q", alt.Tooltip("value:Q", format=".4g")]
    described = f"{figure} over the rounds: {'; '.join(lines)}."
    drawn = alt.Chart(data, description=described).mark_line(point=True).encode(
        alt.X("round:Q", axis=alt.Axis(format="d", tickMinStep=1)),
        alt.Y("value:Q", title=None, scale=alt.Scale(zero=False)), colour, dash, tooltip=tips,
    )  # fmt: skip
    st.altair_chart(drawn, height=320)
