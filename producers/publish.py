"""Messages of files: the image itself, or its uri where it is too large for the topic."""

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from producers import inbox
from producers.topic import Destination, Message, Publisher
from sightstream import terminal
from sightstream.errors import InputError, first_line
from sightstream.images.event import ImageEvent, new_event_id, readable
from sightstream.images.store import is_below
from sightstream.io.ignored import Ignored, ignored

Key = Literal["id", "name", "path", "hash"]
ClaimCheck = Literal["auto", "always", "never"]


def find(places: Sequence[str], ignore: Iterable[str] = ()) -> Iterator[tuple[Path | str, Path]]:
    """Yields the images of files and folders, given as paths or uris, with their names.

    One of an object store comes as its uri. For `ignore` see `inbox.find`.

    Raises:
        InputError: a place does not exist, or holds no file.
    """
    local = [Path(place) for place in places if "://" not in place]
    found = inbox.find(local, ignore) if local else iter(())
    is_ignored = ignored(ignore)
    return chain(found, *[_remote(place, is_ignored) for place in places if "://" in place])


def _remote(place: str, is_ignored: Ignored) -> list[tuple[str, Path]]:
    from pyarrow import fs

    place = place.rstrip("/")
    try:
        store, top = fs.FileSystem.from_uri(place)
        below = fs.FileSelector(top, allow_not_found=True, recursive=True)
        alone = store.get_file_info(top)
        found = [alone] if alone.is_file else store.get_file_info(below)
    except (OSError, ValueError) as error:
        shown = terminal.printable(place)
        raise InputError(f"{shown} cannot be listed: {first_line(error)}") from None
    above = top.rpartition("/")[0]
    names = {info.path: Path(os.path.relpath(info.path, above)) for info in found if info.is_file}
    left = {p: n for p, n in names.items() if not any(map(is_ignored, map(os.fsencode, n.parts)))}
    if not left:
        raise InputError(f"there are no files in {terminal.printable(place)}")
    return [(place + quote(p.removeprefix(top)), name) for p, name in sorted(left.items())]


@dataclass
class Sent:
    """Counts of images so far; `bytes` are those that were sent to the topic."""

    images: int
    acknowledged: int = 0
    claim_checks: int = 0
    refused: int = 0
    bytes: int = 0
    seconds: float = 0.0

    @property
    def complete(self) -> bool:
        """True if every image was acknowledged."""
        return self.acknowledged == self.images


def publish(
    places: Sequence[str], to: Destination, prefixes: Sequence[str], sent: Sent, *,
    notify: Callable[[str], None], on_answer: Callable[[], None] = lambda: None,
    rate: float | None = None, key: Key = "id", claim_check: ClaimCheck = "auto",
    ignore: Iterable[str] = (),
) -> None:  # fmt: skip
    """Publishes images, found as by `find`, to a topic; raises as `Publisher` does.

    `sent` is updated as images are answered, also before an error. `notify` is called with a
    sentence about an image that is refused, and about a wait; `on_answer` for each image that is
    acknowledged or refused. `rate` is in images a second; for `ignore` see `find`, for the others
    `Messages`.
    """

    def answered(message: Message, error: str, _: float) -> None:
        if error:
            refuse(f"{terminal.printable(message.event.original_name)}: {error}")
            return
        sent.acknowledged += 1
        sent.claim_checks += bool(message.event.uri)
        sent.bytes += len(message.value)
        on_answer()

    def refuse(why: str) -> None:
        sent.refused += 1
        notify(why)
        on_answer()

    begin = time.monotonic()
    with Publisher(to, answered, notify) as publisher:
        messages = Messages(prefixes, publisher, "publish", key=key, claim_check=claim_check)
        try:
            for file, name in inbox.paced(find(places, ignore), rate):
                try:
                    message = messages.of(file, os.fsencode(name))
                except InputError as error:
                    refuse(str(error))
                else:
                    publisher.send(message)
            publisher.flush()
        finally:
            sent.seconds = time.monotonic() - begin


@dataclass(frozen=True)
class Messages:
    """Makes the messages of files for one topic."""

    prefixes: Sequence[str]  # uris below which the stream may read images
    publisher: Publisher  # knows which messages fit
    sender: str  # becomes `ce_source` of the messages
    key: Key = "id"  # with "hash" equal pictures have the same event id too
    claim_check: ClaimCheck = "auto"  # as their uri go those that do not fit, all, or none

    def of(
        self, file: Path | str, name: bytes, event_id: str = "", when: float | None = None
    ) -> Message:
        """Makes the message of a file; a string is the uri of an image in an object store.

        The event id is a new one if it is empty; `when` is the time of arrival, in seconds since
        the epoch, None for now.

        Raises:
            InputError: it cannot be read, or is too large for the topic and for a claim check.
        """
        when = time.time() if when is None else when
        if isinstance(file, str):
            return self._remote(file, name, event_id, when)
        try:
            info = file.stat()
            if not stat.S_ISREG(info.st_mode):
                raise InputError(f"{_shown(file)} is no file")
            claimed = self.claim_check == "always" or info.st_size > self.publisher.limit
            if not claimed:
                value = file.read_bytes()
                message = self._message(file, name, event_id, when, value)
                if self.publisher.fits(message, len(value)):
                    return message
            return self._claim(file, name, event_id, when, info.st_size)
        except OSError as error:
            raise InputError(f"{_shown(file)} cannot be read: {error.strerror}") from None

    def _remote(self, uri: str, name: bytes, event_id: str, when: float) -> Message:
        shown = terminal.printable(uri)
        if self.claim_check == "never" or self.key == "hash":
            raise InputError(
                f"{shown} stays where it is; neither --claim-check never nor --key hash can be"
            )
        if not is_below(uri, self.prefixes):
            raise InputError(
                f"{shown} may not be named; add its folder's uri to kafka_uri_prefixes here and "
                f"where the stream runs: {terminal.printable(uri.rpartition('/')[0])}/"
            )
        return self._message(Path(), name, event_id, when, None, uri)

    def _claim(self, file: Path, name: bytes, event_id: str, when: float, size: int) -> Message:
        uri = Path(os.path.realpath(file)).as_uri()
        large = f"{_shown(file)} has {size} bytes, the topic takes {self.publisher.limit}"
        if self.claim_check == "never":
            raise InputError(f"{large}; let it be sent as its uri with --claim-check auto")
        if not is_below(uri, self.prefixes):
            about = large if self.claim_check == "auto" else f"{_shown(file)} may not be named"
            raise InputError(
                f"{about}; to send its uri instead, add the folder's uri to kafka_uri_prefixes "
                f"here and where the stream runs: {Path(os.path.realpath(file)).parent.as_uri()}/"
            )
        return self._message(file, name, event_id, when, None, uri)

    def _message(
        self, file: Path, name: bytes, event_id: str, when: float, value: bytes | None,
        uri: str = "",
    ) -> Message:  # fmt: skip
        key = {"name": os.path.basename(name), "path": name}.get(self.key)  # noqa: PTH119
        if self.key == "hash":
            digest = _digest(file, value)
            key = digest.encode()
            # RFC 6920 names content by its hash.
            event_id = str(uuid5(NAMESPACE_URL, f"ni:///sha-256;{digest}"))
        event = ImageEvent(
            event_id=event_id or new_event_id(when),
            source=self.sender,
            uri=uri,
            original_name=readable(name),
            event_time=when,
            bytes=len(value or b""),
        )
        return Message(event, key or event.message_id.encode(), value or b"")


def _digest(file: Path, value: bytes | None) -> str:
    if value is not None:
        return hashlib.sha256(value).hexdigest()
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _shown(file: Path) -> str:
    return terminal.printable(readable(os.fsencode(file)))
