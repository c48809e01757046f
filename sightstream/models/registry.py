"""The model registry, kept by MLflow: publish, alias, promote, roll back."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from sightstream.errors import (
    ConfigError,
    EnvironmentUnfitError,
    ModelNotFoundError,
    RegistryUnavailableError,
    first_line,
)
from sightstream.io import disk
from sightstream.models import mlflow_database, mlmodel
from sightstream.models.version import CARD_FILE, Card, ServedModel, read_card, serve

if TYPE_CHECKING:
    from mlflow.entities import RunInfo
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

_Found = TypeVar("_Found")

STARTER = "starter"
"""The model that `run` trains in an empty registry."""

_WHICH = re.compile(r"([\w.-]+)(?:@([\w.-]+))?")

_DIGEST = "sha256"
_HISTORY = "champions"
_POINTS = 1000
"""Most metrics that MLflow accepts in one request."""

_LARGEST = 1e300
"""Metrics above it, which JSON can hold, are no floating-point numbers."""

_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Columns of MLflow's tables that hold absolute paths of the files beside the database."""

_PLACE = re.compile(
    r"(?s)(?:file://)?/.*?/artifacts/"
    r"([\w.-]+(?:/models/[^/]+/artifacts|/[0-9a-f]{32}/artifacts(?:/.*)?)?)"
)
"""A path as MLflow makes it for an experiment, a run or a model, in the folder `artifacts`."""

_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""Environment variables for MLflow, which by default asks a server that is away for minutes."""

_MLFLOW_IMPORT = {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}
"""Environment variables that MLflow and GitPython read when they are imported."""

_needed, _needing = Counter[str](), Lock()
"""How many blocks need a variable that we have set."""


@dataclass(frozen=True)
class Version:
    """A version as the registry lists it."""

    name: str
    number: int
    aliases: tuple[str, ...]  # champion, challenger, or none
    created: datetime  # UTC
    digest: str  # SHA-256 of its version.json
    metrics: dict[str, float]  # results of its evaluation
    source: str  # uri of its files
    run_id: str  # MLflow run that trained it
    decision: str = ""  # promoted, refused or undecided, and the reason

    @property
    def folder(self) -> Path | None:
        """The folder of its files; None where they are not on this machine."""
        return _local_folder(self.source)


class Registry:
    """A registry in a SQLite database, with files beside it, or on a tracking server."""

    def __init__(self, uri: str) -> None:
        """Remember a tracking server's uri, or sqlite:/// and a path; the first use opens it."""
        self.uri = uri
        self.shown = re.sub("//[^/]*@", "//", uri)  # without a password
        self._local = uri.startswith("sqlite:///")
        self._database = Path(os.path.realpath(uri.removeprefix("sqlite:///")))
        self._artifacts = self._database.parent / "artifacts"
        self._settled = False

    @property
    def exists(self) -> bool:
        """False for a local registry to which nothing was published yet."""
        return not self._local or self._database.exists()

    @property
    def is_shared(self) -> bool:
        """Whether it is a server, to which others may add versions."""
        return not self._local

    def names(self) -> list[str]:
        """Return the names of the registered models that have a version."""
        if not self.exists:
            return []
        with self._reaching():
            names = self._without_mlflow(mlflow_database.models)
            if names is None:
                found = self._client.search_registered_models()
                names = [model.name for model in found if model.latest_versions]
        return names

    def chosen(self, name: str = "") -> str:
        """Return the model to serve: the named one, or else the only one there is.

        In an empty registry that is the starter.

        Raises:
            ConfigError: there are several, and none was named.
        """
        names = [name] if name else self.names() or [STARTER]
        if len(names) > 1:
            raise ConfigError(
                f"the registry has the models {', '.join(names)}; name the one to use: set model "
                f"in sightstream.toml or SIGHTSTREAM_MODEL, as in SIGHTSTREAM_MODEL={names[0]}, or "
                f"--model {names[0]} where the command has it"
            )
        return names[0]

    def versions(self, name: str) -> list[Version]:
        """Return all versions of a model, newest first; none where there is no such model."""
        if not self.exists:
            return []
        with self._reaching():
            found = self._without_mlflow(mlflow_database.versions, name)
            if found is None:
                found = self._client.search_model_versions(f"name='{name}'")
                aliases = self._client.get_registered_model(name).aliases if found else {}
                for each in found:  # a search leaves them out
                    each.aliases = [a for a, n in aliases.items() if str(n) == str(each.version)]
        return sorted(map(self._version, found), key=lambda version: -version.number)

    def version(self, name: str, which: str | int = "champion") -> Version:
        """Return a version by its number or alias, or raise ModelNotFoundError."""
        if found := self._find(name, which):
            return self._version(found)
        kind = "version" if str(which).isdecimal() else "alias"
        raise ModelNotFoundError(
            f"no version of '{name}' has the {kind} '{which}' in the registry {self.shown}; "
            f"{self._cure(name)}"
        )

    def _cure(self, name: str) -> str:
        """What to do where a version is not there."""
        if name in (names := self.names()):
            return "see: sightstream models list"
        if name == STARTER:
            return f"train it with: sightstream train {STARTER}"
        if names:
            return f"its models are {', '.join(names)}"
        return f"it is empty; train one with: sightstream train RECIPE --data DIR --name {name}"

    def champion_number(self, name: str) -> int | None:
        """Return the champion's number, or None. Cheap enough to poll."""
        return self.number(name, "champion")

    def number(self, name: str, which: str) -> int | None:
        """Return the number of the version that has an alias, or None; as `champion_number`."""
        found = self._find(name, which)
        return int(found.version) if found else None

    def load(self, version: Version, engine: str = "auto", device: str = "auto") -> ServedModel:
        """Fetch a version's files and verify them, as `version.serve` does."""
        with self.files(version) as folder:
            return serve(folder, version.name, version.number, version.digest, engine, device)

    @contextmanager
    def files(self, version: Version) -> Iterator[Path]:
        """Yield the folder of a version's files; remote ones are downloaded for the block alone."""
        if version.folder:
            yield version.folder
        else:
            with self._downloaded(version.source) as folder:
                yield folder

    def card(self, version: Version) -> Card:
        """Read a version's card; ModelDamagedError where a checksum of its files is wrong."""
        with self.files(version) as folder:
            return read_card(folder, version.digest)

    def publish(
        self, name: str, directory: Path, digest: str, *, parameters: Mapping[str, Any],
        metrics: Mapping[str, float], curves: Mapping[str, Sequence[float]],
        report: Path | None = None,
    ) -> Version:  # fmt: skip
        """Record a training run and register its model as the challenger.

        The files of `export` and `write_card`, which returned the digest, are copied, and so are
        the pages and pictures of the report. A curve has a value for each round.
        """
        from mlflow.entities import Metric, Param

        client, now = self._client, time.time_ns() // 1_000_000
        with self._reaching():
            self._settle()
            run = client.create_run(self._experiment(name), run_name=name).info
            client.log_batch(run.run_id, params=[Param(k, str(v)) for k, v in parameters.items()])
            points = [Metric(key, value, now, 0) for key, value in metrics.items()]
            for key, values in curves.items():
                points += [Metric(key, value, now, step) for step, value in enumerate(values, 1)]
            for first in range(0, len(points), _POINTS):
                client.log_batch(run.run_id, points[first : first + _POINTS])
            with self._whole_or_gone(run):
                model = mlmodel.log(client, run, name, directory)
                if report:
                    client.log_artifacts(run.run_id, str(report), "report")
            client.set_terminated(run.run_id)
            with _there_already():
                client.create_registered_model(name)
            number = client.create_model_version(
                name, model.artifact_location, run.run_id, model_id=model.model_id,
                tags={_DIGEST: digest, "metrics": json.dumps(dict(metrics))},
            ).version  # fmt: skip
            client.set_registered_model_alias(name, "challenger", str(number))
        return self.version(name, int(number))

    @contextmanager
    def report(self, version: Version) -> Iterator[Path | None]:
        """Yield the folder of a version's report, if it has one; see `files`."""
        with self._reaching():
            root = self._client.get_run(version.run_id).info.artifact_uri
            if here := _local_folder(self._here(root)):
                found = (here / "report").is_dir()
            else:
                found = bool(self._client.list_artifacts(version.run_id, "report"))
        if here or not found:
            yield here / "report" if here and found else None
        else:
            with self._downloaded(f"runs:/{version.run_id}/report") as folder:
                yield folder

    def curves(self, version: Version) -> dict[str, list[float]]:
        """Return the curves that were published with a version: values by round, by name."""
        with self._reaching():
            known = self._client.get_run(version.run_id).data.metrics
            found = {key: self._client.get_metric_history(version.run_id, key) for key in known}
        curves = {}
        for key, history in found.items():
            values = {each.step: each.value for each in sorted(history, key=lambda m: m.timestamp)}
            values.pop(0, None)  # Results of the evaluation are metrics too, without a step.
            curves[key] = [values[step] for step in sorted(values)]
        return {key: values for key, values in curves.items() if values}

    def earlier(self, name: str) -> int | None:
        """Return the number of the champion before, to which `rollback` returns."""
        self.version(name)
        return next(iter(self._before(name)[-1:]), None)

    def attach(self, version: Version, folder: Path) -> None:
        """Copy a folder of pages and pictures beside the report of a version's training run."""
        client = self._client
        with self._reaching():
            self._settle()
            client.log_artifacts(version.run_id, str(folder), f"evaluations/{folder.name}")

    def decided(self, version: Version, *, promoted: bool | None, reason: str) -> None:
        """Record on a version whether it was promoted, and the figures that decided it.

        None: that is decided later.
        """
        text = f"{ {True: 'promoted', False: 'refused', None: 'undecided'}[promoted] }: {reason}"
        with self._reaching():
            self._client.set_model_version_tag(version.name, str(version.number), "decision", text)

    def promote(self, name: str, number: int) -> Version:
        """Make a version the champion; the champion stays where `load` raises."""
        version = self.version(name, number)
        self.load(version)
        with self._reaching():
            history = self._history(name)
            self._client.set_registered_model_alias(name, "champion", str(number))
            # A kill before this line loses nothing: the history ends with the alias.
            self._remember(name, history if history[-1:] == [number] else [*history, number])
            if "challenger" in version.aliases:
                self._client.delete_registered_model_alias(name, "challenger")
        return self.version(name, number)

    def rollback(self, name: str) -> Version:
        """Return the alias `champion` to the version that had it before, as `promote` does.

        Raises:
            ModelNotFoundError: There was no champion before.
        """
        self.version(name)
        history = self._before(name)
        if not history:
            raise ModelNotFoundError(f"'{name}' had no champion before this one")
        self.load(self.version(name, history[-1]))
        with self._reaching():
            self._remember(name, history)
            self._client.set_registered_model_alias(name, "champion", str(history[-1]))
        return self.version(name)

    @contextmanager
    def _downloaded(self, uri: str) -> Iterator[Path]:
        with ExitStack() as stack:
            with self._reaching():
                from mlflow.artifacts import download_artifacts

                folder = stack.enter_context(TemporaryDirectory(prefix="sightstream-"))
                found = download_artifacts(uri, dst_path=folder, tracking_uri=self.uri)
            yield Path(found)

    def _find(
        self, name: str, which: str | int
    ) -> ModelVersion | mlflow_database.ModelVersion | None:
        if not self.exists:
            return None
        which = str(which)
        with self._reaching():
            found = self._without_mlflow(mlflow_database.versions, name)
            if found is not None:
                return mlflow_database.chosen(found, which)
            from mlflow.exceptions import MlflowException

            try:
                if which.isdecimal():
                    return self._client.get_model_version(name, which)
                return self._client.get_model_version_by_alias(name, which)
            except MlflowException as error:
                if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                    raise
                return None

    def _remember(self, name: str, history: list[int]) -> None:
        self._client.set_registered_model_tag(name, _HISTORY, json.dumps(history[-100:]))

    def _history(self, name: str) -> list[int]:
        """Return the champions, the newest last, which other clients of MLflow may have set."""
        model = self._client.get_registered_model(name)
        history, now = _told(model.tags, _HISTORY, list), model.aliases
        history = [number for number in history if isinstance(number, int)]
        in_use = [int(now["champion"])] if "champion" in now else []
        return history if history[-1:] == in_use else [*history, *in_use]

    def _before(self, name: str) -> list[int]:
        """Return the champions up to the one before the champion that is still registered."""
        there = {version.number for version in self.versions(name)}
        with self._reaching():
            *history, champion = self._history(name)
        there -= {champion}
        while history and history[-1] not in there:
            history.pop()
        return history

    @cached_property
    def _client(self) -> MlflowClient:
        if self._local:
            self._database.parent.mkdir(parents=True, exist_ok=True)
        if self._local and self.exists:  # else MLflow tries for minutes to open what is no database
            with self._reaching(), closing(sqlite3.connect(self._database)) as database:
                database.execute("SELECT name FROM sqlite_master")
        with self._reaching(), _unset_afterwards(_MLFLOW_IMPORT):
            from mlflow.tracking import MlflowClient

            for noisy in ("mlflow", "alembic"):
                logging.getLogger(noisy).setLevel(logging.ERROR)
            if not self.exists:
                self._create()
            client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
            with suppress(sqlite3.Error):  # it is read-only or locked; what is read needs no more
                self._settle()
            return client

    def _without_mlflow(self, read: Callable[..., _Found], *arguments: str) -> _Found | None:
        """Read a local database; None where MLflow must be asked."""
        if not self._local:
            return None
        if not self._settled:
            self._settled = True
            with suppress(sqlite3.Error):  # as in `_client`
                self._settle()
        try:
            return read(self._database, *arguments)
        except mlflow_database.UnknownError:
            return None

    def _create(self) -> None:
        """Make the database aside: killed amid its hundred migrations, it would open no more."""
        from mlflow.tracking import MlflowClient

        new = self._database.with_name(f"{self._database.name}.new")
        with disk.locked(self._database.with_name("lock")):
            if self.exists:
                return
            new.unlink(missing_ok=True)
            MlflowClient(f"sqlite:///{new}", f"sqlite:///{new}").search_registered_models()
            new.rename(self._database)

    def _settle(self) -> None:
        """Have a database that was moved or copied name the files beside it, for MLflow's tools."""
        if not self._local:
            return
        with closing(sqlite3.connect(self._database)) as database, database:
            for table, column in _PLACES:
                found = database.execute(f"SELECT DISTINCT {column} FROM {table}").fetchall()  # noqa: S608
                moved = [
                    (here, old) for (old,) in found if old and (here := self._here(old)) != old
                ]
                database.executemany(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", moved)  # noqa: S608

    def _here(self, place: str) -> str:
        """Return the place of a run's or a model's files beside the database, wherever it was."""
        found = _PLACE.fullmatch(place) if self._local else None
        return str(self._artifacts / found[1]) if found else place

    def _version(self, found: ModelVersion | mlflow_database.ModelVersion) -> Version:
        return Version(
            name=found.name,
            number=int(found.version),
            aliases=tuple(sorted(found.aliases)),
            created=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
            digest=found.tags.get(_DIGEST, ""),
            metrics={
                key: value
                for key, value in _told(found.tags, "metrics", dict).items()
                if isinstance(value, int | float) and not abs(value) > _LARGEST
            },
            source=self._here(found.source),
            run_id=found.run_id,
            decision=found.tags.get("decision", ""),
        )

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found:
            return str(found.experiment_id)
        artifacts = str(self._artifacts / name) if self._local else None
        with _there_already():
            self._client.create_experiment(name, artifact_location=artifacts)
        return str(self._client.get_experiment_by_name(name).experiment_id)

    @contextmanager
    def _whole_or_gone(self, run: RunInfo) -> Iterator[None]:
        """Remove what was copied for a run, such as to a full disk, where not all of it was."""
        try:
            yield
        except BaseException:
            with suppress(Exception):
                found = self._client.search_logged_models(
                    [run.experiment_id], f"source_run_id = '{run.run_id}'"
                )
                for folder in (run.artifact_uri, *(each.artifact_location for each in found)):
                    if local := _local_folder(folder):
                        shutil.rmtree(local, ignore_errors=True)
                for each in found:
                    self._client.delete_logged_model(each.model_id)
                self._client.delete_run(run.run_id)
            raise

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            with _unset_afterwards(_PATIENCE):
                yield
        except Exception as error:
            from mlflow.exceptions import MlflowException
            from sqlalchemy.exc import SQLAlchemyError

            if isinstance(error, ModuleNotFoundError):  # the driver that its database needs
                raise EnvironmentUnfitError(
                    f"the registry {self.shown} needs the Python module {error.name}, which is not "
                    "installed: install the driver of its database beside sightstream"
                ) from error
            if not isinstance(error, MlflowException | SQLAlchemyError | sqlite3.Error | OSError):
                raise
            reason = "it is locked by another process; try again when that is done"
            if "locked" not in str(error):
                reason = _reason(error)
            raise RegistryUnavailableError(f"the registry {self.shown} failed: {reason}") from error


def parts(model: str, which: str = "champion") -> tuple[str, str]:
    """Return the name and the number or alias of NAME, NAME@ALIAS or NAME@NUMBER.

    Raises:
        ConfigError: it is none of these.
    """
    if not (found := _WHICH.fullmatch(model)):
        raise ConfigError(f"a model is NAME, NAME@ALIAS or NAME@NUMBER, not {model!r}")
    return found[1], found[2] or which


def resolve(model: str, uri: str, engine: str = "auto", device: str = "auto") -> ServedModel:
    """Load `leaf@champion`, `leaf@3`, or `leaf` for its champion, from the registry at a uri.

    A path of a version's folder needs no registry.

    Raises:
        ConfigError: It is neither a path nor such a name.
        ModelNotFoundError: There is neither such a version nor such a folder.
        ModelDamagedError: A checksum is wrong, or the model does not answer as it must.
    """
    folder = Path(model)
    if (folder / CARD_FILE).is_file():
        return serve(folder, folder.resolve().name, 0, None, engine, device)
    if "/" in model:
        raise ModelNotFoundError(f"{model} is no folder of a version: it has no {CARD_FILE}")
    name, which = parts(model)
    registry = Registry(uri)
    return registry.load(registry.version(name, which), engine, device)


def _told(tags: Mapping[str, str], key: str, kind: type[Any]) -> Any:
    """What a tag tells as JSON; empty where another client of MLflow wrote something else."""
    try:
        found = json.loads(tags.get(key, "null"))
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, kind) else kind()


def _local_folder(uri: str) -> Path | None:
    return Path(uri.removeprefix("file://")) if uri.startswith(("/", "file:")) else None


@contextmanager
def _unset_afterwards(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment, where they are not set, until the block ends.

    Of blocks of several threads, the last one.
    """
    with _needing:
        ours = [name for name in variables if _needed[name] or name not in os.environ]
        _needed.update(ours)
        os.environ.update({name: variables[name] for name in ours})
    try:
        yield
    finally:
        with _needing:
            _needed.subtract(ours)
            for name in ours:
                if not _needed[name]:
                    os.environ.pop(name, None)


@contextmanager
def _there_already() -> Iterator[None]:
    """Let pass that another process has created the same thing first."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _reason(error: BaseException) -> str:
    """The operating system's reason below all wrappers, else the first line of the error."""
    root = error
    while below := root.__cause__ or root.__context__:
        root = below
    system = root.strerror if isinstance(root, OSError) and not root.filename else None
    return system or first_line(error)
