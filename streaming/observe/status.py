"""The state of a home folder at a glance, whether or not a stream runs on it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sightstream.config import Settings
from sightstream.errors import SightstreamError
from sightstream.io import lock
from sightstream.tables import predictions
from streaming.folder import source as sources
from streaming.observe import probes

RECENT_MINUTES = 5
"""Time that the rate is the mean of."""


@dataclass(frozen=True)
class Status:
    """The state of a home folder.

    Attributes:
        running: whether a stream runs on the home folder.
        model: the champion; else why there is none.
        rows_today: rows of this day, UTC.
        rejected_today: how many of them were rejected.
        rows_per_minute: the mean of the last `RECENT_MINUTES`.
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
    found = predictions.ask(
        settings.predictions,
        f"""
        SELECT count(*) FILTER (WHERE processed_at >= to_timestamp({now // 86400 * 86400})) AS rows,
               count(*) FILTER (WHERE status = 'rejected'
                                AND processed_at >= to_timestamp({now // 86400 * 86400})),
               count(*) FILTER (WHERE processed_at >= to_timestamp({now - 60 * RECENT_MINUTES}))
                   / {RECENT_MINUTES}.0,
               max(processed_at)
        FROM predictions
        """,  # noqa: S608
    )
    return dict(zip(names, (column[0].as_py() for column in found.columns), strict=True))


def _lag(settings: Settings) -> tuple[dict[int, tuple[int, float]], str | None]:
    try:
        found = probes.lag(settings)
    except SightstreamError as error:
        return {}, str(error)
    return {each.number: (each.lag, found.seconds[each.number]) for each in found.partitions}, None


def _model(settings: Settings) -> str:
    from sightstream.models.registry import Registry

    registry = Registry(settings.registry_address)
    try:
        number = registry.champion_number(settings.model)
    except SightstreamError as error:
        return str(error)
    return f"{settings.model} version {number}" if number else f"no champion of {settings.model}"
