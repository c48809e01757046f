"""`sightstream doctor`: its checks of the library, each with the fault that it must name."""

import hashlib
import json
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from sightstream import config
from sightstream.cli import doctor, extras
from sightstream.errors import EnvironmentUnfitError
from sightstream.images.decode import Preprocessing
from sightstream.models.registry import Registry
from sightstream.models.version import Card
from sightstream.runtime import jvm, spark


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
    return home, version.folder


def test_a_fresh_home_is_fit_and_stays_untouched(settings):
    fit = list(doctor.checks(settings.model_copy(update={"metrics_port": 0})))
    assert [c for c in fit if not c.ok] == []
    assert not settings.root.exists()


def test_the_module_brings_in_nothing_heavy():
    code = (
        "import sys, sightstream.cli.doctor, streaming.checks, streaming.checkpoint, "
        "training.checks;"
        "print({'mlflow', 'pyspark', 'deltalake', 'tensorflow', 'psutil'} & {*sys.modules})"
    )
    root = Path(doctor.__file__).parents[2]
    assert os.popen(f"cd {root} && {sys.executable} -c {code!r}").read() == "set()\n"


def test_another_python_is_told(look, monkeypatch):
    monkeypatch.setattr(doctor, "PYTHON", ((3, 8), (3, 9)))
    check = look("Python")
    assert not check.ok
    assert "none of 3.8 to 3.9" in check.detail


@pytest.mark.parametrize("release", ["11.0.2", "24.0.1", "1.8.0_402"])
def test_another_java_is_told(look, java, release):
    java(release)
    check = look("Java")
    assert not check.ok
    assert f"found Java {release.removeprefix('1.').partition('.')[0]};" in check.detail
    with pytest.raises(EnvironmentUnfitError, match="17, 21 or 25"):
        jvm.require_java()


def test_java_21_will_do(look, java):
    java("21.0.4")
    assert look("Java").ok


@pytest.mark.parametrize(("said", "major"), [("21.0.4", 21), ("1.8.0_402", 8), ("17", 17)])
def test_java_is_not_started_where_a_file_says_its_release(java, tmp_path, said, major):
    java("11.0.2")
    facts = f'IMPLEMENTOR="Debian"\nJAVA_VERSION="{said}"\nJAVA_VERSION_DATE="2025-04-15"\n'
    (tmp_path / "jdk" / "release").write_text(facts)
    assert jvm.java_version() == major


def test_a_file_of_a_release_without_its_java_is_no_java(look, monkeypatch, tmp_path):
    (tmp_path / "release").write_text('JAVA_VERSION="21.0.4"\n')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert "found no Java; install one" in look("Java").detail


def test_no_java_is_told(look, monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert "found no Java; install one" in look("Java").detail


@pytest.mark.parametrize(
    ("name", "version", "said"),
    [
        ("pyarrow", "99.0.0", "pyarrow 99.0.0 is not <27,>=20"),
        ("pandas", "1.5.3", "pandas 1.5.3 is not <4,>=2.2"),
        ("pyspark", "3.5.1", "pyspark 3.5.1 is not <5,>=4.0"),
        ("elephas", "7.0.1", "elephas 7.0.1 is not <8,>=7.3"),
    ],
)
def test_a_package_that_breaks_the_others_is_told(look, package, name, version, said):
    package(name, version)
    check = look("packages")
    assert not check.ok
    assert said in check.detail
    assert f"rm -f {sys.prefix}/setup-done; make setup" in check.detail


def test_the_extras_that_are_installed_are_named(look):
    assert {"kafka", "sql", "train", "web"} <= {*extras.names()}
    assert f"extras: {', '.join(extras.names())}" in look("packages").detail


def test_an_extra_that_is_not_installed_is_no_fault_and_its_cure_is_named(look, monkeypatch):
    absent = {"duckdb", "streamlit"}
    installed = extras.installed
    monkeypatch.setattr(extras, "installed", lambda n: "" if n in absent else installed(n))
    check = look("packages")
    assert check.ok
    there = ", ".join(name for name in extras.names() if name not in {"sql", "web"})
    assert f"extras: {there}; not installed: sql (pip install 'sightstream[sql]'), web" in (
        check.detail
    )


def test_a_package_of_the_core_that_is_missing_is_told(look, monkeypatch):
    installed = extras.installed
    monkeypatch.setattr(extras, "installed", lambda n: "" if n == "deltalake" else installed(n))
    detail = look("packages").detail
    cure = f"{sys.executable} -m pip install 'deltalake<2,>=1.6'"
    assert detail == f"deltalake is not installed; install: {cure}"


def test_another_package_with_an_import_name_of_ours_is_told(look, package, tmp_path):
    package("mosaicml-streaming", "0.13.0")
    info = tmp_path / "site" / "mosaicml_streaming-0.13.0.dist-info"
    (info / "top_level.txt").write_text("streaming\n")
    check = look("import names")
    assert not check.ok
    assert check.detail.startswith("mosaicml-streaming installs a package 'streaming' too")


def test_a_package_adds_checks_of_its_own(look, package, tmp_path):
    package("more-checks", "1.0")
    info = tmp_path / "site" / "more_checks-1.0.dist-info"
    (info / "entry_points.txt").write_text("[sightstream.checks]\nmore = more_checks:CHECKS\n")
    assert "more_checks:CHECKS cannot be loaded: ModuleNotFoundError" in look("more").detail
    (tmp_path / "site" / "more_checks.py").write_text("CHECKS = {'tea': lambda _: 'is ready'}\n")
    assert look("tea") == doctor.Check("tea", True, "is ready")


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
    assert "train it again: sightstream train starter" in check.detail  # there is no other version


def test_a_damaged_champion_is_told_with_the_version_to_go_back_to(look, registered, tmp_path):
    home = tmp_path / "copy"
    shutil.copytree(registered[0], home)
    registry = Registry(config.load(home=home).registry_address)
    first = registry.version("starter")
    second = registry.publish(
        "starter", first.folder, first.digest, parameters={}, metrics={}, curves={}
    )
    registry._client.set_registered_model_tag("starter", "champions", "[1]")
    registry._client.set_registered_model_alias("starter", "champion", "2")
    (second.folder / "model.keras").write_bytes(b"netwerk")
    assert "sightstream models rollback starter" in look("model", home=home).detail


def test_several_models_of_which_none_is_named_are_told(look, registered, tmp_path):
    home = tmp_path / "copy"
    shutil.copytree(registered[0], home)
    registry = Registry(config.load(home=home).registry_address)
    first = registry.version("starter")
    registry.publish("leaf", first.folder, first.digest, parameters={}, metrics={}, curves={})
    check = look("model", home=home)
    assert not check.ok
    assert "the registry has the models leaf, starter; name the one to use" in check.detail
    assert "--model leaf" in check.detail
    assert look("model", home=home, model="starter").ok


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
