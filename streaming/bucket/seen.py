"""The objects of a bucket that were taken: a file of digests, and the same in memory.

An object counts with its version, in 16 bytes on the disk and 18 in memory. A digest stays while
listings show its object: one that two full listings in a row have not shown is forgotten.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np

from sightstream.io import disk

WIDTH = 16  # bytes of a digest: nobody finds two objects of one
_FEW = 20_000  # new digests, which are kept apart until there are more


def digest(claim: str) -> bytes:
    """Return the digest of an object's uri and version."""
    return blake2b(claim.encode("utf-8", "surrogatepass"), digest_size=WIDTH).digest()


class Seen:
    """Digests of what was taken; its methods are called from one thread."""

    def __init__(self, file: Path) -> None:
        """Read the file, which need not exist; an end that a crash cut short is dropped."""
        self._file = file
        file.touch()
        content = file.read_bytes()
        self._size = len(content) // WIDTH * WIDTH
        self._held = np.unique(np.frombuffer(content[: self._size], f"S{WIDTH}"))
        self._shown = np.zeros(len(self._held), bool)
        self._missed = np.zeros(len(self._held), bool)
        self._new = set[bytes]()
        self._unwritten: list[bytes] = []

    def __len__(self) -> int:
        return len(self._held) + len(self._new)

    def unknown(self, digests: Sequence[bytes]) -> list[bool]:
        """Tell which were not taken; the others are noted as shown."""
        if not digests:
            return []
        asked = np.array(digests, f"S{WIDTH}")
        places = np.searchsorted(self._held, asked)
        places[places == len(self._held)] = 0
        found = self._held[places] == asked if len(self._held) else np.zeros(len(asked), bool)
        self._shown[places[found]] = True
        return [not old and each not in self._new for old, each in zip(found, digests, strict=True)]

    def add(self, digests: Iterable[bytes]) -> None:
        """Note what was taken; where the disk is full, it is known and waits for `write`."""
        self._unwritten += [each for each in digests if each not in self._new]
        self._new.update(self._unwritten)
        if len(self._new) > _FEW:
            self._merge()
        self.write()

    def write(self) -> None:
        """Bring what was noted to the disk; an end that is cut short is written over."""
        if not self._unwritten:
            return
        content = b"".join(self._unwritten)
        with self._file.open("r+b") as file:
            file.seek(self._size)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self._size += len(content)
        self._unwritten.clear()

    def listed(self) -> int:
        """A full listing has ended; forget what neither it nor the one before has shown.

        Returns:
            The number of them. A listing that shows nothing forgets nothing: an empty bucket in the
            place of the right one must not let all images come twice.
        """
        self._merge()
        if not self._shown.any():
            return 0
        gone = self._missed & ~self._shown
        self._missed = ~self._shown
        if gone.any():
            kept = ~gone
            self._held, self._shown = self._held[kept], self._shown[kept]
            self._missed = self._missed[kept]
            disk.replace(self._file, self._held.tobytes())
            self._size = WIDTH * len(self._held)
            self._unwritten.clear()
        self._shown[:] = False
        return int(gone.sum())

    def _merge(self) -> None:
        new = np.setdiff1d(np.array(list(self._new), f"S{WIDTH}"), self._held)
        places = np.searchsorted(self._held, new)
        self._held = np.insert(self._held, places, new)
        self._shown = np.insert(self._shown, places, True)
        self._missed = np.insert(self._missed, places, False)
        self._new.clear()
