"""A backfill from its command to its end; the one place that wires its parts."""

from __future__ import annotations

import fcntl
import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from sightstream import terminal
from sightstream.config import Settings
from sightstream.errors import AlreadyRunningError, ConfigError, InputError
from sightstream.io import disk
from sightstream.models.registry import Registry, resolve
from sightstream.models.version import CARD_FILE
from sightstream.runtime import cluster, spark
from sightstream.tables import delta
from sightstream.tables.labels import Labels
from sightstream.tables.predictions import Predictions, opened, version
from sightstream.tables.query import RESERVED
from streaming.backfill import files, plan, rows
from streaming.backfill.plan import Plan, PlannedImages, Wish
from streaming.backfill.work import Backfill, Done, without
from streaming.workers import Workers

if TYPE_CHECKING:
    from sightstream.models.version import ServedModel

PREDICTIONS = "predictions"
"""The stream's table, as a source and as what rows go into."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True)
class Report:
    """What became of a backfill; `done` is of this run, `before` the events of earlier ones."""

    table: str
    model: ServedModel
    plan: Plan
    before: int
    done: Done
    unreadable: dict[str, str]

    @property
    def complete(self) -> bool:
        """Whether each event is in the table."""
        return self.before + self.done.images == self.plan.images


OnStep = Callable[[int, int], None]
"""Gets the number of events that are done, and of all."""


def wish(settings: Settings, source: str, model: str, into: str, where: str) -> Wish:
    """Return what a command asks for, with places instead of names.

    Raises:
        ConfigError: A name cannot be that of a table.
        InputError: The rows of a table would go into itself.
    """
    place, target = _source(settings, source), _target(settings, into)
    if place == target:
        raise InputError(
            f"each image of {source} has a row there, and gets no second one; name a table for the "
            "new answers, such as --into again"
        )
    if target == settings.predictions and _is_streams(settings, place):
        raise _left_to_the_stream(place)
    return Wish(place, where.strip(), _which(settings, model), target)


def run(
    settings: Settings, wanted: Wish, on_phase: Callable[[str], None], on_step: OnStep
) -> Report:
    """Plan a backfill, or go on with the plan of the same command, and carry it out.

    Ctrl-C and SIGTERM end it after the next commit.

    Raises:
        AlreadyRunningError: Another one writes into the same table.
        SightstreamError: Of the kind that says what to correct.
    """
    folder, name = settings.root / "backfill" / wanted.key, f"backfill-{wanted.key}"
    with _alone(settings, wanted.into):
        spark.clear(settings.root, name)
        held, unreadable = _begun(folder, wanted.into), dict[str, str]()
        on_phase("loading the model")
        model = resolve(
            held.model if held else wanted.model, settings.registry_address, settings.engine,
            settings.device,
        )  # fmt: skip
        if held is None:
            on_phase("looking for images")
            held, unreadable = _planned(settings, wanted, folder, model)
        if version(settings.predictions) is None:  # with which a query opens the others
            Predictions(settings.predictions)
        table, shared = Predictions(wanted.into), wanted.into == settings.predictions
        read = PlannedImages(
            folder, held.source, held.content, _prefixes(settings), settings.limits
        )
        backfill = Backfill(held, table, model, read, shared)
        before = backfill.position
        if before < held.images:
            on_phase("starting Spark")
            _carry_out(settings, name, backfill, on_phase, on_step)
        report = Report(wanted.into, model, held, before, backfill.done, unreadable)
        if report.complete:
            plan.forget(folder)
            if not shared:  # else the stream does
                table.maintain(quiet=True)
    return report


def _begun(folder: Path, into: str) -> Plan | None:
    """Return a plan of which there is something left; one that is done was killed at its end."""
    held = plan.read(folder)
    if held is None or version(into) is None:
        return held
    return held if Predictions(into).last_batch(held.app_id) != held.images else None


def _carry_out(
    settings: Settings, name: str, backfill: Backfill, on_phase: Callable[[str], None],
    on_step: OnStep,
) -> None:  # fmt: skip
    from streaming.start import SPARK

    images, options = backfill.plan.images, {**SPARK, **settings.spark}
    session = spark.start(name, settings.root, settings.master, settings.driver_memory, options)
    try:
        stop = terminal.stop_on_signals(lambda: on_phase("finishing what has begun"))
        on_step(backfill.position, images)
        scratch = spark.scratch_folder(settings.root, name)
        backfill.run(
            session, Workers(session, settings.limits, settings.top_k),
            scratch if cluster.is_local(settings.master) else None, stop,
            lambda done: on_step(done, images),
        )  # fmt: skip
    finally:
        spark.stop(session)
        spark.clear(settings.root, name)


@contextmanager
def _alone(settings: Settings, table: str) -> Iterator[None]:
    """Hold the lock of a table: two that write the same images would both find them missing."""
    digest = hashlib.sha256(table.encode()).hexdigest()[:16]
    disk.make(settings.root / "backfill", "the folder of plans")
    lock = settings.root / "backfill" / f"{digest}.lock"
    with ExitStack() as stack:
        try:
            stack.enter_context(disk.locked(lock, fcntl.LOCK_EX | fcntl.LOCK_NB))
        except BlockingIOError:
            raise AlreadyRunningError(
                f"another backfill writes into {table}; wait for its end, or name another table"
            ) from None
        yield


def _is_streams(settings: Settings, place: str) -> bool:
    """Tell whether the stream's images lie in a place, or it lies among them."""
    own = [str(each) for each in (settings.inbox, settings.images, settings.staging)]
    if settings.inbox_uri:
        own.append(files.absolute(settings.inbox_uri))
    return any(f"{a}/".startswith(f"{b}/") for o in own for a, b in ((o, place), (place, o)))


def _were_streams(settings: Settings, place: str) -> bool:
    """Tell whether a stream of this home has taken objects below a uri."""
    import pyarrow.compute as pc

    if not files.is_remote(place) or version(settings.predictions) is None:
        return False
    table = delta.dataset(opened(settings.predictions), settings.predictions)
    uris = table.to_table(["uri"], filter=delta.text("source") == "bucket")["uri"]
    return bool(pc.any(pc.starts_with(uris.cast(pa.string()), f"{place}/")).as_py())


def _left_to_the_stream(place: str) -> InputError:
    return InputError(
        f"images in {terminal.printable(place)} get their rows from the stream; to classify them "
        "once more, write predictions as the source, and name a table: --into again"
    )


def _source(settings: Settings, source: str) -> str:
    if source == PREDICTIONS:
        return settings.predictions
    named = settings.tables / source
    return str(named) if _NAME.fullmatch(source) and named.is_dir() else files.absolute(source)


def _target(settings: Settings, into: str) -> str:
    if into == PREDICTIONS:
        return settings.predictions
    if "/" in into:
        return files.absolute(into)
    if into in RESERVED:
        raise ConfigError(f"{into} is a table that sightstream has already; name another one")
    if not _NAME.fullmatch(into):
        raise ConfigError(
            f"--into {into!r} cannot be the name of a table: a small letter, then small letters, "
            "digits and _; a folder is given by its path, such as ./answers"
        )
    return str(settings.tables / into)


def _which(settings: Settings, model: str) -> str:
    if (Path(model) / CARD_FILE).is_file() and model:
        return str(Path(model).absolute())
    return model or Registry(settings.registry_address).chosen(settings.model)


def _prefixes(settings: Settings) -> tuple[str, ...]:
    return *settings.kafka_uri_prefixes, settings.images.as_uri()


def _planned(
    settings: Settings, wanted: Wish, folder: Path, model: ServedModel
) -> tuple[Plan, dict[str, str]]:
    events, source, content, left, unreadable = _found(settings, wanted)
    first = _firsts(events)
    new = without(first, _classified(settings, wanted.into, model))
    left |= {"repeated": len(events) - len(first), "classified": len(first) - len(new)}
    if not content:  # whose order is that of the rows in their files
        new = new.sort_by("event_time")  # a commit has few days, and so few files
    which = f"{model.name}@{model.version}" if model.version else wanted.model
    left = {why: number for why, number in left.items() if number}
    written = plan.write(folder, new, model=which, source=source, content=content, left=left)
    return written, unreadable


class _Found(NamedTuple):
    """Events of `FOUND`, the place of their table and its column of images, what is left out."""

    events: pa.Table
    source: str
    content: str | None
    left: dict[str, int]
    unreadable: dict[str, str]


def _found(settings: Settings, wanted: Wish) -> _Found:
    place, unreadable, now = wanted.source, dict[str, str](), time.time()
    if wanted.into == settings.predictions and _were_streams(settings, place):
        raise _left_to_the_stream(place)
    if place == settings.predictions:
        opened(place)  # its error is clearer
    table = rows.opened(place)
    if table is None:
        listed, unreadable = files.listed(place, settings.ignore)
        if not listed:
            raise InputError(f"there are no images in {terminal.printable(place)}")
        table = rows.parquet(place, listed)
        if table is None:
            chosen = [listed[n] for n in rows.chosen(files.columns(listed), wanted.where)]
            return _Found(files.events(chosen, now), place, None, {}, unreadable)
    labels = Labels(settings.labels).current()
    events, left = rows.events(table, wanted.where, now, str(settings.root), labels)
    return _Found(events, table.place, table.content, left, unreadable)


def _firsts(events: pa.Table) -> pa.Table:
    """Return the first of the events of each id."""
    numbered = events.append_column("_row", pa.array(range(len(events)), pa.int64()))
    rows = numbered.group_by("event_id").aggregate([("_row", "min")])["_row_min"]
    return events.take(rows.combine_chunks().sort())


def _classified(settings: Settings, path: str, model: ServedModel) -> pa.Array:
    """Return the ids of events that need no row: in the stream's table of any model."""
    import pyarrow.compute as pc

    if version(path) is None:
        return pa.array([], pa.string())
    same = None
    if path != settings.predictions:
        same = (delta.text("model") == model.name) & (pc.field("model_version") == model.version)
    held = delta.dataset(opened(path), path).to_table(columns=["event_id"], filter=same)
    return held["event_id"].cast(pa.string()).combine_chunks()
