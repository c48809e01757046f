"""What docker-compose.yml starts, as plain processes: images in, rows and metrics out.

Containers are left out, and with them Grafana, which no package registry has.
"""

import importlib.util
import shutil

import pytest

from tests import compose
from tests.prometheus import MISSING, prometheus

KAFKA = importlib.util.find_spec("sightstream.kafka") is not None

STARTED = ("mlflow", "spark-master", "spark-worker", "stream", "trainer")


def services():
    """What is started: the file's own services, without what has to wait for Kafka."""
    found = {name: dict(compose.read()["services"][name]) for name in STARTED}
    for service in found.values():
        service["depends_on"] = {k: v for k, v in service.get("depends_on", {}).items()
                                 if k in STARTED}  # fmt: skip
    if not KAFKA:
        command = found["stream"]["command"]
        assert command[:2] == ["sightstream", "run"]
        found["stream"]["command"] = ["sightstream", "run"]
        for service in found.values():
            service["environment"] = {
                k: v for k, v in service.get("environment", {}).items() if "KAFKA" not in k
            }
    return found


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
@pytest.mark.skipif(KAFKA, reason="the services kafka and topics are not started here yet")
def test_images_come_in_rows_come_out_and_prometheus_sees_it(tmp_path, until):
    from deltalake import DeltaTable

    with compose.up(tmp_path / "volumes", services()) as running:
        address = f"127.0.0.1:{running.ports['9108']}"
        with prometheus(tmp_path / "prometheus", {"sightstream": address}) as seen:
            samples = 10  # a first run drops them itself
            digits = sorted((running.home / "starter" / "digits").glob("*/*.png"))[:30]
            aside = running.home / "drop"
            aside.mkdir()
            for digit in digits:
                shutil.copyfile(digit, aside / digit.name)
            (aside / "torn.png").write_bytes(digits[0].read_bytes()[:60])
            aside.rename(running.home / "inbox" / "drop")

            def rows():
                path = running.home / "predictions"
                if not DeltaTable.is_deltatable(str(path)):
                    return 0
                return DeltaTable(path).to_pyarrow_dataset().to_table()

            def all_there():
                table = rows()
                return table and table.num_rows == samples + len(digits) + 1 and table

            table = until(all_there, 120)
            assert len(set(table["event_id"].to_pylist())) == table.num_rows
            statuses = table["status"].to_pylist()
            assert statuses.count("rejected") == 1

            until(lambda: seen.ask("sum(sightstream_images_total) == 41"), 30)
            assert seen.ask("sightstream_spark_executors >= 1")
            assert seen.ask('sightstream_registry_version{alias="champion"} == 1')
            assert seen.ask('up{job="sightstream"} == 1')
            until(lambda: "nothing done" in running.said("trainer"), 60)
