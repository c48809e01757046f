"""Deliberate bugs, each of which the checker must find; they change the started process alone.

A bug replaces one function. The product has none of them, and no switch for them.
"""

from __future__ import annotations

from functools import wraps
from types import SimpleNamespace
from typing import Any


def skipped_fsync() -> None:
    """Nothing that the intake writes is synced: a loss of power takes it."""
    from sightstream.io import disk

    disk.sync = lambda path: None


def no_transaction() -> None:
    """A micro-batch's commit does not carry its number."""
    from sightstream.tables import commits

    put = commits._put

    def without(path: str, head: Any, actions: list[dict[str, Any]], altered: Any) -> Any:
        return put(path, head, [each for each in actions if "txn" not in each], altered)

    commits._put = without


def short_window() -> None:
    """Only the latest ten ids of messages are remembered."""
    from streaming.kafka import duplicates

    duplicates.WINDOW_ROWS = 10


def next_offset() -> None:
    """Each range of offsets is read as if its ends were one further on."""
    from streaming import checkpoint
    from streaming.folder import source
    from streaming.folder.manifests import KEY, SUFFIX
    from streaming.kafka import lag

    spans = lag.spans
    lag.spans = lambda begins, ends: [
        span._replace(begin=span.begin + 1) for span in spans(begins, ends)
    ]

    def offset(checkpoint: Any, batch: int | None = None, of: Any = None) -> Any:
        found = real(checkpoint, batch, of)
        if batch is None or not found.get(KEY):
            return found
        return {KEY: f"{int(found[KEY].removesuffix(SUFFIX)) - 1:020d}{SUFFIX}"}

    real = checkpoint.offset
    source.checkpoint = SimpleNamespace(**vars(checkpoint) | {"offset": offset})


def lost_isolation() -> None:
    """What another try found of an image that ended its process, or took too long, is dropped."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from streaming.workers import Workers

    def dropping(found: Any) -> Any:
        @wraps(found)
        def without(self: Workers, *arguments: Any, **named: Any) -> Any:
            events, answers, *others = found(self, *arguments, **named)
            lost = pc.is_in(answers["error_code"], pa.array(["crashed", "timeout"]))
            return events.filter(pc.invert(lost)), answers.filter(pc.invert(lost)), *others

        return without

    # In the worker's task, and in the driver where tasks may not be tried again.
    Workers.all_answers = dropping(Workers.all_answers)
    Workers.isolated = dropping(Workers.isolated)


def same_champion() -> None:
    """A stream never takes a new champion."""
    from streaming.champion import Champion

    Champion.look = lambda self, ready: None


def other_version() -> None:
    """Rows name the new champion, and are the answers of the one before."""
    from dataclasses import replace

    from streaming.champion import Champion

    look = Champion.look

    def renamed(self: Champion, ready: Any) -> None:
        before = self.model
        look(self, ready)
        self.model = replace(before, version=self.model.version)

    Champion.look = renamed


def other_message() -> None:
    """The predictions topic names the first version with each row."""
    from streaming.kafka.publisher import Publisher

    send = Publisher._send

    def renamed(self: Publisher, position: Any, rows: Any) -> None:
        send(self, position, [row | {"model_version": 1} for row in rows])

    Publisher._send = renamed


BUGS = {
    "fsync": skipped_fsync,
    "transaction": no_transaction,
    "window": short_window,
    "offset": next_offset,
    "isolation": lost_isolation,
    "champion": same_champion,
    "version": other_version,
    "message": other_message,
}
