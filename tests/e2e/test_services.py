"""What docker-compose.yml starts, as plain processes: images in by both ways, rows and metrics out.

Containers are left out, and with them Grafana, which no package registry has.
"""

import json
import shutil
from collections import Counter

import pytest

from tests import compose
from tests.prometheus import MISSING, Prometheus
from tests.topics import headers, messages, send

STARTED = ("kafka", "topics", "mlflow", "spark-master", "spark-worker", "first-model",
           "stream", "trainer", "prometheus", "demo")  # fmt: skip

SAMPLES = 10
"""Images that a first run drops itself."""


@pytest.mark.slow
@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
@pytest.mark.skipif(not shutil.which("wget"), reason="a health check needs wget")
def test_images_come_in_by_both_ways_rows_come_out_and_prometheus_sees_it(tmp_path, until):
    from deltalake import DeltaTable

    with compose.up(tmp_path / "volumes", STARTED) as running:
        digits = sorted((running.home / "starter" / "digits").glob("*/*.png"))[:30]
        torn = digits[0].read_bytes()[:60]
        send(running, "images", [{"value": torn, "headers": [("ce_id", b"torn")]}])
        aside = running.home / "drop"
        aside.mkdir()
        for digit in digits:
            shutil.copyfile(digit, aside / digit.name)
        (aside / "torn.png").write_bytes(torn)
        aside.rename(running.home / "inbox" / "drop")
        until(lambda: len(messages(running, "images")) > 10, 60)
        running.end("demo")
        sent = [headers(message)["ce_id"] for message in messages(running, "images")]
        wanted = {
            ("folder", "ok"): SAMPLES + len(digits), ("folder", "rejected"): 1,
            ("kafka", "ok"): len(sent) - 1, ("kafka", "rejected"): 1,
        }  # fmt: skip

        def all_there():
            table = running.home / "predictions"
            if not DeltaTable.is_deltatable(str(table)):
                return None
            rows = DeltaTable(table).to_pyarrow_dataset().to_table().to_pylist()
            return rows if len(rows) >= sum(wanted.values()) else None

        rows = until(all_there, 120)
        assert Counter((row["source"], row["status"]) for row in rows) == wanted
        ids = {row["event_id"] for row in rows}
        assert len(ids) == len(rows)
        assert {row["event_id"] for row in rows if row["source"] == "kafka"} == set(sent)

        def told():
            return {json.loads(m.value)["event_id"] for m in messages(running, "predictions")}

        until(lambda: told() == ids)

        seen = Prometheus(f"http://127.0.0.1:{running.ports['9090']}")
        counted = [
            f'sum(sightstream_images_total{{source="{source}"}}) == {count}'
            for source, count in Counter(row["source"] for row in rows).items()
        ]
        until(lambda: all(map(seen.ask, counted)))
        until(lambda: seen.ask("sum(sightstream_kafka_lag_records) == 0"))
        assert seen.ask('count(sightstream_kafka_lag_seconds{topic="images"}) == 4')
        assert seen.ask("sightstream_spark_executors == 2")
        assert seen.ask('sightstream_registry_version{alias="champion"} == 1')
        assert seen.ask('up{job="sightstream"} == 1')
        until(lambda: "nothing done" in running.said("trainer"), 60)
