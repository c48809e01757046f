"""Metrics: recorded from rows in hand, shown as Prometheus reads them, documented from a table."""

import math
from datetime import UTC, datetime
from http.client import HTTPConnection

import numpy as np
import pyarrow as pa
import pytest
from prometheus_client import generate_latest

from sightstream.images.decode import Preprocessing
from sightstream.models.drift import Reference
from sightstream.models.version import ServedModel
from sightstream.scoring import udf
from sightstream.scoring.classifier import Answer
from sightstream.tables.rows import Other
from sightstream.tables.schema import OTHER, ROW
from streaming.observe import docs
from streaming.observe.definitions import METRICS
from streaming.observe.metrics import STATISTICS, Metrics

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TestDrift:
    @pytest.fixture
    def metrics(self):
        return Metrics()

    def model(self, version, reference):
        shape = Preprocessing(8, 8)
        return ServedModel("animals", version, ("cat", "dog"), shape, "onnx", b"", reference)

    def answers(self, count, seed, scale=1.0):
        random = np.random.default_rng(seed)
        labels, scores, seen = random.integers(0, 2, count), *random.random((2, count))
        rows = [
            Answer(
                classes=[label, 1 - label], scores=[score, 1 - score], width=64, height=64,
                brightness=scale * value, contrast=value, sharpness=value,
            )
            for label, score, value in zip(
                labels.tolist(), scores.tolist(), seen.tolist(), strict=True
            )
        ]  # fmt: skip
        torn = Answer("corrupt", "It is torn.", width=64, height=64)
        return udf.table([*rows, torn])

    @pytest.fixture
    def reference(self):
        values = np.random.default_rng(0).random(1000).astype(np.float32)
        columns = dict.fromkeys(("score", "brightness", "contrast", "sharpness"), values)
        columns["size"] = np.full(1000, 64, np.float32)
        return Reference.of(columns, {"label": [500, 500]})

    def psi(self, metrics):
        ask = metrics.registry.get_sample_value
        return {s: ask("sightstream_drift_psi", {"statistic": s}) for s in STATISTICS}

    def test_nothing_is_said_before_there_are_enough(self, metrics, reference):
        metrics.compare(self.answers(100, 1), self.model(1, reference))
        assert all(map(math.isnan, self.psi(metrics).values()))

    def test_only_what_changed_drifts(self, metrics, reference):
        metrics.compare(self.answers(1000, 1, scale=0.3), self.model(1, reference))
        found = self.psi(metrics)
        assert found.pop("brightness") > 0.25
        assert max(found.values()) < 0.1

    def test_it_begins_anew_with_another_version(self, metrics, reference):
        metrics.compare(self.answers(1000, 1, scale=0.3), self.model(1, reference))
        metrics.compare(self.answers(1000, 2), self.model(2, reference))
        assert self.psi(metrics)["brightness"] < 0.1

    def test_a_version_without_a_reference_has_none(self, metrics, reference):
        metrics.compare(self.answers(1000, 1), self.model(1, reference))
        metrics.compare(self.answers(1000, 1), self.model(2, None))
        assert all(map(math.isnan, self.psi(metrics).values()))

    def test_bad_images_change_nothing(self, metrics, reference):
        metrics.compare(self.answers(1000, 1), self.model(1, reference))
        before = self.psi(metrics)
        torn = self.answers(1, 1).slice(1)
        metrics.compare(torn, self.model(1, reference))
        assert self.psi(metrics) == before


def test_what_may_be_counted_is_shown_from_zero_on():
    metrics = Metrics()
    model = ServedModel("animals", 7, ("cat", "dog"), Preprocessing(8, 8), "onnx", b"")
    metrics.expect(["folder"], model)
    ask = metrics.registry.get_sample_value
    for label in model.labels:
        seen = {"label": label, "model": "animals", "model_version": "7"}
        assert ask("sightstream_predictions_total", seen) == 0
    for outcome in ("ok", "truncated"):
        assert ask("sightstream_images_total", {"source": "folder", "outcome": outcome}) == 0


def test_all_names_have_the_prefix_and_a_base_unit_or_count_something():
    metrics = Metrics()
    text = generate_latest(metrics.registry).decode()
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) > 30
    assert all(name.startswith("sightstream_") for name in names)
    wrong = ("_ms", "_milliseconds", "_percent", "_kib", "_mib", "_kb", "_mb", "_minutes", "_hours")
    assert not [name for name in names if name.removesuffix("_total").endswith(wrong)]


def test_each_metric_of_the_table_is_registered_as_the_table_says():
    found = {family.name: family for family in Metrics().registry.collect()}
    assert len(found) == len(METRICS)
    for metric in METRICS:
        family = found[metric.full_name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.help)


def test_answers_of_two_models_with_one_version_number_are_counted_apart():
    metrics = Metrics()
    for name in ("animals", "cars"):
        model = ServedModel(name, 1, ("cat",), Preprocessing(8, 8), "onnx", b"")
        metrics.expect([], model)
    found = metrics.of["predictions"].collect()[0].samples
    assert {s.labels["model"] for s in found} == {"animals", "cars"}


def test_a_message_without_a_time_has_no_latency():
    metrics, now = Metrics(), datetime.now(UTC)
    made = {"source": "kafka", "status": "ok", "model_version": 1}
    rows = [dict.fromkeys(ROW.names) | made | {"event_time": at} for at in (EPOCH, now)]
    model = ServedModel("animals", 1, ("cat",), Preprocessing(8, 8), "onnx", b"")
    metrics.count(pa.Table.from_pylist(rows, ROW), model)
    ask = metrics.registry.get_sample_value
    source = {"source": "kafka"}
    assert ask("sightstream_images_total", source | {"outcome": "ok"}) == 2
    assert ask("sightstream_latency_seconds_count", source) == 1
    assert ask("sightstream_latency_seconds_sum", source) < 60


def test_the_page_of_the_metrics_is_current():
    assert docs.FILE.read_text() == docs.page(), "write it anew with: make docs"


class TestOthers:
    FIRST = ServedModel("animals", 1, ("cat", "dog"), Preprocessing(8, 8), "onnx", b"")

    def counted(self, labels, answers, metrics=None):
        metrics = metrics or Metrics()
        model = ServedModel("animals", 2, labels, Preprocessing(8, 8), "onnx", b"")
        first = udf.table([Answer(classes=each) for each in ([0], [0], [1], None)])
        columns = [
            [[a] if isinstance(a, int) else None for a in answers], [None] * 4,
            [a if isinstance(a, str) else None for a in answers],
        ]  # fmt: skip
        metrics.agreement(first, self.FIRST, [Other(model, "challenger", pa.table(columns, OTHER))])
        names = ("label", "agrees", "outcome")
        return {
            tuple(sample.labels[name] for name in names if name in sample.labels): sample.value
            for family in metrics.registry.collect()
            for sample in family.samples
            if sample.name in {"sightstream_agreement_total", "sightstream_other_answers_total"}
        }

    def test_agreement_is_counted_by_the_first_models_label(self):
        found = self.counted(("dog", "cat"), [1, 0, 0, None])  # other numbers, the same names
        assert found == {("cat", "yes"): 1, ("cat", "no"): 1, ("dog", "yes"): 1, ("ok",): 3}

    def test_faults_are_counted_and_no_agreement(self):
        found = self.counted(("cat", "dog"), ["timeout", "timeout", "timeout", None])
        assert found == {("timeout",): 3, ("ok",): 0}

    def test_a_model_of_other_labels_agrees_in_nothing(self):
        assert self.counted(("mite", "aphid"), [0, 0, 1, None]) == {("ok",): 3}


@pytest.mark.parametrize(("listens", "code"), [("127.0.0.1", 403), ("0.0.0.0", 200)])
def test_names_of_other_hosts_are_refused_where_only_this_machine_asks(listens, code):
    metrics = Metrics()
    end = metrics.serve(listens, 0)
    try:
        for host, expected in (("evil.example", code), ("localhost", 200), ("127.0.0.1", 200)):
            connection = HTTPConnection("127.0.0.1", metrics.port, timeout=30)
            connection.request("GET", "/metrics", headers={"Host": f"{host}:{metrics.port}"})
            assert connection.getresponse().status == expected, host
            connection.close()
    finally:
        end()
