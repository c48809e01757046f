"""The champion alone against the champion with a shadow of the same network, in one run of stream.

`python -m benchmarks.lineup` prints images a second of both, alternating, and their ratio.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks import images, networks, stream
from sightstream import config
from sightstream.config import Settings
from sightstream.models.registry import Registry
from sightstream.tables.predictions import ask
from streaming.apart import LOOK_SECONDS

SETTLED = LOOK_SECONDS + 8
"""Seconds after which the workers have taken a new shadow, or let the old one go."""


def main() -> None:
    """Runs the comparison on images of 256x256."""
    from benchmarks.__main__ import MODEL, publish

    parser = argparse.ArgumentParser(prog="benchmarks.lineup", description=__doc__)
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--network", choices=networks.SCALES, help="at 224x224 [a small one, 24x24]"
    )
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        settings = config.load(home=Path(folder) / "home", model=MODEL)
        if name := chosen.network:
            publish(settings, network=networks.network(name), side=networks.SIDE)
        else:
            publish(settings)
        small = images.small(Path(folder) / "small", chosen.images)
        compare(settings, small, chosen.rounds)


def compare(settings: Settings, paths: list[Path], rounds: int) -> float:
    """Prints images a second by round; returns the ratio of the medians."""
    registry, name = Registry(settings.registry_address), settings.model
    first = registry.version(name)
    copy = registry.publish(name, first.folder, first.digest, parameters={}, metrics={}, curves={})
    speeds: dict[bool, list[float]] = {False: [], True: []}
    with stream.running(settings, "--shadow", f"{name}@challenger"):
        for number in range(2 * rounds + 2):
            beside = not number % 2
            if beside:
                registry._client.set_registered_model_alias(name, "challenger", str(copy.number))
            else:
                registry._client.delete_registered_model_alias(name, "challenger")
            time.sleep(SETTLED)
            stream.backlog(settings, paths[: len(paths) // 4], f"warm-{number}")
            speed = stream.backlog(settings, paths, f"round-{number}")
            if number > 1:
                speeds[beside].append(speed)
                print(
                    f"{'with a shadow' if beside else 'alone':>14}  {speed:.0f} images/s",
                    flush=True,
                )
    both = "SELECT count(also[1]['label']) AS answered, count(also) AS asked FROM predictions"
    rows = ask(settings.predictions, both).to_pylist()[0]
    ratio = median(speeds[True]) / median(speeds[False])
    print(
        f"{ratio:.2f} of the speed alone; {rows['answered']} of {rows['asked']} images were "
        "answered by both"
    )
    return ratio


if __name__ == "__main__":
    main()
