"""The checks of the stream that `sightstream doctor` runs."""

import errno
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sightstream.config import Settings
from sightstream.errors import EnvironmentUnfitError
from sightstream.io import disk
from sightstream.io.address import free_port
from streaming.bucket.source import require_answer
from streaming.bucket.store import place
from streaming.checkpoint import require_match
from streaming.folder import stuck
from streaming.kafka.lag import topic

FREE_BYTES = 2**30  # space that the disk of the home folder must have left
_EPOCH = 1_767_225_600  # 2026-01-01: no clock that is right shows less


def _folders(settings: Settings) -> str:
    folders = (
        settings.inbox, settings.images, settings.manifests, settings.staging,
        settings.checkpoint("folder"), settings.registry, settings.logs,
        *((Path(settings.predictions),) if "://" not in settings.predictions else ()),
    )  # fmt: skip
    for folder in folders:
        there = _existing(folder)
        if why := disk.dangling(there):
            name = "the inbox" if there == settings.inbox else "the folder"
            raise EnvironmentUnfitError(f"{name} {there} {why}")
        if not there.is_dir():
            raise EnvironmentUnfitError(f"{there} is in the way: it is not a folder; move it")
        if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
            raise EnvironmentUnfitError(
                f"{folder} cannot be written, for {there} belongs to another user or is read-only; "
                "change its owner or mode, or choose another folder with --home"
            )
    shown = f"{settings.root} can be written"
    if _existing(settings.inbox).stat().st_dev != _existing(settings.images).stat().st_dev:
        shown += f"; {settings.inbox} is on another file system, from which images are copied"
    return shown


def _inbox(settings: Settings) -> str:
    if settings.inbox_uri:
        inbox = place(settings.inbox_uri)
        require_answer(inbox)
        return f"{inbox.uri} answers"
    if why := disk.dangling(settings.inbox):
        raise EnvironmentUnfitError(f"the inbox {settings.inbox} {why}")
    found = stuck.read(settings.stuck)
    if found.count:
        raise EnvironmentUnfitError(
            f"{found}; let the user that runs the stream read it and write its folder, or move it "
            "away"
        )
    return str(found)


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


def _checkpoint(settings: Settings) -> str:
    inbox = settings.checkpoint("bucket" if settings.inbox_uri else "folder")
    folders = {"folder": inbox, "kafka": topic(settings).checkpoint}
    for source in settings.source:
        require_match(folders[source], settings.predictions)
    there = any(folders[source].exists() for source in settings.source)
    return "goes with the table" if there else "no checkpoint yet"


def _kafka(settings: Settings) -> str:
    if "kafka" not in settings.source:
        return "not a source of images"
    images = topic(settings)
    stands, seconds = images.look()
    images.require_all(stands)
    return (
        f"topic {images.name}, {len(stands)} partitions, {sum(each.lag for each in stands)} "
        f"messages behind, the oldest by {max(seconds.values()):.1f} s"
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
        free_port(host, port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise EnvironmentUnfitError(
                f"{host}:{port} cannot be opened ({error.strerror}); set metrics_host to an "
                "address of this machine, or metrics_port to 0"
            ) from None
        if disk.is_held(settings.root):
            return f"{port}, in use by the sightstream that runs on this home folder"
        raise EnvironmentUnfitError(
            f"port {port} is in use by {_listener(port)}; choose another: "
            "SIGHTSTREAM_METRICS_PORT=0 takes any free one"
        ) from None
    return f"{port} is free"


def _listener(port: int) -> str:
    import psutil  # type: ignore[import-untyped]

    with suppress(psutil.Error):  # other users' processes are not shown to everyone
        for each in psutil.net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN and each.laddr.port == port and each.pid:
                return f"{psutil.Process(each.pid).name()} (process {each.pid})"
    return "another process"


CHECKS: dict[str, Callable[[Settings], str]] = {
    "folders": _folders,
    "inbox": _inbox,
    "disk": _disk,
    "checkpoint": _checkpoint,
    "Kafka": _kafka,
    "clock": _clock,
    "metrics port": _metrics_port,
}
"""The checks of the stream, by name: each returns what it found, or raises what to do."""
