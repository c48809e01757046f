"""From a folder to a topic: complete files only, each under one event id, none lost.

A complete file is moved to `.publishing/<event id>/<path>` below the folder and, once it is
acknowledged, to `published`. However the program ends, the next start sends the files in
`.publishing` again, under the same ids, so that the stream makes one row of each.
"""

import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event
from uuid import UUID

from producers.publish import Messages
from producers.topic import Destination, Message, Publisher
from sightstream.config import Acceptance
from sightstream.errors import AlreadyRunningError, InputError
from sightstream.images.event import new_event_id
from sightstream.io import disk
from sightstream.io.folder import PAUSE, Arrivals, files, pause
from sightstream.terminal import printable

PUBLISHING = ".publishing"
PUBLISHED = "published"

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""The name of a folder of ours; others' may stand beside it, as those of network storage do."""


class Watch:
    """A folder whose files go to a topic.

    The stream may read images below `prefixes`. With `keep` files stay below `published`; else they
    are removed. `notify` is called with a sentence about a file that stays, and about a wait.
    """

    def __init__(
        self, folder: Path, to: Destination, prefixes: Sequence[str], when: Acceptance, *,
        keep: bool, notify: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._folder = folder.absolute()
        self._publishing = self._folder / PUBLISHING
        self._published = self._folder / PUBLISHED
        self._to = to
        self._prefixes = prefixes
        self._keep = keep
        self._notify = notify
        self._arrivals = Arrivals(
            os.fsencode(self._folder), when,
            leave=(os.fsencode(PUBLISHING), os.fsencode(PUBLISHED)),
        )  # fmt: skip
        self.published = 0
        """Files that were acknowledged."""

    def run(self, stop: Event) -> None:
        """Publishes the files that an earlier run left, and then those that arrive, until a stop.

        Raises:
            InputError: there is no such folder.
            AlreadyRunningError: another process watches it.
            SightstreamError: as `Publisher` raises it.
        """
        if not self._folder.is_dir():
            raise InputError(f"there is no folder {self._folder}")
        try:
            with disk.held(self._publishing):
                self._run(stop)
        except AlreadyRunningError:
            raise AlreadyRunningError(
                f"another process watches {self._folder} already; stop it first"
            ) from None

    def _run(self, stop: Event) -> None:
        with Publisher(self._to, self._answered, self._notify) as publisher:
            messages = Messages(self._prefixes, publisher, "watch")
            for place in self._left():
                self._send(messages, publisher, place)
            while not stop.is_set():
                begin, arrived = time.monotonic(), False
                for arrival in self._arrivals.look():
                    if claimed := self._claim(*arrival):
                        self._send(messages, publisher, claimed)
                        arrived = True
                    if stop.is_set():
                        break
                publisher.poll()
                stop.wait(PAUSE if arrived else pause(time.monotonic() - begin))
            publisher.flush()

    def _left(self) -> Iterator[Path]:
        """Yields the files that were claimed and not acknowledged."""
        for folder in sorted(self._publishing.iterdir()):
            if folder.is_dir() and not folder.is_symlink() and _ID.fullmatch(folder.name):
                inside = [Path(os.fsdecode(each.path)) for each in files(os.fsencode(folder))]
                yield from inside
                if not inside:  # a crash came before the file
                    shutil.rmtree(folder)

    def _claim(self, path: bytes, info: os.stat_result, arrived: float) -> Path | None:
        """Moves a file below `.publishing`, under an event id; None if it stays where it is."""
        if not stat.S_ISREG(info.st_mode):
            self._stays(path, "it is a link, a pipe or the like, and no file")
            return None
        event_id = new_event_id(arrived)
        file = Path(os.fsdecode(path))
        place = self._publishing / event_id / file.relative_to(self._folder)
        try:
            place.parent.mkdir(parents=True)
            file.rename(place)
        except OSError as error:
            shutil.rmtree(self._publishing / event_id, ignore_errors=True)
            if not isinstance(error, FileNotFoundError):  # deleted since it was seen
                self._stays(path, error.strerror or str(error))
            return None
        return place

    def _stays(self, path: bytes, why: str) -> None:
        self._notify(f"{printable(os.fsdecode(path))} stays where it is: {why}")
        self._arrivals.put_off(path, why)

    def _send(self, messages: Messages, publisher: Publisher, place: Path) -> None:
        event_id, *parts = place.relative_to(self._publishing).parts
        name = os.fsencode(Path(*parts))
        when = (UUID(event_id).int >> 80) / 1000
        if place.is_symlink():  # somebody put it there, or in the file's place since it was seen
            self._notify(f"{printable(str(place))} stays where it is: it is a link, and no file")
            return
        try:
            message = messages.of(place, name, event_id, when)
            if message.event.uri:  # which must be right for as long as the stream may read it
                kept = self._published / event_id / Path(*parts)
                kept.parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileExistsError):
                    kept.hardlink_to(place)
                message = messages.of(kept, name, event_id, when)
        except InputError as error:
            self._notify(f"{error}; it is tried again at the next start")
        else:
            publisher.send(message)

    def _answered(self, message: Message, error: str, _: float) -> None:
        event = message.event
        if error:
            self._notify(
                f"{printable(event.original_name)}: {error}; it is tried again at the next start"
            )
            return
        self.published += 1
        place = self._publishing / event.event_id
        if self._keep and not event.uri:
            self._published.mkdir(exist_ok=True)
            place.rename(self._published / event.event_id)
        else:
            shutil.rmtree(place)
