"""The intake: complete files of the inbox are moved to the image folders and listed in manifests.

A crash may come at any step; `recover` completes what it interrupted, so that no image gets two
events or none.
"""

import errno
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Event

import pyarrow as pa

from sightstream.config import Acceptance
from sightstream.images.event import consecutive, milliseconds, new_event_ids, readable
from sightstream.images.store import local_path
from sightstream.io import changes, disk
from sightstream.io.folder import PAUSE, Arrival, Arrivals, Beneath, pause
from sightstream.tables.schema import EVENT
from streaming.folder import crossing, stuck
from streaming.folder.manifests import PENDING, pending, placed, publish, read, write

log = logging.getLogger(__name__)

MANIFEST_IMAGES = 1000  # images in a manifest, at most
SPAN = 600  # seconds whose images share a folder; a folder of ext4 holds about ten million files
_OURS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{21}(\.[a-z0-9]+)?")  # an event id, a suffix
_NOT_FILES = {
    stat.S_IFLNK: "a symbolic link, which is not followed",
    stat.S_IFIFO: "a named pipe, which holds no image",
    stat.S_IFSOCK: "a socket, which holds no image",
    stat.S_IFBLK: "a device, which holds no image",
    stat.S_IFCHR: "a device, which holds no image",
}


@dataclass(frozen=True)
class Folders:
    """The folders of a home that images pass through; the inbox may be on another file system."""

    inbox: Path
    images: Path
    manifests: Path
    stuck: Path
    """The file of `streaming.folder.stuck`."""


class Intake:
    """The inbox of one home folder."""

    def __init__(
        self, folders: Folders, when: Acceptance, chunk: int = MANIFEST_IMAGES,
        on_arrival: Callable[[int], object] = int,
    ) -> None:  # fmt: skip
        """Create the folders; the first look completes what a crash interrupted.

        A manifest has at most `chunk` images, whose number `on_arrival` gets.
        """
        self._inbox = os.fsencode(folders.inbox)
        self._folders = folders
        self._images = str(folders.images)
        self._manifests = folders.manifests
        self._settle = when.settle_seconds
        self._chunk = min(MANIFEST_IMAGES, chunk)
        self._on_arrival = on_arrival
        self._arrivals = Arrivals(self._inbox, when)
        self._beneath = Beneath(self._inbox)
        self._stuck_file = folders.stuck
        self._stuck: dict[bytes, str] | None = None
        self._absent = dict[bytes, str]()
        self._interrupted = True  # perhaps
        for folder in (folders.inbox, folders.images, folders.manifests):
            disk.make(folder, "the inbox" if folder == folders.inbox else "the folder")

    def run(self, stop: Event) -> None:
        """Take what arrives until `stop` is set."""
        while not stop.is_set():
            begin = time.monotonic()
            try:
                if self.take():
                    stop.wait(PAUSE)  # so that many images do not get a manifest each
                else:
                    changes.wait(self._inbox, pause(time.monotonic() - begin))
            except OSError as error:  # such as a full disk; the inbox keeps what is in it
                log.warning("the intake waits, and tries again: %s", error)
                stop.wait(1.0)

    def take(self) -> int:
        """Look at the inbox once, take what is complete, and return the number of files."""
        if why := disk.dangling(self._folders.inbox):
            self._absent = {self._inbox: why}
            self._tell_stuck()
            return 0
        self._absent = {}
        if self._interrupted and (recovered := recover(self._folders)):
            self._on_arrival(recovered)
        self._interrupted = False
        taken, arrivals = 0, self._arrivals.look()
        while chunk := list(islice(arrivals, self._chunk)):
            taken += self._move(chunk)
        self._tell_stuck()
        return taken

    def drain(self) -> int:
        """Take all that is there, doubtful files once they have settled; return their number."""
        taken = self.take()
        deadline = time.monotonic() + self._settle + 0.5  # a first look may take long
        while self._arrivals.settling and time.monotonic() < deadline:
            time.sleep(PAUSE)
            taken += self.take()
        return taken

    @property
    def left(self) -> dict[str, str]:
        """What the last look has left in the inbox, by its name there, with the reason."""
        return stuck.named(self._inbox, self._absent or self._arrivals.left)

    def _tell_stuck(self) -> None:
        if (now := self._absent or self._arrivals.stuck) != self._stuck:
            if self._absent:
                log.warning("%s", stuck.sentence(*next(iter(self.left.items()))))
            stuck.write(self._stuck_file, self._inbox, now)
            self._stuck = now

    def _move(self, chunk: list[Arrival]) -> int:
        # Each step for all files: all steps for one file after the other take a tenth longer.
        events = self._events(chunk)
        # By its name it is known which ids it lists, even if it is damaged and the clock was wrong.
        listed = self._manifests / f"{PENDING}-{events['event_id'][0].as_py()}"
        self._interrupted = True
        write(listed, events)
        targets = zip(chunk, events["uri"].to_pylist(), strict=True)
        with self._beneath:
            moved = [self._rename(path, uri) for (path, *_), uri in targets]
        _publish(self._manifests, listed, events, moved)
        self._interrupted = False
        if taken := sum(moved):
            self._on_arrival(taken)
        return taken

    def _events(self, chunk: list[Arrival]) -> pa.Table:
        paths, infos, came = zip(*chunk, strict=True)
        ids = new_event_ids(time.time(), len(chunk))
        # By now, not by its arrival: what is taken late must not join what is removed.
        span = _folder(ids[0])
        places = [f"{span}/{each}{_suffix(path)}" for path, each in zip(paths, ids, strict=True)]
        names = [readable(path[len(self._inbox) + 1 :]) for path in paths]
        return _table(ids, places, names, came, infos)

    def _rename(self, path: bytes, place: str) -> bool:
        try:
            name, folder = self._beneath(path)
            _moved(name, f"{self._images}/{place}", folder)
        except FileNotFoundError:
            return False  # deleted since the look
        except OSError as error:
            if error.errno in crossing.FULL:
                raise
            if self._arrivals.put_off(path, f"cannot be moved: {error.strerror}"):
                log.warning("%s stays in the inbox: %s", readable(path), error.strerror)
            return False
        return True


def _table(
    ids: Sequence[str], places: Sequence[str], names: Sequence[str], came: Sequence[float],
    infos: Sequence[os.stat_result],
) -> pa.Table:  # fmt: skip
    refusals = [_NOT_FILES.get(stat.S_IFMT(info.st_mode)) for info in infos]
    columns = {
        "event_id": ids,
        "source": ["folder"] * len(ids),
        "uri": places,
        "original_name": names,
        "event_time": came,
        "bytes": [info.st_size for info in infos],
        "error_code": ["unreadable" if refusal else None for refusal in refusals],
        "error_detail": [f"It is {refusal}." if refusal else None for refusal in refusals],
    }
    return pa.table(columns, EVENT)


def _moved(name: bytes, target: str, folder: int | None) -> None:
    try:
        os.rename(name, target, src_dir_fd=folder)
    except OSError as error:
        if error.errno == errno.EXDEV:
            crossing.move(name, target, folder)
        elif error.errno == errno.ENOENT and not (parent := Path(target).parent).exists():
            parent.mkdir(parents=True, exist_ok=True)
            _moved(name, target, folder)
        else:
            raise


def recover(folders: Folders) -> int:
    """Publish events of images that were moved before a crash; drop others; return their number."""
    return sum(_recovered(folders, path) for path in pending(folders.manifests))


def _recovered(folders: Folders, listed: Path) -> int:
    manifests, first = folders.manifests, listed.name.removeprefix(f"{PENDING}-")
    try:
        events = _read(listed, first)
    except ValueError as error:  # a crash cut it short before a file was moved, or it broke later
        events = _found(folders, first)
        if len(events):
            kept = manifests / f"{PENDING}.damaged"
            kept.write_bytes(listed.read_bytes())
            _rewrite(listed, events)
            log.error(
                "%s; it is kept as %s. %d images that it named were moved already: they are "
                "classified, under the names that their files have in %s", error, kept,
                len(events), folders.images,
            )  # fmt: skip
    targets = [local_path(uri) for uri in placed(events, folders.images)["uri"].to_pylist()]
    crossing.finish(os.fsencode(folders.inbox), targets)
    moved = [os.path.lexists(target) for target in targets]
    if not any(moved) and _is_away(folders, events):
        log.error(
            "%d images that %s names are neither in %s nor in %s, which is empty: if its disk is "
            "not mounted, mount it, and start again", len(events), listed, folders.inbox,
            folders.images,
        )  # fmt: skip
        return 0
    _publish(manifests, listed, events, moved)
    return sum(moved)


def _read(listed: Path, first: str) -> pa.Table:
    """Return the events of a list, which its name must be of."""
    events = read([listed])
    ids = events["event_id"].to_pylist() if _OURS.fullmatch(first) else []
    if not all(consecutive(first, each, MANIFEST_IMAGES) for each in ids):
        raise ValueError(f"{listed} is a copy of another list")
    return events


def _is_away(folders: Folders, events: pa.Table) -> bool:
    """Return whether the disk of images seems to be away: no image, and no file of a list."""
    if any(folders.images.iterdir()):
        return False
    names = events["original_name"].to_pylist()
    return bool(names) and not any((folders.inbox / each).exists() for each in names)


def _found(folders: Folders, first: str) -> pa.Table:
    """Return events of files that were moved, and whose ids, their names, follow a first one."""
    if not _OURS.fullmatch(first):
        return EVENT.empty_table()
    inbox, span = os.fsencode(folders.inbox), folders.images / _folder(first)

    def ours(names: Iterable[str]) -> list[str]:
        named = [each for each in names if _OURS.fullmatch(each)]
        return sorted(each for each in named if consecutive(first, each[:36], MANIFEST_IMAGES))

    crossing.finish(inbox, [f"{span}/{name}" for name in ours(crossing.begun(inbox))])
    names = ours(os.listdir(span) if span.exists() else [])
    return _table(
        [name[:36] for name in names],
        [f"{span.parent.name}/{span.name}/{name}" for name in names],
        names,
        [milliseconds(name) / 1000 for name in names],
        [(span / name).lstat() for name in names],
    )


def _publish(manifests: Path, listed: Path, events: pa.Table, moved: list[bool]) -> None:
    if not any(moved):
        listed.unlink()
        return
    if not all(moved):
        _rewrite(listed, events.filter(pa.array(moved)))
    publish(manifests, listed)


def _rewrite(listed: Path, events: pa.Table) -> None:
    rewritten = listed.with_name(f"{PENDING}.rewritten")
    write(rewritten, events)
    rewritten.replace(listed)


def _suffix(path: bytes) -> str:
    ending = path.rpartition(b".")[2]
    return "." + ending.decode().lower() if len(ending) <= 5 and ending.isalnum() else ""


def _folder(event_id: str) -> str:
    """Return the folder of images that were taken at the time of an id, in UTC."""
    span = milliseconds(event_id) // (1000 * SPAN) * SPAN
    return time.strftime("%Y-%m-%d/%H%M", time.gmtime(span))
