"""A cluster of workers of one core each, on this machine: how much the second one adds."""

from __future__ import annotations

from pathlib import Path

from benchmarks import loops, stream
from sightstream.config import Settings
from sightstream.models.version import ServedModel
from tests import cluster


def rounds(
    settings: Settings, images: list[Path], model: ServedModel, count: int, folder: Path
) -> dict[str, dict[str, list[float]]]:
    """Images a second with one and with two, in turn, of a cluster's workers and of bare loops.

    Two bare loops tell what a second core of this machine is worth.

    Args:
        settings: a home folder with a model.
        images: the backlog in the inbox.
        model: for the loops.
        count: of each.
        folder: for the clusters.
    """
    workers: dict[str, list[float]] = {"1 worker": [], "2 workers": []}
    loop: dict[str, list[float]] = {"1 loop": [], "2 loops": []}
    for number in range(count):
        for cores, (name, alone) in enumerate(zip(workers, loop, strict=True), 1):
            loop[alone].append(loops.bare([str(path) for path in images], model, cores))
            place = folder / f"{name}-{number}"
            with (
                cluster.running(place, cores) as it,
                stream.running(settings, "--master", it.url),
            ):
                for part in range(2):
                    stream.backlog(
                        settings, images[: len(images) // 4], f"{place.name}-warm-{part}"
                    )
                workers[name].append(stream.backlog(settings, images, place.name))
    return {"workers": workers, "loops": loop}
