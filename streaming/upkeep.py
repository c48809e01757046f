"""What is put in order beside the stream: the table's small files, and images past their time."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from threading import Event

from sightstream.config import Settings
from sightstream.predictions import Predictions

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
    if not settings.retention_days or not settings.images.is_dir():
        return
    oldest = datetime.now(timezone.utc).date() - timedelta(days=settings.retention_days)
    for folder in settings.images.iterdir():
        try:
            ended = date.fromisoformat(folder.name) < oldest
        except ValueError:
            continue
        if ended:
            log.info("removing the images of %s", folder.name)
            shutil.rmtree(folder)
