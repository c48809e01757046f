"""Charts in the page's colours; names in them are drawn, never read as markup."""

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
"""Labels with a colour of their own; the others share one."""

# Okabe and Ito's colours, which colour-blind people tell apart, on light and on dark.
COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#B8A800", "#999999",
)  # fmt: skip
_HEIGHT = 220


def overview(trend: pa.Table, zone: tzinfo) -> None:
    """Draws rate, latency and label mix over time, with the figures of the whole span.

    Args:
        trend: as `Snapshot.trend` answers.
        zone: in which times are shown.
    """
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
    """Draws the figures of the whole span of time."""
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

    said = labels.assign(status=labels["label"].isna().map({True: "rejected", False: "ok"}))
    data = said.groupby(["time", "seconds", "status"])["images"].sum().reset_index()
    data["rate"] = data["images"] / data["seconds"]
    colour = alt.Color(
        "status:N", title=None, legend=alt.Legend(orient="top"),
        scale=alt.Scale(domain=["ok", "rejected"], range=[COLOURS[0], COLOURS[5]]),
    )  # fmt: skip
    tips = ["time:T", "status:N", "images:Q", alt.Tooltip("rate:Q", format=".3g")]
    described = f"Images a second over time; at most {data['rate'].max():.3g}."
    chart: alt.Chart = _chart(data, described).mark_bar(size=_bar(data)).encode(
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
    chart: alt.Chart = _chart(data, described).mark_line(point=True).encode(
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
    chart: alt.Chart = _chart(data, described).mark_bar(size=_bar(data)).encode(
        time, alt.Y("images:Q", title=None, stack="normalize", axis=alt.Axis(format="%")), colour,
        tooltip=["time:T", "label:N", "images:Q"],
    )  # fmt: skip
    return chart


def curves(runs: Mapping[str, Mapping[str, Sequence[float]]], figure: str) -> None:
    """Draws a figure of several trainings, on the images of training and on those of validation.

    Args:
        runs: by the version's name, values of each round by the curve's name.
        figure: the name of the curve of training; that of validation begins with `val_`.
    """
    import altair as alt
    import pandas as pd

    kinds = {"training": figure, "validation": f"val_{figure}"}
    lines = {
        f"{run}, {kind}": (found[key], colour, dash)
        for (run, found), colour in zip(runs.items(), COLOURS, strict=False)
        for (kind, key), dash in zip(kinds.items(), ([], [5, 3]), strict=True)
        # Asynchronous workers tell no loss.
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
    drawn = _chart(data, described).mark_line(point=True).encode(
        alt.X("round:Q", axis=alt.Axis(format="d", tickMinStep=1)),
        alt.Y("value:Q", title=None, scale=alt.Scale(zero=False)), colour, dash, tooltip=tips,
    )  # fmt: skip
    st.altair_chart(drawn, height=320)


def confusion(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> None:
    """Draws a confusion matrix.

    Args:
        labels: the names of the classes.
        counts: images of class (row) that were said to be of class (column).
    """
    import altair as alt
    import pandas as pd

    names = [shortened(label, 30) for label in labels]
    if len(set(names)) < len(names):
        names = list(labels)
    rows = [
        {"label": names[i], "prediction": names[j], "images": count,
         "share": count / max(1, sum(row))}
        for i, row in enumerate(counts)
        for j, count in enumerate(row)
        if count
    ]  # fmt: skip
    right = sum(row[i] for i, row in enumerate(counts))
    total = sum(map(sum, counts))
    described = f"{right} of {total} images lie on the diagonal."
    every: dict[str, Any] = {"labelLimit": 220, "labelOverlap": False, "domain": True}
    base = alt.Chart(pd.DataFrame(rows)).encode(
        alt.X(
            "prediction:N",
            sort=None,
            scale=alt.Scale(domain=names),
            axis=alt.Axis(labelAngle=-90, **every),
        ),
        alt.Y("label:N", sort=None, scale=alt.Scale(domain=names), axis=alt.Axis(**every)),
    )
    scale = alt.Scale(scheme="blues", domain=[0, 1])
    cells = base.mark_rect().encode(
        alt.Color("share:Q", scale=scale, legend=None),
        tooltip=["label:N", "prediction:N", "images:Q", alt.Tooltip("share:Q", format=".1%")],
    )
    text = base.mark_text().encode(
        alt.Text("images:Q"),
        color=alt.condition("datum.share > 0.5", alt.value("white"), alt.value("black")),
    )  # fmt: skip
    side = max(220, 26 * len(names))
    drawn = (cells + text).properties(description=described)
    st.altair_chart(drawn, height=side + 170)


def _chart(data: pd.DataFrame, described: str) -> alt.Chart:
    import altair as alt

    return alt.Chart(data, description=described)


def _bar(data: pd.DataFrame) -> float:
    """The width of bars that leave a gap between them, in a third of a page."""
    return max(1.5, 240 / max(12, data["time"].nunique() * 1.6))
