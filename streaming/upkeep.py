"""Upkeep beside the stream: small files of the table are merged, and old images removed."""

import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Event

from sightstream.tables.predictions import Predictions

log = logging.getLogger(__name__)

QUIET_SECONDS = 10.0  # without a micro-batch after which even a few small files are merged


def run(
    table: Predictions, images: Path, retention_days: int, idle: Callable[[], float], stop: Event
) -> None:
    """Maintain the table and the images, kept in a folder for each day, until `stop` is set.

    `idle` returns the seconds since the last micro-batch.
    """
    while not stop.wait(1.0):
        try:
            table.maintain(quiet=idle() > QUIET_SECONDS)
            if idle() > QUIET_SECONDS:
                expire(images, retention_days)
        except Exception as error:  # no failure of the upkeep stops the stream
            log.warning("upkeep failed, and is tried again: %s", error)
            stop.wait(60)


def expire(images: Path, retention_days: int) -> None:
    """Remove the folders of days that are over the retention; none where that is 0."""
    if not retention_days:
        return
    oldest = datetime.now(UTC).date() - timedelta(days=retention_days)
    for day, folder in days(images).items():
        if day < oldest:
            log.info("removing the images of %s", folder.name)
            shutil.rmtree(folder)


def days(images: Path) -> dict[date, Path]:
    """Return the image folder of each day; none where no folder is watched."""
    found = {}
    for folder in images.iterdir() if images.is_dir() else ():
        with suppress(ValueError):  # not a day of ours
            found[date.fromisoformat(folder.name)] = folder
    return found
