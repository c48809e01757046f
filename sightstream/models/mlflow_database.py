"""The registered models in MLflow's SQLite database, read without MLflow.

MLflow's import takes two seconds of a core, which each start and each look at the registry would
pay for. MLflow alone writes the database. Where its tables are other ones, `UnknownError` tells the
caller to ask MLflow; `tests/integration/test_mlflow_database.py` fails where the answers differ.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_MODELS = """
    SELECT name FROM registered_models AS model WHERE NOT EXISTS (
        SELECT * FROM registered_model_tags AS tag WHERE tag.name = model.name
        AND tag.key = 'mlflow.prompt.is_prompt' AND tag.value = 'true'
    ) ORDER BY name
"""
"""MLflow keeps prompts in the same tables."""

LATEST = "latest"
"""An alias, in letters of any case, that no version can be given: MLflow means the newest by it."""

_VERSIONS = """
    SELECT name, version, creation_time, source, run_id FROM model_versions
    WHERE current_stage != 'Deleted_Internal' AND name = ?
"""


class UnknownError(Exception):
    """The tables are other ones, or hold workspaces, which only MLflow tells apart."""


@dataclass(frozen=True)
class ModelVersion:
    """A version, with those attributes of MLflow's class of this name that the registry needs."""

    name: str
    version: int
    creation_timestamp: int  # ms since 1970
    source: str
    run_id: str
    aliases: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)


def models(database: Path) -> list[str]:
    """Return the names of the models that have a version, sorted; also raises sqlite3.Error.

    Raises:
        UnknownError: MLflow must be asked.
    """
    with _opened(database) as it:
        return [name for (name,) in it.execute(_MODELS) if it.execute(_VERSIONS, [name]).fetchone()]


def versions(database: Path, name: str) -> list[ModelVersion]:
    """Return the versions of a model, in any order; raises as `models` does."""
    if not _can_be(name):
        return []
    with _opened(database) as it:
        found = {row[1]: ModelVersion(*row) for row in it.execute(_VERSIONS, [name])}
        sql = "SELECT alias, version FROM registered_model_aliases WHERE name = ?"
        for alias, number in it.execute(sql, [name]):
            if number in found:
                found[number].aliases.append(alias)
        sql = "SELECT version, key, value FROM model_version_tags WHERE name = ?"
        for number, key, value in it.execute(sql, [name]):
            if number in found:
                found[number].tags[key] = value
    return list(found.values())


def chosen(versions: Sequence[ModelVersion], which: str) -> ModelVersion | None:
    """Return the version of a number or an alias, of which `latest` is the newest; else None."""
    if which.isdecimal():  # not as an integer, which has a limit of digits
        return next((each for each in versions if str(each.version) == which.lstrip("0")), None)
    if which.lower() == LATEST:
        return max(versions, key=lambda each: each.version, default=None)
    return next((each for each in versions if which in each.aliases), None)


def _can_be(name: str) -> bool:
    """False for bytes of a command line that are no UTF-8: SQLite would raise for them."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def _opened(database: Path) -> Iterator[sqlite3.Connection]:
    """Open it, if it is there; all reads in the block see one state of it."""
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True)) as it:
            it.execute("BEGIN")
            columns = [row[1] for row in it.execute("PRAGMA table_info(registered_models)")]
            if (
                "workspace" in columns
                and it.execute(
                    "SELECT * FROM registered_models WHERE workspace != 'default'"
                ).fetchone()
            ):
                raise UnknownError("there are workspaces")
            yield it
    except sqlite3.OperationalError as error:
        if str(error).startswith(("no such table", "no such column")):
            raise UnknownError(str(error)) from error
        raise
