"""Whether this machine and this home folder are as they must be: what `sightstream doctor` asks."""

from __future__ import annotations

import errno
import importlib.metadata
import importlib.util
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sightstream.config import Settings
from sightstream.errors import (
    CheckpointMismatchError,
    EnvironmentUnfitError,
    MessagesLostError,
    ModelDamagedError,
    SightstreamError,
)
from sightstream.io import lock
from sightstream.runtime import jvm, spark
from sightstream.tables import delta

PYTHON = ((3, 11), (3, 14))
"""The first and the last Python that the pinned packages run on."""

FREE_BYTES = 2**30
"""The space that the home folder's disk must have left."""

_BELOW = {"numpy": 2, "pandas": 3, "pyarrow": 26}
_EXACTLY = {"elephas": "7.3.0", "pyspark": "4.0.0"}
_REINSTALL = "install what requirements.lock says: make clean setup"
_EPOCH = 1_767_225_600  # 2026-01-01: no clock that is right shows less


@dataclass(frozen=True)
class Check:
    """What one look found.

    Attributes:
        name: what was looked at.
        ok: whether it is as it must be.
        detail: what was found; where that is not right, what to do.
    """

    name: str
    ok: bool
    detail: str


def checks(settings: Settings) -> Iterator[Check]:
    """Looks at everything that a stream needs; creates and changes nothing.

    Args:
        settings: the home folder, the model, the registry and the metrics endpoint.
    """
    looks: dict[str, Callable[[Settings], str]] = {
        "Python": _python,
        "Java": _java,
        "packages": _packages,
        "Spark": _spark,
        "folders": _folders,
        "disk": _disk,
        "model": _model,
        "predictions": _predictions,
        "checkpoint": _checkpoint,
        "Kafka": _kafka,
        "clock": _clock,
        "metrics port": _metrics_port,
    }
    for name, look in looks.items():
        try:
            yield Check(name, True, look(settings))
        except SightstreamError as error:
            yield Check(name, False, str(error))
        except Exception as error:  # what breaks one look must not hide the others
            yield Check(name, False, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")


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
    found = {name: _version(name) for name in (*_BELOW, *_EXACTLY, "tensorflow")}
    faults = [f"{name} is not installed" for name, version in found.items() if not version]
    faults += [
        f"{name} {found[name]} is not below {limit}"
        for name, limit in _BELOW.items()
        if int(found[name].partition(".")[0] or 0) >= limit
    ]
    faults += [
        f"{name} {found[name]} is not {wanted}"
        for name, wanted in _EXACTLY.items()
        if found[name] not in {"", wanted}
    ]
    if _version("tensorflow-cpu"):
        faults.append("tensorflow-cpu has overwritten files of tensorflow")
    if faults:
        raise EnvironmentUnfitError(f"{', '.join(faults)}; {_REINSTALL}")
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _spark(_: Settings) -> str:
    elsewhere = os.environ.get("SPARK_HOME")
    spec = importlib.util.find_spec("pyspark")
    home = Path(elsewhere or (spec.origin if spec and spec.origin else "")).absolute()
    jars = (home if elsewhere else home.parent) / "jars"
    core = next(jars.glob(f"spark-core_*-{_EXACTLY['pyspark']}.jar"), None)
    if core is None:
        cure = f"unset SPARK_HOME, which is {elsewhere}" if elsewhere else _REINSTALL
        raise EnvironmentUnfitError(f"{jars} has no spark-core of {_EXACTLY['pyspark']}; {cure}")
    slow = (
        ""
        if spark.ARCHIVE.exists()
        else "; starts sooner after: python -m sightstream.runtime.class_archive"
    )
    return f"{core}{slow}"


def _folders(settings: Settings) -> str:
    folders = (
        settings.inbox, settings.images, settings.manifests, settings.staging,
        settings.checkpoint("folder"), settings.registry, settings.logs,
        *((Path(settings.predictions),) if "://" not in settings.predictions else ()),
    )  # fmt: skip
    for folder in folders:
        there = _existing(folder)
        if not there.is_dir():
            raise EnvironmentUnfitError(f"{there} is in the way: it is not a folder; move it")
        if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
            raise EnvironmentUnfitError(
                f"{folder} cannot be written, for {there} belongs to another user or is read-only; "
                "change its owner or mode, or choose another folder with --home"
            )
    if _existing(settings.inbox).stat().st_dev != _existing(settings.images).stat().st_dev:
        raise EnvironmentUnfitError(
            f"{settings.inbox} and {settings.images} are on two file systems, and images are "
            "renamed from one to the other; put both on one"
        )
    return f"{settings.root} can be written"


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(p for p in (path, *path.parents) if os.path.lexists(p))


def _disk(settings: Settings) -> str:
    free = shutil.disk_usage(_existing(settings.root)).free
    shown = f"{free / 2**30:.1f} GiB free at {settings.root}"
    if free < FREE_BYTES:
        raise EnvironmentUnfitError(
            f"only {shown}; make room, or let old images go with retention_days"
        )
    return shown


def _model(settings: Settings) -> str:
    from sightstream.models.registry import Registry
    from sightstream.models.version import read_card

    registry = Registry(settings.registry_address)
    if not registry.exists and settings.model == "starter":
        return "the registry is empty; `sightstream run` trains the starter model"
    if not registry.exists:
        raise EnvironmentUnfitError(
            f"the registry {registry.uri} is empty; train the model with: "
            f"sightstream train {settings.model}"
        )
    if settings.registry_uri:
        # MLflow asks a server that does not answer for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    version = registry.version(settings.model)
    try:
        card = read_card(registry.fetch(version), version.digest)
    except ModelDamagedError as error:
        raise ModelDamagedError(
            f"{error}; go back to the version before, with: "
            f"sightstream models rollback {settings.model}"
        ) from None
    return f"{version.name} version {version.number}, {len(card.labels)} labels, files whole"


def _predictions(settings: Settings) -> str:
    import pyarrow.dataset as ds
    from deltalake import DeltaTable
    from pyarrow.fs import FileSelector

    path = settings.predictions
    try:
        if not delta.store(path).get_file_info(FileSelector("", allow_not_found=True)):
            return "no table yet; `sightstream run` creates it"
        table = delta.dataset(DeltaTable(path), path)
        rows = table.count_rows()
        rejected = table.count_rows(filter=ds.field("status") == "rejected")
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise EnvironmentUnfitError(
            f"the table {path} cannot be read ({reason}); restore it from a backup, or put it and "
            f"{settings.checkpoint('folder')} aside: the images are then classified again"
        ) from error
    return f"{rows} rows, {rejected} of them rejected"


def _checkpoint(settings: Settings) -> str:
    from streaming.checkpoint import checkpoint_state
    from streaming.kafka.lag import topic

    folders = {"folder": settings.checkpoint("folder"), "kafka": topic(settings).checkpoint}
    for source in settings.source:
        if fault := checkpoint_state(folders[source], settings.predictions):
            raise CheckpointMismatchError(fault)
    there = any(folders[source].exists() for source in settings.source)
    return "goes with the table" if there else "no checkpoint yet"


def _kafka(settings: Settings) -> str:
    from sightstream.io import kafka
    from streaming.kafka.lag import topic

    if "kafka" not in settings.source:
        return "not a source of images"
    images = topic(settings)
    with kafka.connect(images.broker) as client:
        stands = images.partitions(client)
    if fault := images.loss(stands):
        raise MessagesLostError(fault)
    seconds = max(images.waiting_seconds(stands).values())
    return (
        f"topic {settings.kafka_topic}, {len(stands)} partitions, "
        f"{sum(each.lag for each in stands)} messages behind, the oldest by {seconds:.1f} s"
    )


def _clock(settings: Settings) -> str:
    names = (p.stem for p in settings.manifests.glob("*.arrow"))
    newest = max((int(name) for name in names if name.isdecimal()), default=0) / 1e9
    now = time.time()
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < max(newest, _EPOCH):
        raise EnvironmentUnfitError(
            f"the clock shows {shown}, earlier than "
            f"{'the newest manifest' if newest > _EPOCH else 'this program'}; set it right "
            "(timedatectl set-ntp true), or new images wait until it has caught up"
        )
    return shown


def _metrics_port(settings: Settings) -> str:
    host, port = settings.metrics_host, settings.metrics_port
    if not port:
        return "any free one"
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise EnvironmentUnfitError(
                f"{host}:{port} cannot be opened ({error.strerror}); set metrics_host to an "
                "address of this machine, or metrics_port to 0"
            ) from None
        if lock.is_held(settings.root):
            return f"{port}, in use by the sightstream that runs on this home folder"
        raise EnvironmentUnfitError(
            f"port {port} is in use by {_listener(port)}; choose another: "
            "SIGHTSTREAM_METRICS_PORT=0 takes any free one"
        ) from None
    return f"{port} is free"


def _listener(port: int) -> str:
    import psutil  # type: ignore[import-untyped]

    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                process = psutil.Process(connection.pid) if connection.pid else None
                return f"{process.name()} (process {process.pid})" if process else "another process"
    except psutil.Error:
        pass  # other users' processes are not shown to everyone
    return "another process"
