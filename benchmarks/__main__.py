"""`make bench`: sightstream against the bare loop; a table on the screen, JSON beside this file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import images, library, loops, networks, scaling, stream, topic
from sightstream import config
from sightstream.config import Settings
from sightstream.images.decode import Preprocessing
from sightstream.models.engines import import_keras
from sightstream.models.registry import Registry
from sightstream.models.version import Card, ServedModel, export, write_card
from streaming.source import SMALL
from tests import broker

MODEL = "benchmark"
CORES = os.cpu_count() or 1

WARM = 100
"""Micro-batches that nothing is measured of."""

screen = Console(stderr=True)


def main() -> None:
    """Runs the benchmarks that were chosen."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--images", type=int, default=20_000, help="of the backlog, 256x256")
    parser.add_argument("--large", type=int, default=500, help="of the backlog, 2000x1334")
    parser.add_argument("--seconds", type=float, default=30, help="of the trickle")
    parser.add_argument("--rounds", type=int, default=7, help="of each pair, alternating")
    parser.add_argument("--messages", type=int, default=20_000, help="in Kafka; 0 leaves it out")
    parser.add_argument("--cluster", type=int, default=2, help="rounds with 1 and 2 workers")
    parser.add_argument("--library", type=int, default=4000, help="images; 0 leaves it out")
    parser.add_argument("--real", type=int, default=2400, help="images at 224x224; 0 leaves it out")
    parser.add_argument("--memory", type=int, default=60_000, help="images; 0 leaves it out")
    parser.add_argument("--folder", type=Path, default=Path.cwd() / "data" / "benchmark")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.json"))
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        results = run(Path(folder), chosen)
    chosen.out.write_text(json.dumps(results, indent=2) + "\n")
    show(results)


def run(folder: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """All benchmarks, those of the folder's speed in one run of the stream."""
    settings = config.load(home=folder / "home", model=MODEL)
    screen.print("writing images and a model of the size of the leaf recipe")
    small = images.small(folder / "small", chosen.images)
    large = images.large(folder / "large", chosen.large)
    model = publish(settings)
    results: dict[str, Any] = {"machine": machine(), "settings": vars(chosen) | {"cores": CORES}}
    results = json.loads(json.dumps(results, default=str))
    with stream.running(settings) as process:
        # The JVM compiles what runs often: its first hundred micro-batches are slower.
        for number in range(WARM):
            stream.backlog(settings, small[:SMALL], f"warm-{number}")
        stream.backlog(settings, small, "warm")
        results["256x256"] = against(
            settings, process, small, chosen.rounds, "small",
            bare=lambda p: loops.bare(p, model, CORES),
        )  # fmt: skip
        results["2000x1334"] = against(
            settings, process, large, chosen.rounds, "large",
            bare=lambda p: loops.bare(p, model, CORES),
            full_decode=lambda p: loops.full_decode(p, model, CORES),
        )  # fmt: skip
        latencies = stream.trickle(settings, small[0], 10, chosen.seconds)
        results["trickle, 10 images a second"] = percentiles(latencies)
    if chosen.real:
        results |= at_224(settings, small[: chosen.real], chosen)
    if chosen.memory:
        with stream.running(settings) as process:
            results["memory of the process tree"] = grow(settings, small, chosen.memory, process)
    if chosen.cluster:
        figures = scaling.rounds(settings, large * 4, model, chosen.cluster, folder / "clusters")
        results["2000x1334 on a cluster"] = compared(figures["workers"], "2 workers")
        results["2000x1334, a second core"] = compared(figures["loops"], "2 loops")
    if chosen.library:
        results |= in_a_users_session(settings, folder, chosen, model)
    if chosen.messages:
        results |= from_kafka(settings, folder, chosen, model)
    return results


def at_224(settings: Settings, paths: list[Path], chosen: argparse.Namespace) -> dict[str, Any]:
    """Networks as people use them, against a loop as a user writes it, and one with our decoder."""
    results: dict[str, Any] = {}
    for name in networks.SCALES:
        model = publish(settings, name, networks.network(name), networks.SIDE)
        part = paths if name == "MobileNetV2" else paths[: len(paths) // 3]
        named = settings.model_copy(update={"model": name})
        with stream.running(named) as process:
            stream.backlog(named, part, f"{name}-warm")
            results[f"{name} at 224x224"] = against(
                named, process, part, chosen.rounds, name,
                by_hand=lambda p, model=model: loops.by_hand(p, model, CORES),
                bare=lambda p, model=model: loops.bare(p, model, CORES),
            )  # fmt: skip
            latencies = stream.trickle(named, part[0], 10, chosen.seconds)
            results[f"{name} at 224x224, trickle, 10 images a second"] = percentiles(latencies)
    return results


def percentiles(latencies: list[float]) -> dict[str, float]:
    """The usual ones, in seconds."""
    return {f"p{p}": round(float(np.percentile(latencies, p)), 3) for p in (50, 95, 99)}


def in_a_users_session(
    settings: Settings, folder: Path, chosen: argparse.Namespace, model: ServedModel
) -> dict[str, Any]:
    """`classify` against predict_batch_udf: sessions with default options and tuned, two models."""
    large = publish(settings, "mobilenet", networks.network("MobileNetV2"), networks.SIDE)
    some, few = folder / "some", folder / "few"
    images.small(some, chosen.library)
    images.small(few, max(1, chosen.library // 10))
    cases = {
        "classify, 256x256 to 24x24, default options": (some, model, {}),
        "classify, 256x256 to 24x24, tuned options": (some, model, library.TUNED),
        "classify, MobileNetV2-224, default options": (few, large, {}),
        "classify, MobileNetV2-224, tuned options": (few, large, library.TUNED),
    }
    return {
        name: compared(library.rounds(where, served, chosen.rounds, CORES, options), "classify")
        for name, (where, served, options) in cases.items()
    }


def from_kafka(
    settings: Settings, folder: Path, chosen: argparse.Namespace, model: ServedModel
) -> dict[str, Any]:
    """The same from a topic, of a broker that is started for it."""
    shown = images.small(folder / "messages", chosen.messages)
    with broker.running(folder / "broker") as node:
        settings = settings.model_copy(update={"kafka_servers": node.address})
        topic.publish(settings, shown[0].parent)
        wait = stream.rows_more(settings, len(shown))
        with stream.running(settings, "--source", "kafka") as process:
            wait()
            figures, speeds = topic.rounds(
                settings, process, shown[0].parent, model, chosen.rounds, CORES
            )
            screen.print("messages", figures, "publish", speeds)
            latencies = topic.trickle(settings, shown[0], 10, chosen.seconds)
    return {
        "256x256 from Kafka": compared(figures),
        "publish": {"images/s": round(median(speeds)), "all": speeds},
        "trickle, 10 messages a second": latencies,
    }


def against(
    settings: Settings, process: subprocess.Popen[bytes], paths: list[Path], rounds: int,
    name: str, **others: Any,
) -> dict[str, Any]:  # fmt: skip
    """Images a second of sightstream and of others in turn, and the ratios of each pair."""
    figures: dict[str, list[float]] = {"sightstream": [], **{other: [] for other in others}}
    for number in range(rounds):
        # Every other round runs backwards, since the machine may be slower after one than another.
        for turn in list(figures)[:: -1 if number % 2 else 1]:
            if turn == "sightstream":
                speed = stream.backlog(settings, paths, f"{name}-{number}")
            else:
                with stream.paused(process):
                    speed = others[turn]([str(path) for path in paths])
            figures[turn].append(speed)
        screen.print(name, {key: round(values[-1]) for key, values in figures.items()})
    return compared(figures)


def compared(figures: dict[str, list[float]], first: str = "sightstream") -> dict[str, Any]:
    """Medians of the speeds, and of the ratios of each round."""
    others = [name for name in figures if name != first]
    ratios = {
        f"{first} / {other}": round(
            median(a / b for a, b in zip(figures[first], figures[other], strict=True)), 3
        )
        for other in others
    }
    speeds = {f"{key}, images/s": round(median(values)) for key, values in figures.items()}
    return {**speeds, **ratios, "all": figures}


def grow(settings: Settings, paths: list[Path], total: int, process: Any) -> dict[str, float]:
    """The tree's memory after a third of the images and after all of them."""
    taken = {}
    for number in range(3):
        for part in range(0, total // 3, len(paths)):
            count = min(len(paths), total // 3 - part)
            stream.backlog(settings, paths[:count], f"memory-{number}-{part}")
        time.sleep(3)
        taken[number] = stream.memory(process) / 2**20
    return {
        "MiB after a third": round(taken[0]),
        "MiB after all": round(taken[2]),
        "ratio": round(taken[2] / taken[0], 3),
    }


def small_network() -> Any:
    """A CNN of Conv 32, Conv 64 and Dense 256 on 24x24 RGB; its weights are random."""
    keras = import_keras()
    from keras import layers

    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((24, 24, 3), dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(256, activation="relu"),
            layers.Dense(38, activation="softmax"),
        ]
    )


def publish(
    settings: Settings, name: str = MODEL, network: Any = None, side: int = 24
) -> ServedModel:
    """Registers a network of random weights, by default the small one, and loads its ONNX file.

    Args:
        settings: the home folder.
        name: the model's name.
        network: from uint8 pixels (n, side, side, 3) to probabilities of 38 labels.
        side: height and width of its input.
    """
    network = network or small_network()
    card = Card(tuple(f"class {n}" for n in range(38)), Preprocessing(side, side), {}, {})
    pixels = np.random.default_rng(0).integers(0, 256, (64, side, side, 3), dtype=np.uint8)
    registry = Registry(settings.registry_address)
    settings.root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as files:
        difference = export(Path(files), network, pixels)
        digest = write_card(Path(files), replace(card, onnx_difference=difference))
        made = registry.publish(name, Path(files), digest, parameters={}, metrics={}, curves={})
    return registry.load(registry.promote(name, made.number), "onnx")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    packages = ("pyspark", "onnxruntime", "pillow", "deltalake", "pyarrow", "numpy")
    cpu = (
        next(
            (
                line.partition(":")[2].strip()
                for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")
            ),
            platform.processor(),
        )
        if Path("/proc/cpuinfo").exists()
        else platform.processor()
    )
    return {
        "cpu": cpu,
        "cores": CORES,
        "python": platform.python_version(),
        "disk free, GiB": round(shutil.disk_usage(Path.cwd()).free / 2**30),
        **{name: version(name) for name in packages},
    }


def show(results: dict[str, Any]) -> None:
    """The table on the screen."""
    table = Table("benchmark", "figure", "value")
    for name, figures in results.items():
        for key, value in figures.items():
            if name not in {"machine", "settings"} and key != "all":
                table.add_row(name, key, str(value))
    Console().print(table)


if __name__ == "__main__":
    main()
