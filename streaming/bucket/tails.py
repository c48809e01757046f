"""Tails: behind which keys new objects are looked for, without listing what is before them.

Names mostly rise with time below a folder, as those of a day or a camera do. Of the folders that
objects last came into the greatest key is kept, and that of all folders above them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from streaming.bucket.store import Object

MOST = 16  # folders looked into, beside the inbox itself


class Tails:
    """The greatest keys of an inbox, by folder."""

    def __init__(self, inbox: str) -> None:
        self._inbox = inbox
        self._newest: dict[str, float] = {}
        self._greatest: dict[str, str] = {}

    def note(self, page: Sequence[Object]) -> None:
        """Note objects that were listed, in the order of their keys."""
        for folder, group in groupby(page, lambda each: each.key[: each.key.rfind("/") + 1]):
            objects = list(group)
            newest = max(each.modified for each in objects)
            for above in self._above(folder):
                self._newest[above] = max(newest, self._newest.get(above, newest))
                self._greatest[above] = max(objects[-1].key, self._greatest.get(above, ""))
        if len(self._newest) > 4 * MOST:
            self._trim()

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Yield a folder and a key for each listing of a look; one where folders share their end.

        Without any object yet, the inbox from its beginning.
        """
        self._trim()
        widest = {self._greatest[each]: each for each in sorted(self._greatest, key=len)[::-1]}
        yield from [(folder, key) for key, folder in widest.items()] or [(self._inbox, "")]

    def _above(self, folder: str) -> Iterator[str]:
        yield self._inbox
        end = len(self._inbox)
        while (end := folder.find("/", end) + 1) > 0:
            yield folder[:end]

    def _trim(self) -> None:
        # The inbox has the newest object of all, and the shortest name.
        ranked = sorted(self._newest, key=lambda each: (-self._newest[each], len(each)))
        for old in ranked[MOST + 1 :]:
            del self._newest[old], self._greatest[old]
