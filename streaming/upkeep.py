"""What is put in order beside the stream: the table's small files, and images past their time."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Event

from sightstream.config import Settings
from sightstream.tables.predictions import Predictions

log = logging.getLogger(__name__)

QUIET = 10.0
"""Seconds without a micro-batch after which even a few small files are merged."""


def run(settings: Settings, table: Predictions, idle: Callable[[], float], stop: Event) -> None:
    """Looks after the home folder until told to stop.

    Args:
        settings: the folder of the images, and the days that they are kept.
        table: the predictions table.
        idle: the seconds since the last micro-batch.
        stop: ends it.
    """
    while not stop.wait(1.0):
        try:
            table.maintain(quiet=idle() > QUIET)
            if idle() > QUIET:
                expire(settings)
        except Exception as error:  # whatever it is, the stream goes on
            log.warning("upkeep failed, and is tried again: %s", error)
            stop.wait(60)


def expire(settings: Settings) -> None:
    """Removes the image folders of days that the retention has ended for."""
    if not settings.retention_days:
        return
    oldest = datetime.now(UTC).date() - timedelta(days=settings.retention_days)
    for day, folder in days(settings.images).items():
        if day < oldest:
            log.info("removing the images of %s", folder.name)
            shutil.rmtree(folder)


def days(images: Path) -> dict[date, Path]:
    """The folder of each day that images are kept of; none where no folder is watched."""
    found = {}
    for folder in images.iterdir() if images.is_dir() else ():
        with suppress(ValueError):  # not one of ours
            found[date.fromisoformat(folder.name)] = folder
    return found
