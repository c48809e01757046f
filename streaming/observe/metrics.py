"""The metrics of a running stream, recorded in the driver: from rows, sources and Spark."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from threading import Lock
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from prometheus_client import (
    CollectorRegistry,
    disable_created_metrics,
    make_wsgi_app,
    start_http_server,
)

from sightstream.errors import EnvironmentUnfitError
from sightstream.images.limits import ErrorCode
from sightstream.io import address
from sightstream.models import drift
from sightstream.scoring.beside import FAULTS, SKIPPED
from streaming.observe.definitions import METRICS

if TYPE_CHECKING:
    from sightstream.models.version import ServedModel
    from sightstream.tables.rows import Other
    from streaming.lineup import Seated

_UNDATED = 2 * 86_400.0
"""Seconds since the epoch before which an event's time says that its message had none."""

STATISTICS = ("label", "score", "brightness", "contrast", "sharpness", "size")
"""Statistics of images that drift is computed of."""


class Metrics:
    """The metrics of one running stream, `of` their names in `definitions`."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.of = {metric.name: metric.register(self.registry) for metric in METRICS}
        self.port = 0
        self._comparing = Lock()
        self._compared: tuple[str, int] | None = None
        self._window: drift.Window | None = None
        for statistic in STATISTICS:
            self.of["drift_psi"].labels(statistic).set(math.nan)
        for result in ("loaded", "failed"):
            self.of["model_reloads"].labels(result)
        self.idle()

    def serve(self, host: str, port: int) -> Callable[[], None]:
        """Start the endpoint `/metrics`, on any free port for 0; return a function that ends it.

        On loopback, it refuses requests with the Host of a name that was made to resolve to it.

        Raises:
            EnvironmentUnfitError: the port is in use.
        """
        try:
            server, _ = start_http_server(port, addr=host, registry=self.registry)
        except OSError as error:
            raise EnvironmentUnfitError(
                f"the metrics endpoint cannot listen on {host}:{port}: {error.strerror}; choose "
                "another port with --metrics-port, or 0 for any free one, or set metrics_host to "
                "an address of this machine"
            ) from None
        if address.is_loopback(host):
            server.set_app(_guarded(make_wsgi_app(self.registry)))
        self.port = server.server_port
        return server.shutdown

    def expect(
        self, sources: Iterable[str], model: ServedModel, others: Iterable[Seated] = ()
    ) -> None:
        """Show counters from zero on, since Prometheus sees a rise but never a first value."""
        for each in others:
            for outcome in ("ok", *FAULTS, SKIPPED):
                self.of["other_answers"].labels(each.model.name, each.alias, outcome)
        for source in sources:
            for outcome in ("ok", *get_args(ErrorCode)):
                self.of["images"].labels(source, outcome)
        for label in model.labels:
            self.of["predictions"].labels(label, model.name, str(model.version))

    def count(self, rows: pa.Table, model: ServedModel) -> None:
        """Count the committed rows of a micro-batch, and the model that classified them."""
        outcome = pc.if_else(pc.equal(rows["status"], "ok"), "ok", rows["error_code"])
        table = rows.select(["source", "label", "model", "model_version"]).append_column(
            "outcome", outcome
        )
        counted: list[Any] = [([], "count_all")]
        for row in table.group_by(["source", "outcome"]).aggregate(counted).to_pylist():
            self.of["images"].labels(row["source"], row["outcome"]).inc(row["count_all"])
        by = ["label", "model", "model_version"]  # a canary's rows have another model
        for row in table.group_by(by).aggregate(counted).to_pylist():
            if row["label"] is not None:
                labels = (row["label"], row["model"], str(row["model_version"]))
                self.of["predictions"].labels(*labels).inc(row["count_all"])
        arrived = pc.cast(rows["event_time"], "int64").to_numpy() / 1e6
        # Messages without a time have a date around the epoch, and no latency.
        latencies = np.where(arrived < _UNDATED, np.nan, time.time() - arrived)
        sources = rows["source"].to_numpy()
        for source in set(sources):
            self.of["latency_seconds"].observe(latencies[sources == source], source)
        self.of["decode_seconds"].observe(rows["decode_ms"].to_numpy() / 1000)
        self.of["predict_seconds"].observe(rows["predict_ms"].to_numpy() / 1000)
        self.of["score_ratio"].observe(rows["score"].to_numpy())
        self.of["batches"].inc()
        self.of["model_version"].labels(model.name).set(model.version)
        self.idle()

    def compare(self, answers: pa.Table, model: ServedModel) -> None:
        """Compare the images of a micro-batch with those that the model was trained on.

        Each version begins a new comparison.
        """
        seen = answers.filter(pc.is_valid(answers["brightness"]))
        values = {
            "label": pc.list_element(seen["classes"], 0).to_numpy(),
            "score": pc.list_element(seen["scores"], 0).to_numpy(),
            "size": drift.size(seen["width"].to_numpy(), seen["height"].to_numpy()),
            **{name: seen[name].to_numpy() for name in ("brightness", "contrast", "sharpness")},
        }
        with self._comparing:
            key = model.name, model.version
            if key != self._compared:
                self._compared = key
                self._window = drift.Window(model.reference) if model.reference else None
            if window := self._window:
                for statistic in STATISTICS:
                    window.add(statistic, values[statistic])
            known = window.psi() if window else {}
            for statistic in STATISTICS:
                self.of["drift_psi"].labels(statistic).set(known.get(statistic, math.nan))

    def agreement(self, answers: pa.Table, model: ServedModel, others: Iterable[Other]) -> None:
        """Count what the other models answered, and by label whether they agree with the first."""
        first = pc.list_element(answers["classes"], 0).to_numpy(zero_copy_only=False)
        for each in others:
            name, alias, found = each.model.name, each.alias, each.answers
            self.of["other_version"].labels(name, alias).set(each.model.version)
            for fault, count in Counter(found["fault"].drop_null().to_pylist()).items():
                self.of["other_answers"].labels(name, alias, fault).inc(count)
            answered = pc.is_valid(found["classes"]).to_numpy()
            self.of["other_answers"].labels(name, alias, "ok").inc(int(answered.sum()))
            if not set(model.labels) & set(each.model.labels):
                continue  # it answers another question
            best = pc.list_element(found["classes"], 0).to_numpy(zero_copy_only=False)
            mine = (model.labels[int(n)] for n in first[answered])
            theirs = (each.model.labels[int(n)] for n in best[answered])
            pairs = Counter((a, a == b) for a, b in zip(mine, theirs, strict=True))
            for (label, same), count in pairs.items():
                agrees = "yes" if same else "no"
                self.of["agreement"].labels(name, alias, label, agrees).inc(count)

    def phase(self, name: str, seconds: float) -> None:
        """Record how long a phase of a micro-batch took."""
        self.of["batch_phase_seconds"].observe(seconds, name)

    def idle(self) -> None:
        """Record that a micro-batch was committed, or that nothing is waiting."""
        self.of["last_progress_timestamp_seconds"].set_to_current_time()


def _guarded(app: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if address.is_known(environ.get("HTTP_HOST", ""), ("localhost",)):
            return app(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain")])
        return [b"The metrics do not answer to this Host; ask for localhost or 127.0.0.1.\n"]

    return guarded
