"""Files of several frames, each of which is an event of its own where a model wants it so."""

import re
from dataclasses import dataclass

from sightstream.images import formats
from sightstream.images.decode import Frame
from sightstream.images.limits import Limits, Rejected
from sightstream.images.store import Image, content

_FURTHER = re.compile("#frame=([0-9]{1,4})$")
"""What stands behind the event id of a file where a further frame has a row."""


@dataclass(frozen=True)
class Framed:
    """One frame of an image, by its number from 1."""

    image: str | bytes
    number: int


def count(image: Image | None, limits: Limits) -> int:
    """Return the number of events that an image is: its frames, of which no pixel is decoded.

    1 also where it cannot be read, or has too many frames: decoding it tells why. Never raises.
    """
    data = None if image is None else content(image, limits)
    if data is None or isinstance(data, Rejected) or limits.rejection(len(data)):
        return 1
    format = formats.find(data)
    try:
        return format.frames(data, limits.max_pixels) if format else 1
    except Exception:  # of a header that is not as it should be
        return 1


def shown(event_id: str) -> Frame | int:
    """Return the frame that a row shows, for a picture of it."""
    found = _FURTHER.search(event_id)
    return max(1, int(found[1])) if found else "first"


def is_further(event_id: str) -> bool:
    """True where a row is not of a file's first frame."""
    return bool(_FURTHER.search(event_id))


class Counter:
    """Counts in a process of its own, for images that may end it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def count(self, image: Image) -> int:
        """Return the same as the function."""
        return count(image, self._limits)
