"""A cluster of workers of one core each, on this machine: how much the second one adds."""

from __future__ import annotations

from pathlib import Path

from benchmarks import stream
from sightstream.config import Settings
from tests import cluster


def rounds(
    settings: Settings, images: list[Path], count: int, folder: Path
) -> dict[str, list[float]]:
    """Images a second of a backlog in the inbox, with one worker and with two in turn.

    Args:
        settings: a home folder with a model.
        images: the backlog.
        count: of each.
        folder: for the clusters.
    """
    figures: dict[str, list[float]] = {"1 worker": [], "2 workers": []}
    for number in range(count):
        for workers, name in enumerate(figures, 1):
            place = folder / f"{name}-{number}"
            place.mkdir(parents=True)
            with (
                cluster.running(place, workers) as it,
                stream.running(settings, "--master", it.url),
            ):
                for part in range(2):
                    stream.backlog(
                        settings, images[: len(images) // 4], f"{place.name}-warm-{part}"
                    )
                figures[name].append(stream.backlog(settings, images, place.name))
    return figures
