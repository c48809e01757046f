"""Grafana's dashboards: each question of each panel, put to a Prometheus that saw a real run."""

import json
import math
import shutil
import sys
import time
from itertools import islice
from pathlib import Path

import pytest

from sightstream.models.registry import Registry
from tests.prometheus import MISSING, prometheus
from tests.topics import create, send

FOLDER = Path(__file__).parents[2] / "docker" / "grafana"

DASHBOARDS = {p.stem: json.loads(p.read_text()) for p in sorted(FOLDER.glob("dashboards/*.json"))}

QUERIES = [
    pytest.param(target["expr"], id=f"{name}: {panel['title']}: {target['refId']}")
    for name, dashboard in DASHBOARDS.items()
    for panel in dashboard["panels"]
    for target in panel["targets"]
]

ANNOTATIONS = {a["name"]: a["expr"] for a in DASHBOARDS["overview"]["annotations"]["list"]}

needs_sdk = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="the Grafana foundation SDK needs Python 3.11"
)


@needs_sdk
def test_the_dashboards_are_what_the_code_builds(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import build

    built = dict(build.dashboards())
    assert {p.name for p in built} == {f"{name}.json" for name in DASHBOARDS}
    for path, text in built.items():
        assert path.read_text() == text, "write it anew with: make docs"


@needs_sdk
@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_holds_what_grafanas_schema_knows_and_no_more(name):
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    read = Dashboard.from_json(DASHBOARDS[name])
    assert json.loads(JSONEncoder().encode(read)) == DASHBOARDS[name]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_no_two_panels_of_a_dashboard_overlap(name):
    taken = [
        (x, y)
        for at in (panel["gridPos"] for panel in DASHBOARDS[name]["panels"])
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
class TestARealRun:
    """Good and bad images by both ways, a swap and a refresh, seen by Prometheus each second."""

    @pytest.fixture(scope="class")
    def seen(self, new_home, starter, broker, figures, until, tmp_path_factory):
        home = new_home(
            own_registry=True, source="folder,kafka",
            kafka_servers=broker.address, kafka_topic="dashboards",
        )  # fmt: skip
        create(broker, "dashboards")
        registry = Registry(home.settings.registry_address)
        wrong = home.settings.root / "wrong"
        for number, digit in enumerate(starter.digits[:40]):
            folder = wrong / str((int(digit.parent.name) + 1 + number % 3) % 10)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / digit.name).write_bytes(digit.read_bytes() + b" ")

        with home.running("--shadow", "starter@challenger") as run:
            address = run.metrics_url.removeprefix("http://").removesuffix("/metrics")
            with prometheus(
                tmp_path_factory.mktemp("p") / "own", {"sightstream": address}
            ) as asked:

                def give(digits, name):
                    before = home.count()
                    aside = home.settings.root / name
                    aside.mkdir()
                    for digit in digits:
                        shutil.copyfile(digit, aside / digit.name)
                    (aside / "torn.png").write_bytes(digits[0].read_bytes()[:60])
                    (aside / "a text.jpg").write_text("no image")
                    aside.rename(home.settings.inbox / name)
                    published = [digit.read_bytes() for digit in digits[:20]]
                    send(broker, "dashboards", [*published, published[0][:60]])
                    wanted = before + len(digits) + 2 + len(published) + 1
                    until(lambda: home.count() == wanted, 60)

                give(starter.digits[:50], "first")
                first = registry.version("starter", 1)
                copy = registry.publish(
                    "starter", first.folder, first.digest,
                    parameters={}, metrics=first.metrics, curves={},
                )  # fmt: skip
                registry.promote("starter", copy.number)
                done = home("refresh", "starter", "--data", wrong, "--epochs", "1", "--no-promote")
                assert done.returncode == 0, done.stderr
                give(starter.digits[50:250], "second")
                give(starter.digits[250:450], "third")
                # A shadow answers when it has started, and then in its share of the time.
                compared = "max(increase(sightstream_agreement_total[10m])) > 0"
                digits = iter(starter.digits[450:])
                until(
                    lambda: (
                        asked.ask(compared)
                        or give(list(islice(digits, 20)), f"more {time.time_ns()}")
                    ),
                    120,
                )
                newest = ("sightstream_registry_version", "newest", "starter")
                until(lambda: figures(run).get(newest) == copy.number + 1)
                drift = ("sightstream_drift_psi", "label")
                until(lambda: not math.isnan(figures(run)[drift]))
                counted = f"sum(sightstream_images_total) == {home.count()}"
                until(lambda: asked.ask(counted))
                yield asked

    @pytest.mark.parametrize("query", QUERIES)
    def test_a_question_of_a_panel_has_an_answer(self, seen, until, query):
        # Long enough to reach back to the last images, however long the questions before took.
        query = query.replace("$__rate_interval", "10m")

        def numbers():
            values = [float(series["value"][1]) for series in seen.ask(query)]
            return [value for value in values if math.isfinite(value)]

        assert until(numbers)

    @pytest.mark.parametrize("name", ANNOTATIONS)
    def test_what_happened_is_marked(self, seen, name):
        assert seen.ask(f"max_over_time(({ANNOTATIONS[name]})[10m:1s])")

    @pytest.mark.parametrize(
        "claim",
        [
            "sightstream_table_rows == on() sum(sightstream_images_total)",
            "sightstream_table_size_bytes > 1000",
            "sightstream_table_files > 0",
            "sightstream_disk_free_bytes > 0",
            "sightstream_spark_cores > 0",
            'sightstream_spark_driver_heap_bytes{kind="used"} > 1e6',
            'sightstream_memory_resident_bytes{process="workers"} > 1e6',
            'sightstream_registry_versions{decision="promoted"} == 1',
        ],
    )
    def test_what_is_looked_at_is_true(self, seen, until, claim):
        assert until(lambda: seen.ask(claim))

    def test_no_alert_has_an_error(self, seen):
        assert seen.ask("prometheus_rule_evaluation_failures_total > 0") == []
