"""A cluster of workers of one core each, on this machine: how much the second one adds.

`python -m benchmarks.scaling --network MobileNetV2` prints that for a network at 224x224.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from statistics import median

from benchmarks import images, loops, networks, stream
from sightstream import config
from sightstream.config import Settings
from sightstream.models.version import ServedModel
from tests import cluster


def main() -> None:
    """Runs rounds with images of 256x256; prints them, and the gain of both."""
    from benchmarks.__main__ import MODEL, publish

    parser = argparse.ArgumentParser(prog="benchmarks.scaling", description=__doc__)
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--network", choices=networks.SCALES, default="MobileNetV2")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        settings = config.load(home=Path(folder) / "home", model=MODEL)
        network = networks.network(chosen.network)
        model = publish(settings, network=network, side=networks.SIDE)
        small = images.small(Path(folder) / "small", chosen.images)
        found = rounds(settings, small, model, chosen.rounds, Path(folder) / "clusters")
    for name, speeds in found.items():
        one, two = speeds.values()
        gain = median(b / a for a, b in zip(one, two, strict=True))
        print(name, {key: [round(each) for each in all_] for key, all_ in speeds.items()}, end=" ")
        print(f"gain {gain:.2f}")
    print("load", os.getloadavg())


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


if __name__ == "__main__":
    main()
