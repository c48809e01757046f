"""The checks of `sightstream doctor`: those of the library, and those that packages add."""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path

from sightstream import plugins
from sightstream.cli import extras
from sightstream.config import Settings
from sightstream.errors import (
    EnvironmentUnfitError,
    ModelDamagedError,
    SightstreamError,
    first_line,
)
from sightstream.runtime import jvm, spark

PYTHON = ((3, 11), (3, 14))
"""The oldest and the newest Python that this package supports."""

IMPORTED = ("sightstream", "streaming", "training", "producers", "web")
"""Import names of this package."""

_SHOWN = ("numpy", "pandas", "pyarrow", "pyspark", "onnxruntime")
_REINSTALL = f"install what requirements.lock lists: rm -f {sys.prefix}/setup-done; make setup"
"""This leaves the environment there, and changes what differs."""


@dataclass(frozen=True)
class Check:
    """The result of one check; where it failed, the detail says what to do."""

    name: str
    ok: bool
    detail: str


def checks(settings: Settings) -> Iterator[Check]:
    """Runs the checks of all installed packages; these create and change nothing."""
    for entry in plugins.entry_points("sightstream.checks", "library", "stream", "training"):
        try:
            looks: dict[str, Callable[[Settings], str]] = entry.load()
        except Exception as error:  # whatever another package does wrong
            yield Check(entry.name, False, f"{entry.value} cannot be loaded: {_shown(error)}")
            continue
        for name, look in looks.items():
            yield _checked(name, look, settings)


def _checked(name: str, look: Callable[[Settings], str], settings: Settings) -> Check:
    try:
        return Check(name, True, look(settings))
    except SightstreamError as error:
        return Check(name, False, str(error))
    except ModuleNotFoundError as error:
        return Check(name, False, extras.explain(error, "this check") or _shown(error))
    except Exception as error:  # a check that breaks must not hide the others
        return Check(name, False, _shown(error))


def _shown(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


def _python(_: Settings) -> str:
    (low, high), here = PYTHON, sys.version_info
    if not low <= here[:2] <= high:
        raise EnvironmentUnfitError(
            f"Python {here[0]}.{here[1]} is none of {low[0]}.{low[1]} to {high[0]}.{high[1]}; "
            f"install one of them, then: make clean setup"
        )
    return f"{here[0]}.{here[1]}.{here[2]} ({sys.executable})"


def _java(_: Settings) -> str:
    program = jvm.require_java()
    return f"{jvm.java_version()} ({os.environ.get('JAVA_HOME') or program})"


def _packages(_: Settings) -> str:
    core = list(extras.requirements())
    absent = [each for each in core if not extras.installed(each.name)]
    faults = [f"{each.name} is not installed" for each in absent]
    names = extras.names()
    for extra in ("", *names):
        for each in extras.requirements(extra):
            found = extras.installed(each.name)
            if found and not each.specifier.contains(found, prereleases=True):
                faults.append(f"{each.name} {found} is not {each.specifier}")
    if faults:
        cure = f"install: {extras.install(*absent)}" if len(faults) == len(absent) else _REINSTALL
        raise EnvironmentUnfitError(f"{', '.join(dict.fromkeys(faults))}; {cure}")
    there = [e for e in names if all(extras.installed(r.name) for r in extras.requirements(e))]
    others = [f"{e} ({extras.cure(e)})" for e in names if e not in there]
    shown = ", ".join(f"{name} {extras.installed(name)}" for name in _SHOWN)
    shown += f"; extras: {', '.join(there) or 'none'}"
    return shown + (f"; not installed: {', '.join(others)}" if others else "")


def _import_names(_: Settings) -> str:
    owners = packages_distributions()
    for name in IMPORTED:
        for other in sorted({*owners.get(name, ())} - {extras.PACKAGE}):
            raise EnvironmentUnfitError(
                f"{other} installs a package {name!r} too, and one of the two hides the other; "
                f"uninstall {other}, or install {extras.PACKAGE} into an environment of its own"
            )
    return f"{', '.join(IMPORTED)} belong to {extras.PACKAGE} alone"


def _spark(_: Settings) -> str:
    release, elsewhere = extras.installed("pyspark"), os.environ.get("SPARK_HOME")
    spec = importlib.util.find_spec("pyspark")
    home = Path(elsewhere or (spec.origin if spec and spec.origin else "")).absolute()
    jars = (home if elsewhere else home.parent) / "jars"
    core = next(jars.glob(f"spark-core_*-{release}.jar"), None)
    if core is None:
        cure = f"unset SPARK_HOME, which is {elsewhere}" if elsewhere else _REINSTALL
        raise EnvironmentUnfitError(f"{jars} has no spark-core of {release}; {cure}")
    if spark.ARCHIVE.exists():
        return str(core)
    return f"{core}; starts sooner after: python -m sightstream.runtime.class_archive"


def _model(settings: Settings) -> str:
    from sightstream.models.registry import STARTER, Registry

    registry = Registry(settings.registry_address)
    name = registry.chosen(settings.model)
    if not registry.names():
        if name == STARTER:
            return "the registry is empty; `sightstream run` trains the starter model"
        raise EnvironmentUnfitError(
            f"the registry {registry.shown} is empty; train the model: sightstream train {name}"
        )
    version = registry.version(name)
    try:
        card = registry.card(version)
    except ModelDamagedError as error:
        cure = f"restore its folder from a backup, or train it again: sightstream train {name}"
        if registry.earlier(name):
            cure = f"go back to the version before: sightstream models rollback {name}"
        raise ModelDamagedError(f"{error}; {cure}") from None
    return f"{version.name} version {version.number}, {len(card.labels)} labels, files whole"


def _predictions(settings: Settings) -> str:
    from deltalake import DeltaTable
    from pyarrow.fs import FileSelector

    from sightstream.tables import delta, doubles

    path = settings.predictions
    try:
        if not delta.store(path).get_file_info(FileSelector("", allow_not_found=True)):
            return "no table yet; `sightstream run` creates it"
        opened = DeltaTable(path)
        table = delta.dataset(opened, path)
        rows = table.count_rows()
        rejected = table.count_rows(filter=delta.text("status") == "rejected")
    except Exception as error:
        reason = first_line(error)
        raise EnvironmentUnfitError(
            f"the table {path} cannot be read ({reason}); where that names a file, restore this "
            "file from a backup, or have its rows left out: DeltaTable.repair() of deltalake"
        ) from error
    if copies := doubles.count(opened):
        raise EnvironmentUnfitError(
            f"{copies} rows of {path} are there twice, as where two jobs merge files at once; a "
            "stream leaves the copies out within seconds of the commit: sightstream run"
        )
    return f"{rows} rows, {rejected} of them rejected"


def _history(settings: Settings) -> str:
    from sightstream.tables.predictions import beginning, version

    if version(settings.predictions) is None:
        return "no table yet"
    first, begin = beginning(settings.predictions)
    return f"readers of the table's changes can begin with version {first}, {begin:%Y-%m-%d %H:%M}"


CHECKS: dict[str, Callable[[Settings], str]] = {
    "Python": _python,
    "Java": _java,
    "packages": _packages,
    "import names": _import_names,
    "Spark": _spark,
    "model": _model,
    "predictions": _predictions,
    "history": _history,
}
"""The checks of the library, by name: each returns what it found, or raises what to do."""
