"""mlflow_database: what is read without MLflow is what MLflow answers, and else MLflow is asked."""

import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from sightstream.config import Settings
from sightstream.models import mlflow_database
from sightstream.models.registry import Registry


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A registry with all that MLflow lets people do in one."""
    registry = Registry(Settings(home=tmp_path_factory.mktemp("home")).registry_address)
    client = registry._client
    for name in ("leaf", "car", "empty"):
        client.create_registered_model(name)
    for name, count in (("leaf", 4), ("car", 1)):
        for number in range(1, count + 1):
            client.create_model_version(name, f"/srv/{name}/{number}", tags={"sha256": f"{number}"})
    client.set_model_version_tag("leaf", "2", "metrics", '{"accuracy": 0.5}')
    client.set_registered_model_alias("leaf", "champion", "2")
    client.set_registered_model_alias("leaf", "best", "2")
    client.set_registered_model_alias("leaf", "challenger", "4")
    client.delete_model_version("leaf", "3")
    client.register_prompt("hello", "Say {{word}}.")
    return registry


@pytest.fixture
def changed(registry, tmp_path):
    """Makes a copy of the database in which one statement was run."""

    def change(sql):
        copy = Registry(Settings(home=tmp_path).registry_address)
        copy._database.parent.mkdir()
        copy._database.write_bytes(registry._database.read_bytes())
        with closing(sqlite3.connect(copy._database)) as database, database:
            database.execute("PRAGMA foreign_keys = OFF")
            database.execute(sql)
        return copy

    return change


def test_the_names_are_those_of_mlflow(registry):
    found = registry._client.search_registered_models()
    assert mlflow_database.models(registry._database) == ["car", "leaf"]
    assert [each.name for each in found] == ["car", "empty", "leaf"]
    assert registry.names() == ["car", "leaf"]


@pytest.mark.parametrize("name", ["leaf", "car", "empty", "none"])
def test_the_versions_are_those_of_mlflow(registry, name, monkeypatch):
    own = registry.versions(name)
    monkeypatch.setattr(registry, "_without_mlflow", lambda *_: None)
    assert own == registry.versions(name)
    assert len(own) == {"leaf": 3, "car": 1}.get(name, 0)


@pytest.mark.parametrize(
    "which",
    ["champion", "best", "Best", "challenger", "none", 1, 2, 3, "4", "04", 9, "\u00b2", "7" * 5000,
     "", "latest", "LATEST"],
)  # fmt: skip
def test_one_version_is_that_of_mlflow(registry, which, monkeypatch):
    own = registry.number("leaf", which)
    monkeypatch.setattr(registry, "_without_mlflow", lambda *_: None)
    assert own == registry.number("leaf", which)


def test_a_name_that_is_no_text_is_of_no_model(registry):
    assert registry.versions("le\udcffaf") == []
    assert registry.number("le\udcffaf", "champion") is None


def test_mlflow_is_not_imported(registry):
    code = (
        "import sys; from sightstream.models.registry import Registry; "
        f"it = Registry({registry.uri!r}); print(it.names(), it.champion_number('leaf'));"
        "print('mlflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['car', 'leaf'] 2", "False"]


def test_where_a_table_is_another_one_mlflow_is_asked(changed):
    copy = changed("ALTER TABLE registered_model_aliases RENAME COLUMN alias TO alias_name")
    with pytest.raises(mlflow_database.UnknownError, match="alias"):
        mlflow_database.versions(copy._database, "leaf")
    assert copy.names() == ["car", "leaf"]


def test_where_there_are_workspaces_mlflow_is_asked(changed):
    copy = changed("UPDATE registered_models SET workspace = 'lab' WHERE name = 'car'")
    with pytest.raises(mlflow_database.UnknownError, match="workspaces"):
        mlflow_database.models(copy._database)
