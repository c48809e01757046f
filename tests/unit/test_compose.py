"""docker-compose.yml and the Dockerfile: valid, pinned, closed, and in step with what they name."""

import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests import broker, compose

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

SERVICES = compose.read()["services"]
OURS = {name for name, service in SERVICES.items() if service["image"].startswith("sightstream")}


def run(*command):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_it_is_what_the_compose_specification_allows():
    code, said = run(
        BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"
    )
    assert code == 0, said


def test_hadolint_finds_nothing_in_the_dockerfile():
    assert run(BIN / "hadolint", "docker/Dockerfile") == (0, "")


@pytest.mark.parametrize("name", SERVICES)
def test_versions_are_pinned(name):
    assert re.search(r":v?\d+\.\d+\.\d+", SERVICES[name]["image"])


@pytest.mark.parametrize("name", ["kafka", "topics"])
def test_the_broker_is_the_one_that_is_tested(name):
    assert SERVICES[name]["image"] == f"apache/kafka:{broker.VERSION}"


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_only(name):
    assert not SERVICES[name].keys() & {"network_mode", "privileged"}
    for port in SERVICES[name].get("ports", ()):
        assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_is_in_the_file(name):
    environment = SERVICES[name].get("environment", {})
    keys = [key for key in environment if re.search("PASSWORD|SECRET|TOKEN", key)]
    assert all(key.endswith("__FILE") for key in keys)


@pytest.mark.parametrize("name", SERVICES)
def test_none_has_rights_of_root_or_gets_some(name):
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_ours_can_change_nothing_but_their_volumes(name):
    assert SERVICES[name]["read_only"] is True


def test_our_image_does_not_run_as_root():
    users = re.findall(r"^USER (.+)$", (ROOT / "docker/Dockerfile").read_text(), re.MULTILINE)
    assert users == ["10001"]


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"topics"}))
def test_health_is_checked_or_said_not_to_be(name):
    assert SERVICES[name]["healthcheck"].keys() & {"test", "disable"}


def test_who_is_waited_for_has_a_health_check():
    for service in SERVICES.values():
        for name, wanted in service.get("depends_on", {}).items():
            if wanted["condition"] == "service_healthy":
                assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    assert compose.in_order(SERVICES)


def test_volumes_are_named_or_in_the_repository():
    named = compose.read()["volumes"]
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in named or (ROOT / source).is_dir(), volume


def test_prometheus_and_grafana_ask_services_that_exist():
    config = yaml.safe_load((ROOT / "docker/prometheus/prometheus.yml").read_text())
    targets = [t for job in config["scrape_configs"] for s in job["static_configs"]
               for t in s["targets"]]  # fmt: skip
    folder = ROOT / "docker/grafana/provisioning/datasources"
    (source,) = yaml.safe_load((folder / "prometheus.yml").read_text())["datasources"]
    hosts = {target.split(":")[0] for target in (*targets, source["url"].split("//")[1])}
    assert hosts - {"localhost"} <= SERVICES.keys()


def test_commands_and_settings_are_ones_that_sightstream_has():
    from sightstream.config import Settings

    known = {f"SIGHTSTREAM_{key.upper()}" for key in Settings.model_fields}
    for name in OURS:
        keys = {k for k in SERVICES[name].get("environment", {}) if k.startswith("SIGHTSTREAM_")}
        assert keys <= known


def test_make_up_makes_a_password_that_only_its_user_can_read(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    made = []
    for _ in range(2):
        done = subprocess.run(["make", "docker/secrets/grafana"], cwd=tmp_path, capture_output=True)
        assert done.returncode == 0
        secret = tmp_path / "docker/secrets/grafana"
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        made.append(secret.read_text())
        secret.unlink()
    assert made[0] != made[1]
    assert len(made[0].strip()) >= 32
