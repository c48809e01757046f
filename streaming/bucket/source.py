"""A bucket as a source: objects become manifests, and manifests the tasks of micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from streaming import checkpoint
from streaming.bucket.done import Done
from streaming.bucket.intake import Intake, Pace, manifests_of
from streaming.bucket.reading import AssignedObjects
from streaming.bucket.store import AwayError, Place, reached
from streaming.folder.manifests import between, read
from streaming.folder.source import Manifested

if TYPE_CHECKING:
    import pyarrow as pa

    from sightstream.images.limits import Limits


class BucketSource(Manifested):
    """A folder of a bucket; see `streaming.source.Source` for the order of calls."""

    name = "bucket"

    def __init__(
        self, place: Place, home: Path, kept: Path, pace: Pace, ignore: Sequence[str],
        limits: Limits, images_per_batch: int, turns: Path | None,
        on_arrival: Callable[[int], None], stuck_file: Path,
        hints: Callable[[float], Sequence[str]] | None = None, after: Done | None = None,
    ) -> None:  # fmt: skip
        """Ask the bucket for an object, and count the images that wait; see `Manifested`.

        Raises:
            EnvironmentUnfitError: the bucket does not answer.
        """
        self._place = place
        self._after = after
        require_answer(place)
        self._intake = Intake(
            place, home, pace, ignore, images_per_batch, self._arrived, stuck_file, hints
        )
        self.read = AssignedObjects(manifests_of(home), limits)
        super().__init__(manifests_of(home), kept, images_per_batch, turns, on_arrival)

    @property
    def left(self) -> Mapping[str, str]:
        """The bucket's uri and the reason, while it is away."""
        return self._intake.left

    def done(self, batch_id: int, images: int, rows: pa.Table | None) -> None:
        """Count the images of a micro-batch, and tag or move their objects."""
        if self._after:
            start, end = (
                checkpoint.offset(self.checkpoint, n, str) for n in (batch_id - 1, batch_id)
            )
            self._after(read(between(self._manifests, start, end))["uri"].to_pylist())
        super().done(batch_id, images, rows)

    def check(self) -> bool:
        """Return whether the bucket answers."""
        try:
            self._place.bucket.probe(self._place.folder)
        except AwayError:
            return False
        return True


def require_answer(place: Place, role: str = "inbox") -> None:
    """Raise EnvironmentUnfitError where a bucket does not answer."""
    with reached(f"the {role} {place.uri}"):
        place.bucket.probe(place.folder)
