"""The images that are sent: known digits, broken ones, and ones that kill or hold up a decoder.

Each has content of its own, so that one row cannot stand for another's image.
"""

import random
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sightstream.images.limits import Limits
from sightstream.models.registry import Registry
from sightstream.scoring.classifier import Classifier
from tests.chaos.formats import ENDLESS_SIGNATURE, LETHAL_SIGNATURE

SURE = 0.9
"""Least score of a digit that is sent: its label does not hang on the last bit of a sum."""

_END = b"\0\0\0\0IEND\xaeB`\x82"


@dataclass(frozen=True)
class Picture:
    """An image to be sent; label or code as in `ledger.Sent`."""

    content: bytes
    label: str = ""
    code: str = ""


class Pictures:
    """Makes them, by a seed.

    Attributes:
        labels: of the first version, in the order of its outputs.
    """

    def __init__(self, digits: Sequence[Path], registry: str, seed: int) -> None:
        """Asks the model of a registry for the labels of some digits."""
        self._chance = random.Random(f"pictures {seed}")
        registered = Registry(registry)
        classifier = Classifier(registered.load(registered.version("starter")), Limits(), 1)
        some = [path.read_bytes() for path in self._chance.sample([*digits], 120)]
        self.labels = labels = classifier.model.labels
        self._digits = [
            (content, labels[answer.classes[0]])
            for content, answer in zip(some, classifier(some), strict=True)
            if answer.classes and answer.scores and answer.scores[0] > SURE
        ]
        self._count = 0

    def digit(self) -> Picture:
        """One that is classified."""
        content, label = self._chance.choice(self._digits)
        return Picture(self.again(content), label)

    def broken(self) -> Picture:
        """One whose end is missing."""
        return Picture(self.digit().content[:-20], code="truncated")

    def lethal(self) -> Picture:
        """One of a format of `tests.chaos.formats`, whose decoder ends its process."""
        return Picture(LETHAL_SIGNATURE + self._next(), code="crashed")

    def endless(self) -> Picture:
        """One of a format of `tests.chaos.formats`, whose decoder never returns."""
        return Picture(ENDLESS_SIGNATURE + self._next(), code="timeout")

    def again(self, png: bytes) -> bytes:
        """The same pixels, in a file with content of its own."""
        return _marked(png, self._next())

    def any(self) -> Picture:
        """A digit, or now and then a broken one."""
        return self.broken() if self._chance.random() < 0.03 else self.digit()

    def _next(self) -> bytes:
        self._count += 1
        return f"number {self._count}".encode()


def _marked(png: bytes, text: bytes) -> bytes:
    """A PNG with a comment, which no pixel depends on."""
    chunk = b"tEXtComment\0" + text
    whole = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return png.removesuffix(_END) + whole + _END
