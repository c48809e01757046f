"""How a home folder is doing, at a glance, whether or not a stream runs on it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sightstream.config import Settings
from sightstream.errors import SightstreamError
from sightstream.io import kafka, lock
from sightstream.tables import predictions
from sightstream.tables.query import query
from streaming.folder import source as sources
from streaming.kafka.lag import topic

RECENT = 5
"""Minutes that the rate is the mean of."""


@dataclass(frozen=True)
class Status:
    """What a look found.

    Attributes:
        running: whether a stream runs on the home folder.
        model: the champion; else why there is none.
        rows_today: rows of this day, UTC.
        rejected_today: how many of them were rejected.
        rows_per_minute: the mean of the last `RECENT` minutes.
        newest: when the newest row was made; None where there is none.
        behind: images in the folder that were accepted and have no row.
        lag: of the Kafka topic, by partition: messages, and the age of the oldest in seconds.
        kafka: why the lag is not known; None where it is.
    """

    running: bool
    model: str
    rows_today: int
    rejected_today: int
    rows_per_minute: float
    newest: datetime | None
    behind: int
    lag: dict[int, tuple[int, float]]
    kafka: str | None


def status(settings: Settings) -> Status:
    """Looks at the home folder, and at Kafka where it is a source; changes nothing."""
    lag, unknown = _lag(settings) if "kafka" in settings.source else ({}, None)
    return Status(
        running=lock.is_held(settings.root),
        model=_model(settings),
        behind=sources.waiting(settings.manifests, settings.checkpoint("folder"))
        if settings.manifests.is_dir()
        else 0,
        lag=lag,
        kafka=unknown,
        **_rows(settings),
    )


def _rows(settings: Settings) -> dict[str, Any]:
    names = ("rows_today", "rejected_today", "rows_per_minute", "newest")
    if predictions.version(settings.predictions) is None:
        return dict(zip(names, (0, 0, 0.0, None), strict=True))
    now = time.time()
    found = query(
        settings.predictions,
        f"""
        SELECT count(*) FILTER (processed_at >= to_timestamp({now // 86400 * 86400})) AS rows,
               count(*) FILTER (status = 'rejected'
                                AND processed_at >= to_timestamp({now // 86400 * 86400})),
               count(*) FILTER (processed_at >= to_timestamp({now - 60 * RECENT})) / {RECENT},
               max(processed_at)
        FROM predictions
        """,  # noqa: S608
    )
    return dict(zip(names, (column[0].as_py() for column in found.columns), strict=True))


def _lag(settings: Settings) -> tuple[dict[int, tuple[int, float]], str | None]:
    try:
        images = topic(settings)
        with kafka.connect(images.broker) as client:
            stands = images.partitions(client)
        seconds = images.waiting_seconds(stands)
    except SightstreamError as error:
        return {}, str(error)
    return {each.number: (each.lag, seconds[each.number]) for each in stands}, None


def _model(settings: Settings) -> str:
    from sightstream.models.registry import Registry

    registry = Registry(settings.registry_address)
    try:
        number = registry.champion_number(settings.model)
    except SightstreamError as error:
        return str(error)
    return f"{settings.model} version {number}" if number else f"no champion of {settings.model}"
