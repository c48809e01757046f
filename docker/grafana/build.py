"""Writes the dashboards: `make docs`. Edit them here; the JSON beside it is what Grafana reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from grafana_foundation_sdk.builders import common, prometheus, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import DataSourceRef, Threshold, ThresholdsMode

FOLDER = Path(__file__).parent / "dashboards"
SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")

ALIASES = "{{alias}}"
BATCH = 'sightstream_batch_phase_seconds{phase="trigger_execution"}'


@dataclass(frozen=True)
class Panel:
    """A question and how its answer is drawn.

    Attributes:
        title: what a person reads.
        queries: PromQL with the legend of its series.
        unit: one of Grafana's.
        width: columns of 24.
        number: the latest value instead of a curve.
        stacked: curves stand upon each other.
        bounds: values from which on it is yellow, and red; or red and yellow up to them.
        most: the upper end of the axis.
        note: what a person should know.
    """

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    width: int = 8
    number: bool = False
    stacked: bool = False
    bounds: tuple[float, float] | None = None
    most: float | None = None
    note: str = ""


def rate(metric: str, by: str = "") -> str:
    """The rate of a counter, summed."""
    return f"sum{f' by ({by}) ' if by else ''}(rate({metric}[$__rate_interval]))"


def mean(histogram: str, by: str = "") -> str:
    """The mean of a histogram."""
    name, _, labels = histogram.partition("{")
    labels = f"{{{labels}" if labels else ""
    return f"{rate(f'{name}_sum{labels}', by)} / {rate(f'{name}_count{labels}', by)}"


def quantile(share: float, histogram: str) -> str:
    """A quantile of a histogram."""
    name, _, labels = histogram.partition("{")
    labels = f"{{{labels}" if labels else ""
    return f"histogram_quantile({share}, {rate(f'{name}_bucket{labels}', 'le')})"


def number(title: str, query: str, unit: str = "short", **options: object) -> Panel:
    """A panel of one number."""
    return Panel(title, ((query, ""),), unit, 4, number=True, **options)  # type: ignore[arg-type]


def quantiles(title: str, histogram: str) -> Panel:
    """A panel of the usual quantiles."""
    found = tuple((quantile(q, histogram), f"p{round(100 * q)}") for q in (0.5, 0.95, 0.99))
    return Panel(title, found, "s")


RATES = Panel(
    "Images in and out",
    (
        (rate("sightstream_arrived_images_total"), "arrived"),
        (rate("sightstream_images_total"), "with a row"),
    ),
    "cps",
)
OUTCOMES = Panel(
    "Outcomes",
    (
        (rate('sightstream_images_total{outcome="ok"}'), "ok"),
        # There is a counter of each reason; shown are those that occur.
        (rate('sightstream_images_total{outcome!="ok"}', "outcome") + " > 0", "{{outcome}}"),
    ),
    "cps", stacked=True,
)  # fmt: skip
LATENCY = quantiles("Latency: arrival to row", "sightstream_latency_seconds")
DRIFT = Panel(
    "Drift (PSI)", (("sightstream_drift_psi", "{{statistic}}"),), bounds=(0.1, 0.25),
    note="Above 0.25 the images differ from those of the training.",
)  # fmt: skip
BEHIND = Panel(
    "Images without a row",
    (
        ("sightstream_images_behind", "accepted"),
        ("sightstream_inbox_files", "in the inbox"),
        ("sightstream_inbox_stuck_files", "stuck there"),
    ),
)

PER_BATCH = " / ".join((rate("sightstream_images_total"), rate("sightstream_batches_total")))
AGREE = " / ".join(
    rate(f"sightstream_agreement_total{labels}", "model, alias")
    for labels in ('{agrees="yes"}', "")
)
AGREE_BY_LABEL = " / ".join(
    rate(f"sightstream_agreement_total{labels}", "label")
    for labels in ('{agrees="yes",alias!="champion"}', '{alias!="champion"}')
)
OTHERS = (
    Panel(
        "Agreement with the champion", ((AGREE, "{{model}}@{{alias}}"),), "percentunit", most=1,
        note="Share of the images for which another model gave the champion's label.",
    ),
    Panel(
        "Agreement by the champion's label", ((AGREE_BY_LABEL, "{{label}}"),), "percentunit",
        most=1,
    ),
    Panel(
        "Other models' answers",
        ((rate("sightstream_other_answers_total", "model, alias, outcome"),
          "{{model}}@{{alias}} {{outcome}}"),),
        "cps", stacked=True,
    ),
)  # fmt: skip
UNSURE = " / ".join(
    (rate('sightstream_score_ratio_bucket{le="0.5"}'), rate("sightstream_score_ratio_count"))
)

DASHBOARDS = {
    "Overview": (
        number("Stream", 'min(up{job="sightstream"})', bounds=(1, 1), note="1: it answers."),
        number("Images a second", rate("sightstream_images_total"), "cps"),
        number("Images without a row", "sightstream_images_behind"),
        number(
            "Rejected, 5 minutes", "sightstream:rejected:ratio5m", "percentunit",
            bounds=(0.01, 0.05),
        ),
        number("Latency p95, 5 minutes", "sightstream:latency_seconds:p95_5m", "s", bounds=(1, 2)),
        number("Model version", "sightstream_model_version"),
        RATES, OUTCOMES, LATENCY,
        Panel(
            "Labels", ((rate("sightstream_predictions_total", "label"), "{{label}}"),), "cps",
            stacked=True,
        ),
        DRIFT,
        Panel(
            "Disk left",
            (("sightstream_disk_free_bytes / sightstream_disk_size_bytes", "share"),),
            "percentunit", most=1,
        ),
    ),
    "Stream": (
        RATES, BEHIND, LATENCY,
        Panel(
            "Time of a micro-batch by phase",
            ((mean("sightstream_batch_phase_seconds", "phase"), "{{phase}}"),), "s",
        ),
        Panel(
            "Micro-batch against its trigger",
            (
                (quantile(0.5, BATCH), "p50"),
                (quantile(0.95, BATCH), "p95"),
                ("sightstream_trigger_interval_seconds", "trigger"),
            ),
            "s", note="A trigger of 0 begins the next micro-batch as soon as images wait.",
        ),
        Panel(
            "Images in a micro-batch",
            ((PER_BATCH, "mean"),),
        ),
        Panel(
            "Time of an image",
            (
                (mean("sightstream_decode_seconds"), "decode"),
                (mean("sightstream_predict_seconds"), "predict"),
            ),
            "s",
        ),
        OUTCOMES,
        Panel(
            "Restarts of the query", (("sightstream_query_restarts_total", "restarts"),), width=4
        ),
        Panel(
            "Stuck in the inbox", (("sightstream_inbox_stuck_files", "files"),), width=4,
            bounds=(1, 100),
            note="Files that cannot be read or moved; `sightstream status` names some.",
        ),
        Panel(
            "Kafka: lag in messages",
            (("sum by (topic, partition) (sightstream_kafka_lag_records)",
              "{{topic}} {{partition}}"),), width=6,
        ),
        Panel(
            "Kafka: lag in seconds",
            (("max by (topic, partition) (sightstream_kafka_lag_seconds)",
              "{{topic}} {{partition}}"),),
            "s", width=6,
        ),
        Panel(
            "Predictions table",
            (("sightstream_table_size_bytes", "size"),), "bytes", width=6,
        ),
        Panel(
            "Its rows and files",
            (("sightstream_table_rows", "rows"), ("sightstream_table_files", "files")), width=6,
        ),
    ),
    "Model": (
        Panel("Version in use", (("sightstream_model_version", "{{model}}"),)),
        Panel(
            "New champions",
            (("sightstream_model_reloads_total", "{{result}}"),),
        ),
        Panel(
            "Score of the best label",
            tuple(
                (quantile(q, "sightstream_score_ratio"), f"p{round(100 * q)}")
                for q in (0.05, 0.25, 0.5)
            ),
            "percentunit", most=1,
        ),
        Panel(
            "Images with a score below 0.5",
            ((UNSURE, "share"),),
            "percentunit", most=1,
        ),
        Panel(
            "Label mix",
            ((f"{rate('sightstream_predictions_total', 'label')} / ignoring(label) group_left() "
              f"{rate('sightstream_predictions_total')}", "{{label}}"),),
            "percentunit", stacked=True, most=1,
        ),
        Panel(
            "Images by version",
            ((rate("sightstream_predictions_total", "model, model_version"),
              "{{model}} {{model_version}}"),),
            "cps", stacked=True,
        ),
        Panel(DRIFT.title, DRIFT.queries, bounds=DRIFT.bounds, note=DRIFT.note, width=24),
    ),
    "Training": (
        number("Champion", 'sightstream_registry_version{alias="champion"}'),
        number("Newest version", 'sightstream_registry_version{alias="newest"}'),
        number(
            "Age of the champion",
            'time() - sightstream_registry_created_timestamp_seconds{alias="champion"}', "s",
        ),
        number("Promoted", 'sightstream_registry_versions{decision="promoted"}'),
        number("Refused", 'sightstream_registry_versions{decision="refused"}'),
        number(
            "Champion's macro F1",
            'sightstream_registry_evaluation_ratio{alias="champion", figure="f1_macro"}',
            "percentunit",
        ),
        *(
            Panel(
                f"{title}: champion and challenger",
                ((f'sightstream_registry_evaluation_ratio{{figure="{figure}"}}', ALIASES),),
                "percentunit", 12, most=1,
                note="On images that the version never saw.",
            )
            for title, figure in (
                ("Macro F1", "f1_macro"), ("Accuracy", "accuracy"),
                ("Precision", "precision_macro"), ("Recall", "recall_macro"),
            )
        ),
        *OTHERS,
        Panel("Versions", (("sightstream_registry_version", ALIASES),), width=12),
        Panel("Decisions", (("sightstream_registry_versions", "{{decision}}"),), width=12),
    ),
    "Machine": (
        Panel(
            "Cores at work",
            (('rate(sightstream_machine_cpu_seconds_total{mode="busy"}[$__rate_interval]) / on() '
              "sum(rate(sightstream_machine_cpu_seconds_total[$__rate_interval]))", "share"),),
            "percentunit", most=1,
        ),
        Panel(
            "Memory of the machine",
            (
                ("sightstream_machine_memory_size_bytes", "in all"),
                ("sightstream_machine_memory_available_bytes", "available"),
            ),
            "bytes",
        ),
        Panel(
            "Memory of the stream", (("sightstream_memory_resident_bytes", "{{process}}"),),
            "bytes", stacked=True,
        ),
        Panel(
            "Heap of Spark's driver", (("sightstream_spark_driver_heap_bytes", "{{kind}}"),),
            "bytes",
        ),
        Panel(
            "Spark's cached blocks", (("sightstream_spark_storage_bytes", "{{kind}}"),), "bytes"
        ),
        Panel(
            "Spark's executors and tasks",
            (
                ("sightstream_spark_executors", "executors"),
                ("sightstream_spark_cores", "cores"),
                ("sightstream_spark_running_tasks", "running tasks"),
            ),
        ),
        Panel(
            "Disk of the home folder",
            (
                ("sightstream_disk_size_bytes", "in all"),
                ("sightstream_disk_free_bytes", "free"),
            ),
            "bytes",
        ),
        Panel(
            "Age of the oldest image",
            (("time() - (sightstream_oldest_image_timestamp_seconds > 0)", "oldest"),
             ("sightstream_retention_seconds", "kept for; 0: for ever")),
            "s",
        ),
        Panel(
            "Memory of Prometheus",
            (('process_resident_memory_bytes{job="prometheus"}', "resident"),),
            "bytes",
        ),
    ),
}  # fmt: skip

ANNOTATIONS = {
    "Swap": ("orange", "changes(sightstream_model_version[1m]) > 0"),
    "Refresh": ("blue", 'changes(sightstream_registry_version{alias="newest"}[1m]) > 0'),
}


def drawn(panel: Panel) -> stat.Panel | timeseries.Panel:
    """A panel as Grafana has it."""
    if panel.number:
        latest = common.ReduceDataOptions().calcs(["lastNotNull"])
        made: stat.Panel | timeseries.Panel = stat.Panel().reduce_options(latest)
    else:
        made = timeseries.Panel().fill_opacity(10).legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )  # fmt: skip
        if panel.stacked:
            made.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    made.title(panel.title).description(panel.note).unit(panel.unit).datasource(SOURCE)
    made.height(4 if panel.number else 8).span(panel.width)
    if not panel.number:
        made.min(0)
        made.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    if panel.most is not None:
        made.max(panel.most)
    for letter, (query, legend) in zip("ABCDE", panel.queries, strict=False):
        target = prometheus.Dataquery().expr(query).legend_format(legend).datasource(SOURCE)
        made.with_target(target.ref_id(letter))
    if panel.bounds:
        first, second = panel.bounds
        colours = ("red", "green", "green") if first == second else ("green", "yellow", "red")
        steps = [
            Threshold(value=v, color=c) for v, c in zip((None, *panel.bounds), colours, strict=True)
        ]
        levels = builders.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
        made.thresholds(levels)
    return made


def dashboards() -> Iterator[tuple[Path, str]]:
    """The files with what belongs into them."""
    for title, panels in DASHBOARDS.items():
        uid = f"sightstream-{title.lower()}"
        made = builders.Dashboard(title).uid(uid).tags(["sightstream"]).timezone("browser")
        made.refresh("10s").time("now-1h", "now").readonly()
        for name, (colour, query) in ANNOTATIONS.items():
            note = builders.AnnotationQuery().name(name).datasource(SOURCE).expr(query)
            made.annotation(note.enable(True).icon_color(colour))
        for panel in panels:
            made.with_panel(drawn(panel))
        text = JSONEncoder(sort_keys=True, indent=2).encode(made.build())
        yield FOLDER / f"{title.lower()}.json", text + "\n"


if __name__ == "__main__":
    for path, text in dashboards():
        path.write_text(text)
