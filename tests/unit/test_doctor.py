"""Tests of what `sightstream doctor` looks at, each with the fault that it must name."""

import fcntl
import hashlib
import json
import os
import socket
import stat
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from sightstream import config
from sightstream.cli import doctor
from sightstream.errors import EnvironmentUnfitError
from sightstream.images.decode import Preprocessing
from sightstream.models.registry import Registry
from sightstream.models.version import Card
from sightstream.runtime import spark
from sightstream.tables.predictions import Predictions
from sightstream.tables.schema import ROW

NOW = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
def look(settings):
    """Answers with the check of one name; `flags` are settings of its own."""

    def run(name, **flags):
        chosen = settings.model_copy(update=flags)
        return next(c for c in doctor.checks(chosen) if c.name == name)

    return run


@pytest.fixture
def java(tmp_path, monkeypatch):
    """Puts a Java in place that says it is of some release."""

    def install(release):
        program = tmp_path / "jdk" / "bin" / "java"
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\necho 'openjdk version \"{release}\"' >&2\n")
        program.chmod(0o755)
        monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))

    return install


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Installs no more of a package than its name and version."""

    def install(name, version):
        info = tmp_path / "site" / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        monkeypatch.syspath_prepend(tmp_path / "site")

    return install


@pytest.fixture
def table(settings):
    row = {"event_id": "1", "source": "folder", "status": "ok", "label": "7"}
    row |= {"processed_at": NOW, "date": NOW.date()}
    Predictions(settings.predictions).append(pa.Table.from_pylist([row], ROW), "app", 0)
    return Path(settings.predictions)


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """A home whose registry has a version; its network is a stand-in, since nothing runs it."""
    home, files = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("version")
    (files / "model.keras").write_bytes(b"network")
    sums = {"model.keras": hashlib.sha256(b"network").hexdigest()}
    shape = Preprocessing(width=8, height=8, channels=1)
    card = Card(("a", "b"), shape, {}, {}, checksums=sums)
    (files / "version.json").write_text(json.dumps(asdict(card)))
    digest = hashlib.sha256((files / "version.json").read_bytes()).hexdigest()
    registry = Registry(config.load(home=home).registry_address)
    version = registry.publish("starter", files, digest, parameters={}, metrics={}, curves={})
    # `promote` would run the network.
    registry._client.set_registered_model_alias("starter", "champion", str(version.number))
    return home, registry.fetch(version)


def test_a_fresh_home_is_fit_and_stays_untouched(settings):
    fit = list(doctor.checks(settings.model_copy(update={"metrics_port": 0})))
    assert [c for c in fit if not c.ok] == []
    assert not settings.root.exists()


def test_the_module_brings_in_nothing_heavy():
    code = (
        "import sys, sightstream.doctor, sightstream.checkpoint;"
        "print({'mlflow', 'pyspark', 'deltalake', 'tensorflow', 'psutil'} & {*sys.modules})"
    )
    root = Path(doctor.__file__).parents[1]
    assert os.popen(f"cd {root} && {sys.executable} -c {code!r}").read() == "set()\n"


def test_another_python_is_told(look, monkeypatch):
    monkeypatch.setattr(doctor, "PYTHON", ((3, 8), (3, 9)))
    check = look("Python")
    assert not check.ok
    assert "none of 3.8 to 3.9" in check.detail


@pytest.mark.parametrize("release", ["11.0.2", "25", "1.8.0_402"])
def test_another_java_is_told(look, java, release):
    java(release)
    check = look("Java")
    assert not check.ok
    assert f"found Java {release.removeprefix('1.').partition('.')[0]};" in check.detail
    with pytest.raises(EnvironmentUnfitError, match="17 or 21"):
        doctor.require_java()


def test_java_21_will_do(look, java):
    java("21.0.4")
    assert look("Java").ok


def test_no_java_is_told(look, monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert "found no Java; install one" in look("Java").detail


@pytest.mark.parametrize(
    ("name", "version", "said"),
    [
        ("pyarrow", "26.0.0", "pyarrow 26.0.0 is not below 26"),
        ("pandas", "3.0.1", "pandas 3.0.1 is not below 3"),
        ("numpy", "2.1.0", "numpy 2.1.0 is not below 2"),
        ("pyspark", "4.0.1", "pyspark 4.0.1 is not 4.0.0"),
        ("elephas", "7.0.1", "elephas 7.0.1 is not 7.3.0"),
        ("tensorflow-cpu", "2.19.1", "tensorflow-cpu has overwritten files of tensorflow"),
    ],
)
def test_a_package_that_breaks_the_others_is_told(look, package, name, version, said):
    package(name, version)
    check = look("packages")
    assert not check.ok
    assert said in check.detail
    assert "make clean setup" in check.detail


def test_another_spark_is_told(look, monkeypatch, tmp_path):
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    check = look("Spark")
    assert not check.ok
    assert f"unset SPARK_HOME, which is {tmp_path}" in check.detail


def test_a_spark_that_could_start_sooner_is_told(look, monkeypatch, tmp_path):
    assert look("Spark").detail.endswith(".jar")
    monkeypatch.setattr(spark, "ARCHIVE", tmp_path / "spark.jsa")
    check = look("Spark")
    assert check.ok
    assert check.detail.endswith("starts sooner after: python -m sightstream.runtime.class_archive")


@pytest.mark.parametrize("name", ["inbox", "images", "predictions", "checkpoints", "logs"])
def test_a_file_where_a_folder_must_be_is_told(look, settings, name):
    settings.root.mkdir()
    (settings.root / name).touch()
    check = look("folders")
    assert not check.ok
    assert f"{settings.root / name} is in the way" in check.detail


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_told(look, settings):
    settings.root.mkdir()
    settings.root.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert "cannot be written" in look("folders").detail


@pytest.mark.skipif(
    not Path("/dev/shm").is_dir() or Path("/dev/shm").stat().st_dev == Path("/tmp").stat().st_dev,
    reason="there is only one file system",
)
def test_an_inbox_on_another_file_system_is_told(look, settings):
    settings.root.mkdir()
    settings.inbox.symlink_to("/dev/shm")
    assert "are on two file systems" in look("folders").detail


def test_a_full_disk_is_told(look, monkeypatch):
    monkeypatch.setattr(doctor, "FREE_BYTES", 2**62)
    check = look("disk")
    assert not check.ok
    assert "make room" in check.detail


def test_an_empty_registry_is_fine_for_the_starter_alone(look):
    assert look("model").ok
    check = look("model", model="leaf")
    assert not check.ok
    assert "sightstream train leaf" in check.detail


def test_a_champion_whose_files_are_whole_is_named(look, registered):
    check = look("model", home=registered[0])
    assert check.detail == "starter version 1, 2 labels, files whole"
    assert check.ok


def test_a_damaged_champion_is_told(look, registered):
    home, files = registered
    (files / "model.keras").write_bytes(b"netwerk")
    check = look("model", home=home)
    (files / "model.keras").write_bytes(b"network")
    assert not check.ok
    assert "model.keras is not the file that was registered" in check.detail
    assert "sightstream models rollback starter" in check.detail


def test_a_model_without_a_champion_is_told(look, registered):
    check = look("model", home=registered[0], model="leaf")
    assert "no version of 'leaf' has the alias 'champion'" in check.detail


def test_a_registry_that_does_not_answer_is_told(look, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    check = look("model", registry_uri="http://127.0.0.1:9")
    assert not check.ok
    assert "the registry http://127.0.0.1:9 failed" in check.detail


def test_the_tables_rows_are_counted(look, table):
    assert look("predictions").detail == "1 rows, 0 of them rejected"


@pytest.mark.parametrize("lost", ["*.parquet", "_delta_log/*.json"])
def test_a_table_that_lost_a_file_is_told(look, table, lost):
    min(table.rglob(lost)).unlink()
    check = look("predictions")
    assert not check.ok
    assert f"the table {table} cannot be read" in check.detail


def test_a_checkpoint_that_tells_another_story_is_told(look, settings, table):
    (settings.checkpoint("folder") / "commits").mkdir(parents=True)
    (settings.checkpoint("folder") / "metadata").write_text('{"id": "app"}')
    (settings.checkpoint("folder") / "commits" / "0").write_text("v1")
    assert look("checkpoint").ok
    (settings.checkpoint("folder") / "commits" / "1").write_text("v1")
    check = look("checkpoint")
    assert not check.ok
    assert "was replaced" in check.detail


def test_a_clock_behind_the_newest_manifest_is_told(look, settings):
    settings.manifests.mkdir(parents=True)
    (settings.manifests / f"{time.time_ns():020d}.arrow").touch()
    assert look("clock").ok
    (settings.manifests / f"{time.time_ns() + 10**12:020d}.arrow").touch()
    check = look("clock")
    assert not check.ok
    assert "earlier than the newest manifest" in check.detail


def test_a_clock_that_was_never_set_is_told(look, monkeypatch):
    monkeypatch.setattr(doctor.time, "time", lambda: 0.0)
    assert "1970-01-01 00:00:00 UTC, earlier than this program" in look("clock").detail


def test_a_taken_port_is_told_with_who_has_it(look, settings):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        check = look("metrics port", metrics_port=port)
        assert not check.ok
        assert f"(process {os.getpid()})" in check.detail

        settings.root.mkdir()
        with (settings.root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            check = look("metrics port", metrics_port=port)
        assert check.ok
        assert "the sightstream that runs" in check.detail
    assert look("metrics port", metrics_port=port).detail == f"{port} is free"


def test_an_address_of_another_machine_is_told(look):
    check = look("metrics port", metrics_host="192.0.2.1")
    assert not check.ok
    assert "set metrics_host to an address of this machine" in check.detail
