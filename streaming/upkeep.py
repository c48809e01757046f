"""Upkeep beside the stream: small files of the table are merged, and old images removed."""

import logging
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Event

from sightstream.tables.predictions import Predictions
from streaming.folder.intake import SPAN

log = logging.getLogger(__name__)

QUIET_SECONDS = 10.0  # without a micro-batch after which even a few small files are merged
LOOK_SECONDS = 30.0  # between two looks for images that are too old

Waiting = Callable[[], Collection[str]]


def run(
    table: Predictions, expire: Callable[[], object], idle: Callable[[], float], stop: Event
) -> None:
    """Maintain the table, and call `expire` now and then, until `stop` is set.

    `idle` returns the seconds since the last micro-batch.
    """
    looked = time.monotonic()
    while not stop.wait(1.0):
        try:
            table.maintain(quiet=idle() > QUIET_SECONDS)
            if time.monotonic() - looked > LOOK_SECONDS:
                looked = time.monotonic()
                expire()
        except Exception as error:  # no failure of the upkeep stops the stream
            log.warning("upkeep failed, and is tried again: %s", error)
            stop.wait(60)


def expire(images: Path, retention: timedelta, waiting: Waiting) -> None:
    """Remove the folders of images that were all taken longer ago; none where that is 0.

    `waiting` returns the places of those images that have no row yet, below `images`: they stay.
    """
    limit = datetime.now(UTC) - retention
    old = [place for place, end in _spans(images, limit) if end <= limit] if retention else []
    held = {place.rpartition("/")[0] for place in (waiting() if old else ())}
    for span in old:
        if span not in held:
            log.info("removing the images of %s", span)
            shutil.rmtree(images / span)
    for folder in days(images).values() if old else ():
        with suppress(OSError):  # it is not empty
            folder.rmdir()


def _spans(images: Path, limit: datetime) -> Iterator[tuple[str, datetime]]:
    """Each folder of images of days that began before, by its place below `images`, with its end.

    Younger days are not listed: early releases have all images of a day in one folder.
    """
    for day, folder in days(images).items():
        midnight = datetime.combine(day, datetime.min.time(), UTC)
        if midnight >= limit:
            continue
        early = False
        for entry in [*folder.iterdir()]:
            try:
                at = datetime.strptime(entry.name, "%H%M") - datetime(1900, 1, 1)
            except ValueError:
                early = True  # an image
            else:
                yield f"{folder.name}/{entry.name}", midnight + at + timedelta(seconds=SPAN)
        if early:
            yield folder.name, midnight + timedelta(days=1)


def days(images: Path) -> dict[date, Path]:
    """Return the image folder of each day; none where no folder is watched."""
    found = {}
    for folder in images.iterdir() if images.is_dir() else ():
        with suppress(ValueError):  # not a day of ours
            found[date.fromisoformat(folder.name)] = folder
    return found
