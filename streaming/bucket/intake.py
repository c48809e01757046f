"""The intake of a bucket: new objects become manifests, and stay where they are.

A manifest is written before its objects are noted as taken. The newest manifest is never deleted,
so that the next start notes what a crash between the two has left out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from threading import Event

import pyarrow as pa

from sightstream.images.event import new_event_id
from sightstream.io import disk
from sightstream.io.ignored import ignored
from sightstream.tables.schema import EVENT
from streaming.bucket.seen import Seen, digest
from streaming.bucket.store import AwayError, Object, Place, claim
from streaming.bucket.tails import Tails
from streaming.folder import stuck
from streaming.folder.intake import MANIFEST_IMAGES
from streaming.folder.manifests import PENDING, between, publish, read, write

log = logging.getLogger(__name__)

PAGES = 20  # of a full listing between two looks, so that it does not hold up what is new
DAY = 86_400
_AT_ONCE = 16  # requests about objects that notifications name
_RETRY = 2.0  # seconds until a bucket that is away is asked again


@dataclass(frozen=True)
class Pace:
    """How often a bucket is listed; `Settings` describes the fields."""

    look_seconds: float
    full_seconds: float
    """Longest time from one full listing to the next; ten times the duration of one, at least."""


class Intake:
    """The objects in a folder of a bucket."""

    def __init__(
        self, place: Place, home: Path, pace: Pace, ignore: Iterable[str] = (),
        chunk: int = MANIFEST_IMAGES, on_arrival: Callable[[int], object] = int,
        stuck_file: Path | None = None, hints: Callable[[float], Sequence[str]] | None = None,
    ) -> None:  # fmt: skip
        """Learn what was taken before; `home` is the folder for manifests and that.

        A manifest has at most `chunk` images, whose number `on_arrival` gets. `hints` waits for
        some seconds at most, and returns keys of objects that may be new.
        """
        self.manifests = manifests_of(home)
        disk.make(self.manifests, "the folder")
        self.left: dict[str, str] = {}
        self._place = place
        self._pace = pace
        self._ignored = ignored(ignore)
        self._chunk = min(MANIFEST_IMAGES, chunk)
        self._on_arrival = on_arrival
        self._stuck_file = stuck_file
        self._hints = hints
        # Another inbox must not forget what was taken from this one.
        name = sha256(place.uri.encode()).hexdigest()[:16]
        self._seen = Seen(home / f"taken-{name}")
        newest = between(self.manifests, {})[-1:]
        self._seen.add(self._unknown([digest(each) for each in read(newest)["uri"].to_pylist()]))
        self._tails = Tails(place.folder)
        self._listing: Iterator[list[Object]] | None = None
        self._pages, self._due = 0, 0.0
        self._tell("")

    def run(self, stop: Event) -> None:
        """Take what arrives until `stop` is set."""
        hinted: Sequence[str] = ()
        while not stop.is_set():
            pause = 0.0 if self._listing else self._pace.look_seconds
            try:
                self.take(hinted)
                self._tell("")
                pause = 0.0 if self._listing else self._pace.look_seconds
            except AwayError as error:
                self._tell(f"cannot be reached: {error}")
                pause = _RETRY
            # Such as a full disk, or anything that a client raises; the bucket keeps what is in it.
            except Exception as error:
                log.warning("the intake waits, and tries again: %s", error)
                pause = _RETRY
            hinted = self._hints(pause) if self._hints else ()
            if not self._hints:
                stop.wait(pause)

    def take(self, hinted: Sequence[str] = ()) -> int:
        """Look for new objects once, and return their number.

        Raises:
            AwayError: the bucket does not answer; what was found before is taken.
        """
        return self._accept(self._look(hinted))

    def drain(self) -> int:
        """Take all that a full listing shows, and return the number."""
        taken = 0
        try:
            taken = self._accept(self._full())
            self._tell("")
        except AwayError as error:
            self._tell(f"cannot be reached: {error}")
        return taken

    def _look(self, hinted: Sequence[str]) -> Iterator[list[Object]]:
        bucket, folder = self._place
        below = [key for key in hinted if key.startswith(folder)]
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            yield from ([found] for found in threads.map(self._found, below) if found)
        if bucket.sorts and self._pages > 1 and not self._hints:
            for below, after in [*self._tails]:
                yield from self._noted(bucket.pages(below, after))
        if not self._listing and time.monotonic() >= self._due:
            self._listing = self._full()
        yield from islice(self._listing or (), PAGES)

    def _found(self, key: str) -> Object | None:
        try:
            return self._place.bucket.find(key)
        except AwayError:  # the full listing finds what is there
            return None

    def _full(self) -> Iterator[list[Object]]:
        begin, self._pages = time.monotonic(), 0
        try:
            for page in self._noted(self._place.bucket.pages(self._place.folder)):
                self._pages += 1
                yield page
            self._seen.listed()
        finally:
            self._listing = None
        now = time.monotonic()
        # A small bucket costs a request or two: it is listed as often as one looks for new keys,
        # but where notifications tell them.
        rest = self._pace.full_seconds
        if not self._hints:
            rest = min(rest, (self._pages - 1) * self._pace.look_seconds)
        self._due = now + max(rest, 10 * (now - begin) if self._pages > 1 else 0.0)

    def _noted(self, pages: Iterable[list[Object]]) -> Iterator[list[Object]]:
        for page in pages:
            self._tails.note(page)
            yield page

    def _accept(self, pages: Iterable[list[Object]]) -> int:
        taken, new, fault = 0, dict[bytes, tuple[str, Object]](), None
        try:
            for page in pages:
                new |= self._new(page)
                while len(new) >= self._chunk:
                    taken += self._publish(new)
        except AwayError as error:
            fault = error
        while new:
            taken += self._publish(new)
        if fault:
            raise fault
        return taken

    def _new(self, page: Sequence[Object]) -> dict[bytes, tuple[str, Object]]:
        claims = [(claim(self._place.bucket, each), each) for each in page]
        digests = [digest(text) for text, _ in claims]
        unknown = set(self._unknown(digests))
        return {
            key: found
            for key, found in zip(digests, claims, strict=True)
            if key in unknown and self._place.has_image(found[1], self._ignored)
        }

    def _unknown(self, digests: Sequence[bytes]) -> list[bytes]:
        found = zip(digests, self._seen.unknown(digests), strict=True)
        return [each for each, unknown in found if unknown]

    def _publish(self, new: dict[bytes, tuple[str, Object]]) -> int:
        self._seen.write()  # where the disk was full: a start looks into the newest manifest alone
        chosen = {each: new.pop(each) for each in list(islice(new, self._chunk))}
        write(self.manifests / PENDING, self._events([*chosen.values()]))
        publish(self.manifests, self.manifests / PENDING)
        self._on_arrival(len(chosen))
        self._seen.add(chosen)
        return len(chosen)

    def _events(self, found: Sequence[tuple[str, Object]]) -> pa.Table:
        now, nothing = time.time(), [None] * len(found)
        objects = [each for _, each in found]
        begin = len(self._place.folder)
        columns = {
            "event_id": [new_event_id(now) for _ in found],
            "source": ["bucket"] * len(found),
            "uri": [text for text, _ in found],
            "original_name": [each.key[begin:] for each in objects],
            # What is older was there before; rows are partitioned by day.
            "event_time": [
                each.modified if now - DAY <= each.modified <= now else now for each in objects
            ],
            "bytes": [each.size for each in objects],
            "error_code": nothing,
            "error_detail": nothing,
        }
        return pa.table(columns, EVENT)

    def _tell(self, why: str) -> None:
        before, self.left = self.left, {self._place.uri: why} if why else {}
        if why and not before:
            log.warning("%s", stuck.sentence(self._place.uri, why))
        elif before and not why:
            log.warning("the inbox %s answers again", self._place.uri)
        if self._stuck_file and (before != self.left or not why):
            stuck.note(self._stuck_file, self.left)


def manifests_of(home: Path) -> Path:
    """Return the folder of the manifests, in that of a bucket's state."""
    return home / "manifests"
