"""The state of a home folder for `sightstream status`, whether or not a stream runs on it."""

import time
from typing import Any

from sightstream.errors import ConfigError, SightstreamError
from sightstream.models.registry import Registry
from sightstream.tables import predictions
from streaming.kafka.lag import Topic

RECENT_MINUTES = 5  # time that the rate is the mean of


def rows(table: str) -> dict[str, Any]:
    """Count the rows of today, in UTC, and those of the last `RECENT_MINUTES`."""
    if predictions.version(table) is None:
        return {"rows_today": 0, "rejected_today": 0, "rows_per_minute": 0.0, "newest": None}
    now = time.time()
    today = f"processed_at >= to_timestamp({now // 86400 * 86400})"
    recent = f"processed_at >= to_timestamp({now - 60 * RECENT_MINUTES})"
    found = predictions.ask(
        table,
        f"SELECT count(*) FILTER (WHERE {today}) AS rows_today, "  # noqa: S608
        f"count(*) FILTER (WHERE status = 'rejected' AND {today}) AS rejected_today, "
        f"count(*) FILTER (WHERE {recent}) / {RECENT_MINUTES}.0 AS rows_per_minute, "
        "max(processed_at) AS newest FROM predictions",
    )
    return dict(found.to_pylist()[0])


def lag(topic: Topic | None) -> dict[str, Any]:
    """Return messages and seconds behind by partition, and why they are not known."""
    try:
        stands, seconds = topic.look() if topic else ([], {})
    except SightstreamError as error:
        return {"lag": {}, "kafka": str(error)}
    return {
        "lag": {each.number: (each.lag, seconds[each.number]) for each in stands},
        "kafka": None,
    }


def champion(registry: Registry, name: str) -> str:
    """Return the model in use with its version, or why there is none."""
    try:
        model = registry.chosen(name)
        number = registry.champion_number(model)
    except ConfigError:
        return f"not set; the registry has {', '.join(registry.names())}"
    except SightstreamError as error:
        return str(error)
    return f"{model} version {number}" if number else f"no champion of {model}"
