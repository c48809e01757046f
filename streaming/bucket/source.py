"""A bucket as a source: objects become manifests, and manifests the tasks of micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sightstream.errors import EnvironmentUnfitError
from streaming.bucket.intake import Intake, Pace, manifests_of
from streaming.bucket.reading import AssignedObjects
from streaming.bucket.store import AwayError, Place
from streaming.folder.source import Manifested

if TYPE_CHECKING:
    from sightstream.images.limits import Limits


class BucketSource(Manifested):
    """A folder of a bucket; see `streaming.source.Source` for the order of calls."""

    name = "bucket"

    def __init__(
        self, place: Place, home: Path, checkpoint: Path, pace: Pace, ignore: Sequence[str],
        limits: Limits, images_per_batch: int, turns: Path | None,
        on_arrival: Callable[[int], None], stuck_file: Path,
        hints: Callable[[float], Sequence[str]] | None = None,
    ) -> None:  # fmt: skip
        """Ask the bucket for an object, and count the images that wait; see `Manifested`.

        Raises:
            EnvironmentUnfitError: the bucket does not answer.
        """
        self._place = place
        require_answer(place)
        self._intake = Intake(
            place, home, pace, ignore, images_per_batch, self._arrived, stuck_file, hints
        )
        self.read = AssignedObjects(manifests_of(home), limits)
        super().__init__(manifests_of(home), checkpoint, images_per_batch, turns, on_arrival)

    def check(self) -> bool:
        """Return whether the bucket answers."""
        try:
            self._place.bucket.probe(self._place.folder)
        except AwayError:
            return False
        return True


def require_answer(place: Place) -> None:
    """Raise EnvironmentUnfitError where a bucket does not answer."""
    try:
        place.bucket.probe(place.folder)
    except AwayError as error:
        raise EnvironmentUnfitError(
            f"the inbox {place.uri} cannot be reached: {error}; docs/images-in.md tells where its "
            "address and credentials come from"
        ) from None
