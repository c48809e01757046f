"""registry: publish, promote and roll back on a real MLflow registry in SQLite."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from sightstream.config import Settings
from sightstream.errors import (
    EnvironmentUnfitError,
    ModelDamagedError,
    ModelNotFoundError,
    RegistryUnavailableError,
)
from sightstream.models.registry import Registry
from tests.tiny_model import register


@pytest.fixture
def home(new_home):
    """A home with the starter model in a registry of its own."""
    return new_home(own_registry=True)


@pytest.fixture
def registry(home):
    return Registry(home.settings.registry_address)


@pytest.fixture
def publish(registry):
    """Registers the first version's files once more."""

    def copy():
        first = registry.version("starter", 1)
        return registry.publish(
            "starter", first.folder, first.digest,
            parameters={"epochs": 2}, metrics={"accuracy": 0.5}, curves={"loss": [2.0, 1.0]},
        )  # fmt: skip

    return copy


def test_a_home_without_registry(tmp_path):
    registry = Registry(Settings(home=tmp_path).registry_address)
    assert not registry.exists
    assert registry.champion_number("starter") is None
    assert registry.versions("starter") == []
    assert registry.names() == []
    with pytest.raises(ModelNotFoundError, match="sightstream train starter"):
        registry.version("starter")


def test_tags_that_another_client_wrote_cost_what_they_tell_and_no_more(tiny_home, tmp_path):
    settings = tiny_home().settings
    register(settings, "tiny", tmp_path / "version")
    registry = Registry(settings.registry_address)
    for text in ("{", "[" * 5000, "7", '{"accuracy": "high"}', '["1"]', "null"):
        registry._client.set_model_version_tag("tiny", "1", "metrics", text)
        registry._client.set_registered_model_tag("tiny", "champions", text)
        (found,) = registry.versions("tiny")
        assert found.metrics == {}
        assert registry.promote("tiny", 1).number == 1


ASK = """
from sightstream import config
from sightstream.models import registry
print(registry.Registry(config.load().registry_address).version("starter").number)
from mlflow.telemetry.client import get_telemetry_client
print(get_telemetry_client())
"""


def test_mlflow_tells_nobody_how_it_is_used(home):
    kept = {k: v for k, v in os.environ.items() if k not in {"CI", "MLFLOW_DISABLE_TELEMETRY"}}
    asked = kept | {"SIGHTSTREAM_HOME": str(home.settings.root)}
    done = subprocess.run(
        [sys.executable, "-c", ASK], env=asked, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "1\nNone\n", done.stderr


def test_the_starter_is_listed(registry):
    assert registry.exists
    assert registry.names() == ["starter"]
    (version,) = registry.versions("starter")
    assert (version.number, version.aliases) == (1, ("champion",))
    assert registry.version("starter", "champion") == registry.version("starter", 1) == version


def test_long_curves_are_kept_whole(registry):
    first, losses = registry.version("starter", 1), [1 / n for n in range(1, 1501)]
    version = registry.publish(
        "starter", first.folder, first.digest,
        parameters={}, metrics={"loss": 0.5}, curves={"val_loss": losses},
    )  # fmt: skip
    assert registry.curves(version) == {"val_loss": losses}


def test_what_cannot_be_copied_whole_leaves_nothing(registry, tmp_path):
    first = registry.version("starter", 1)
    files, artifacts = first.folder, Path(registry._database).parent / "artifacts"
    before = {*artifacts.rglob("*")}
    (tmp_path / "page.html").symlink_to("nowhere")
    with pytest.raises(RegistryUnavailableError):
        registry.publish(
            "starter", files, first.digest, parameters={}, metrics={}, curves={}, report=tmp_path
        )
    assert {path for path in artifacts.rglob("*") if path.is_file()} <= before
    assert [each.number for each in registry.versions("starter")] == [1]
    running = registry._client.search_runs(
        [each.experiment_id for each in registry._client.search_experiments()],
        "attributes.status = 'RUNNING'",
    )
    assert not running


CREATE = """
import sys
from sightstream.models.registry import Registry
print("begins", flush=True)
registry = Registry(sys.argv[1])
registry._client
print(registry.versions("leaf"))
"""


def test_a_kill_while_the_first_one_is_made_leaves_a_registry_that_opens(tmp_path):
    command = [sys.executable, "-c", CREATE, f"sqlite:///{tmp_path}/mlflow.db"]
    for grown in (1, 100_000, 300_000):
        (tmp_path / "mlflow.db.new").unlink(missing_ok=True)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline, new = time.monotonic() + 60, tmp_path / "mlflow.db.new"
        while not (new.exists() and new.stat().st_size >= grown) and process.poll() is None:
            assert time.monotonic() < deadline
        assert process.poll() is None
        process.kill()
        process.wait()
        assert not (tmp_path / "mlflow.db").exists()
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [each.communicate(timeout=120)[0] for each in both] == ["begins\n[]\n"] * 2
    assert sorted(each.name for each in tmp_path.iterdir()) == ["lock", "mlflow.db"]


PUBLISH = """
import sys
from pathlib import Path
from sightstream.models.registry import Registry
registry = Registry(sys.argv[1])
first = registry.version("starter", 1)
files = first.folder
print("ready", flush=True)
sys.stdin.readline()
registry.publish("fresh", files, first.digest, parameters={}, metrics={}, curves={})
"""


def test_two_may_register_the_first_versions_of_a_name_at_once(registry):
    command = [sys.executable, "-c", PUBLISH, registry.uri]
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, **pipe) for _ in range(2)]
    for each in both:
        assert each.stdout.readline() == "ready\n"
    for each in both:
        each.stdin.write("go\n")
        each.stdin.flush()
    assert [each.wait(60) for each in both] == [0, 0]
    assert sorted(each.number for each in registry.versions("fresh")) == [1, 2]


def test_a_published_version_is_the_challenger(registry, publish):
    second = publish()
    assert (second.number, second.aliases) == (2, ("challenger",))
    assert second.metrics == {"accuracy": 0.5}
    assert registry.champion_number("starter") == 1
    assert [v.number for v in registry.versions("starter")] == [2, 1]
    assert registry.load(second).version == 2


def test_the_training_run_is_kept_with_its_curves(registry, publish):
    run_id = publish().run_id
    run = registry._client.get_run(run_id)
    curve = registry._client.get_metric_history(run_id, "loss")
    assert run.data.params == {"epochs": "2"}
    assert run.info.status == "FINISHED"
    assert [(point.step, point.value) for point in curve] == [(1, 2.0), (2, 1.0)]


def test_report_and_curves_are_read_back(registry, publish):
    first, second = registry.version("starter", 1), publish()
    with registry.report(first) as report:
        assert (report / "evaluation.json").is_file()
    with registry.report(second) as report:
        assert report is None
    assert registry.curves(second) == {"loss": [2.0, 1.0]}
    curves = registry.curves(first)
    assert set(curves) == {"loss", "val_loss", "accuracy", "val_accuracy", "learning_rate"}
    assert len({len(values) for values in curves.values()}) == 1


def test_the_champion_before_is_known(registry, publish):
    assert registry.earlier("starter") is None
    registry.promote("starter", publish().number)
    assert registry.earlier("starter") == 1


def test_promote_and_roll_back(registry, publish):
    for number in (2, 3):
        assert publish().number == number
        assert registry.promote("starter", number).aliases == ("champion",)
    assert registry.rollback("starter").number == 2
    assert registry.rollback("starter").number == 1
    with pytest.raises(ModelNotFoundError, match="'starter' had no champion before this one"):
        registry.rollback("starter")
    assert registry.champion_number("starter") == 1


def test_rollback_and_promote_follow_an_alias_that_mlflow_moved(registry, publish):
    for number in (2, 3, 4):
        assert publish().number == number
    registry.promote("starter", 2)
    registry._client.set_registered_model_alias("starter", "champion", "3")
    assert registry.earlier("starter") == 2
    registry.promote("starter", 4)
    assert [registry.rollback("starter").number for _ in range(3)] == [3, 2, 1]
    registry._client.set_registered_model_alias("starter", "champion", "4")
    assert registry.rollback("starter").number == 1


def test_a_version_that_is_promoted_twice_is_one_step_back(registry, publish):
    for _ in range(2):
        registry.promote("starter", 2 if registry.versions("starter")[1:] else publish().number)
    assert registry.rollback("starter").number == 1


def test_rollback_passes_over_versions_that_mlflow_deleted(registry, publish):
    for _ in range(2):
        registry.promote("starter", publish().number)
    registry._client.delete_model_version("starter", "2")
    assert registry.rollback("starter").number == 1


def test_after_mlflow_deleted_the_alias_a_version_can_be_promoted(registry, publish):
    registry.promote("starter", publish().number)
    registry._client.delete_registered_model_alias("starter", "champion")
    with pytest.raises(ModelNotFoundError, match="the alias 'champion'"):
        registry.rollback("starter")
    assert registry.promote("starter", 1).number == 1
    assert registry.rollback("starter").number == 2


def test_the_champion_stays_when_the_promoted_one_is_damaged(registry, publish):
    damaged = publish()
    (damaged.folder / "model.onnx").write_bytes(b"no model")
    with pytest.raises(ModelDamagedError, match=r"model\.onnx is not the file"):
        registry.promote("starter", damaged.number)
    assert registry.champion_number("starter") == 1
    assert registry.version("starter", 2).aliases == ("challenger",)


def test_the_champion_stays_when_the_one_before_is_damaged(registry, publish):
    for _ in range(2):
        registry.promote("starter", publish().number)
    (registry.version("starter", 2).folder / "version.json").unlink()
    with pytest.raises(ModelDamagedError, match=r"version\.json cannot be read"):
        registry.rollback("starter")
    assert registry.champion_number("starter") == 3


@pytest.mark.parametrize("which", [99, "challenger", "no such alias"])
def test_an_unknown_version_is_named(registry, which):
    with pytest.raises(ModelNotFoundError, match=f"no version of 'starter' has .* '{which}'"):
        registry.version("starter", which)


def test_a_server_that_is_away_is_told_in_seconds():
    begin = time.monotonic()
    with pytest.raises(
        RegistryUnavailableError, match=r"127\.0\.0\.1:1 failed: Connection refused"
    ):
        Registry("http://me:secret@127.0.0.1:1").version("starter")
    assert time.monotonic() - begin < 60


def test_a_locked_registry_is_told_in_a_line(home):
    database = home.settings.registry / "mlflow.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        begin = time.monotonic()
        with pytest.raises(RegistryUnavailableError) as told:
            Registry(home.settings.registry_address).version("starter")
        assert time.monotonic() - begin < 30
        other.execute("ROLLBACK")
    assert str(told.value) == (
        f"the registry sqlite:///{database} failed: it is locked by another process; try again "
        "when that is done"
    )


def test_a_database_that_is_none_is_told_at_once(tmp_path):
    begin = time.monotonic()
    (tmp_path / "folder").mkdir()
    (tmp_path / "noise").write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 8)
    for name, reason in ("folder", "unable to open"), ("noise", "file is not a database"):
        with pytest.raises(RegistryUnavailableError, match=f"{name} failed: .*{reason}"):
            Registry(f"sqlite:///{tmp_path / name}").names()
    assert time.monotonic() - begin < 30


def test_a_database_whose_driver_is_missing_is_told():
    with pytest.raises(EnvironmentUnfitError, match="needs the Python module pymssql"):
        Registry("mssql+pymssql://me@127.0.0.1/x").names()


# Homes that are moved and copied

COLUMNS = (
    "SELECT artifact_location FROM experiments WHERE name = 'starter' "
    "UNION SELECT artifact_uri FROM runs UNION SELECT artifact_location FROM logged_models "
    "UNION SELECT source FROM model_versions UNION SELECT storage_location FROM model_versions"
)


@pytest.fixture
def copied(home, tmp_path):
    """A copy of a home below a name that looks like MLflow's own; the original's files are bad."""
    root = tmp_path / "artifacts" / "new home"
    shutil.copytree(home.settings.root, root)
    for file in (home.settings.registry / "artifacts").rglob("*.*"):
        file.write_bytes(b"of another home")
    return Settings(home=root)


def test_a_copied_home_answers_from_its_own_files(copied):
    registry = Registry(copied.registry_address)
    version = registry.version("starter")
    assert version.folder.is_relative_to(copied.registry)
    assert registry.load(version).version == 1
    with registry.report(version) as report:
        assert report.is_relative_to(copied.registry)


def test_the_database_of_a_copied_home_names_its_files_for_mlflow_too(copied):
    Registry(copied.registry_address).names()
    with closing(sqlite3.connect(copied.registry / "mlflow.db")) as database:
        places = [place for (place,) in database.execute(COLUMNS)]
    assert len(places) >= 3
    assert all(place.startswith(f"{copied.registry}/artifacts/starter") for place in places)


def test_a_database_that_cannot_be_written_is_read_all_the_same(copied):
    database = copied.registry / "mlflow.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # which lets others read
        registry = Registry(copied.registry_address)
        assert registry.load(registry.version("starter")).version == 1
        other.execute("ROLLBACK")


def test_what_is_published_in_a_copied_home_stays_there(copied, home):
    registry = Registry(copied.registry_address)
    first = registry.version("starter")
    # Another process opens it meanwhile that sees it at another place.
    places = str(copied.registry), str(home.settings.registry)
    with closing(sqlite3.connect(copied.registry / "mlflow.db")) as database, database:
        for table, column in ("experiments", "artifact_location"), ("runs", "artifact_uri"):
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", places)
    before = {*home.settings.registry.rglob("*")}
    with registry.report(first) as report:
        second = registry.publish(
            "starter", first.folder, first.digest, parameters={}, metrics={}, curves={},
            report=report,
        )  # fmt: skip
        assert registry.promote("starter", second.number).number == 2
        registry.attach(second, report)
    with registry.report(second) as report:
        assert report.is_relative_to(copied.registry)
    assert {*home.settings.registry.rglob("*")} == before


def test_files_that_no_registry_of_ours_made_stay_where_they_are(registry):
    client, first = registry._client, registry.version("starter")
    there = "/srv/models/leaf"
    client.create_registered_model("leaf")
    client.create_model_version("leaf", there, first.run_id)
    assert registry.version("leaf", 1).source == there
    assert Registry("http://127.0.0.1:1")._here(first.source) == first.source
