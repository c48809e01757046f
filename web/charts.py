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

NAMED = 7
"""Labels with their own colour; the others share one."""

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
    first, second, third = st.columns([3, 3, 4])
    seconds = data["start"].max() - data["start"].min()
    shown = "%H:%M:%S" if seconds < 300 else "%H:%M" if seconds < 172_800 else "%d %b"
    axis = alt.Axis(labelOverlap=True, tickCount=4, format=shown)
    time = alt.X("time:T", title=None, axis=axis)
    with first:
        st.markdown("**Images per second**")
        st.altair_chart(_rate(labels, time), height=_HEIGHT)
    with second:
        st.markdown("**Seconds from arrival to row**")
        st.altair_chart(_latency(spans, time), height=_HEIGHT)
    with third:
        st.markdown("**Share of labels**")
        st.altair_chart(_mix(labels, time), height=_HEIGHT)


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
    colour = alt.Color(
        "status:N", title=None, legend=alt.Legend(orient="top"),
        scale=alt.Scale(domain=["ok", "rejected"], range=[COLOURS[0], COLOURS[5]]),
    )  # fmt: skip
    tips = ["time:T", "status:N", "images:Q", alt.Tooltip("rate:Q", format=".3g")]
    described = f"Images a second over time; at most {data['rate'].max():.3g}."
    chart: alt.Chart = alt.Chart(data, description=described).mark_bar(size=_bar(data)).encode(
        time, alt.Y("rate:Q", title=None), colour, tooltip=tips
    )  # fmt: skip
    return chart


def _latency(spans: pd.DataFrame, time: alt.X) -> alt.Chart:
    import altair as alt

    names = {"p50": "median", "p95": "95th percentile"}
    data = spans.rename(columns=names).melt("time", list(names.values()), "figure", "latency")
    colour = alt.Color(
        "figure:N", title=None, legend=alt.Legend(orient="top", symbolType="stroke"),
        scale=alt.Scale(domain=list(names.values()), range=[COLOURS[0], COLOURS[1]]),
    )  # fmt: skip
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
    colour = alt.Color(
        "label:N", title=None, sort=domain, legend=alt.Legend(orient="right"),
        scale=alt.Scale(domain=domain, range=[*COLOURS[: len(top)], COLOURS[-1]]),
    )  # fmt: skip
    described = f"Share of each label over time; most frequent: {', '.join(named.values())}."
    chart: alt.Chart = alt.Chart(data, description=described).mark_bar(size=_bar(data)).encode(
        time, alt.Y("images:Q", title=None, stack="normalize", axis=alt.Axis(format="%")), colour,
        tooltip=["time:T", "label:N", "images:Q"],
    )  # fmt: skip
    return chart


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


def _bar(data: pd.DataFrame) -> float:
    """The width of bars that leave a gap between them, in a third of a page."""
    return max(1.5, 240 / max(12, data["time"].nunique() * 1.6))
