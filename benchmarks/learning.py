"""`python -m benchmarks.learning`: Elephas against plain Keras, and what the driver holds."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.__main__ import machine
from sightstream import config, terminal
from sightstream.models.engines import import_keras
from tests import cluster
from training import datasets, fit, recipes
from training.datasets import Dataset, Source
from training.evaluate import evaluate
from training.options import Progress
from training.recipes import Recipe
from training.split import SPLITS
from training.train import learning

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

WORKERS = 2
SHARES = (0.7, 0.1, 0.2)
"""Where a recipe holds no test images back: those of validation choose the best pass."""

COPIES = 10


def main() -> None:
    """Runs what a folder was given for."""
    parser = argparse.ArgumentParser(prog="benchmarks.learning", description=__doc__)
    parser.add_argument("--recipe", default="leaf", help="of the comparison with plain Keras")
    parser.add_argument("--data", type=Path, help="its class folders")
    parser.add_argument("--epochs", type=int, help="passes over the images [the recipe's own]")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each of the two")
    parser.add_argument("--memory", type=Path, help="class folders of X-rays, for the memory")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    chosen = parser.parse_args()
    if not chosen.data and not chosen.memory:
        parser.error("give --data DIR, --memory DIR, or both")
    results: dict[str, Any] = {"machine": machine()}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        if chosen.data:
            recipe = recipes.find(chosen.recipe)
            results["learning"] = against_keras(
                recipe, chosen.data, chosen.epochs or recipe.epochs, chosen.seeds, home / "home"
            )
            show_learning(results["learning"])
        if chosen.memory:
            results["memory"] = driver_memory(chosen.memory, home)
            show_memory(results["memory"])
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=2) + "\n")


def against_keras(
    recipe: Recipe, data: Path, epochs: int, seeds: int, home: Path
) -> dict[str, Any]:
    """Macro F1 and seconds of both, for each seed."""
    if recipe.network is None:
        raise SystemExit(f"the recipe {recipe.name} has no network of its own to compare")
    recipe = replace(recipe, shares=recipe.shares if recipe.shares[2] else SHARES)
    settings = config.load(home=home)
    progress = Progress(terminal.err.print, lambda *_: None)
    begin = time.monotonic()
    runs = []
    with (
        terminal.chatter_to(settings.logs / "train.log"),
        learning(settings, recipe, WORKERS, progress) as session,
    ):
        started = time.monotonic() - begin
        for seed in range(seeds):
            dataset = load(session, recipe, data, seed, settings)
            runs.append(both(dataset, recipe, epochs, seed))
            terminal.err.print({key: round(value, 4) for key, value in runs[-1].items()})
            session.catalog.clearCache()
    means = {key: mean(run[key] for run in runs) for key in runs[0] if key != "seed"}
    return {
        "recipe": recipe.name,
        "data": str(data),
        "epochs": epochs,
        "workers": WORKERS,
        "images": {split: dataset.count(split) for split in SPLITS},
        "start_seconds": started,
        "runs": runs,
        "mean": means,
        "time_ratio": means["elephas_seconds"] / means["plain_seconds"],
        "f1_difference": means["elephas_f1"] - means["plain_f1"],
    }


def both(dataset: Dataset, recipe: Recipe, epochs: int, seed: int) -> dict[str, float]:
    """The figures of one seed: the same images, passes and first weights for both."""
    run = {"seed": float(seed)}
    # What goes second finds warm caches.
    for trainer in (plain, elephas) if seed % 2 else (elephas, plain):
        import_keras().utils.set_random_seed(seed)
        network = recipe.network(len(dataset.labels))
        run[f"{trainer.__name__}_seconds"] = trainer(network, dataset, recipe, epochs, seed)
        run[f"{trainer.__name__}_f1"] = macro_f1(network, dataset)
    return run


def load(
    session: SparkSession, recipe: Recipe, data: Path, seed: int, settings: config.Settings
) -> Dataset:
    """The images, decoded ahead of what is timed."""
    dataset = datasets.load(
        session, Source((data,)), recipe.preprocessing, settings.limits, shares=recipe.shares,
        seed=seed,
    )  # fmt: skip
    dataset.images.count()
    return dataset


def elephas(network: Any, dataset: Dataset, recipe: Recipe, epochs: int, seed: int) -> float:
    """Trains with Elephas, and returns the seconds."""
    train, validation = (
        fit.examples(dataset.split(split), "pixels", WORKERS, seed)
        for split in ("train", "validation")
    )
    for each in (train, validation):
        each.count()
    begin = time.monotonic()
    fit.fit(network, train, validation, recipe, epochs=epochs, batch_size=recipe.batch_size,
            mode="synchronous", seed=seed, on_round=lambda *_: None)  # fmt: skip
    seconds = time.monotonic() - begin
    for each in (train, validation):
        each.unpersist()
    return seconds


def plain(network: Any, dataset: Dataset, recipe: Recipe, epochs: int, seed: int) -> float:
    """Trains in this process with all its threads, and returns the seconds.

    As with Elephas, the images of validation choose the pass whose weights stay.
    """
    keras = import_keras()
    images, truth = arrays(dataset, "train")
    held, held_truth = arrays(dataset, "validation")
    labels = len(dataset.labels)
    smoothing, eye = recipe.label_smoothing, np.eye(labels, dtype=np.float32)
    learner = keras.Sequential(
        [keras.Input(images.shape[1:], dtype="uint8"), *recipe.augmentation(), network]
    )
    learner.compile(keras.optimizers.Adam(recipe.learning_rate),
                    "categorical_crossentropy", metrics=["accuracy"])  # fmt: skip

    class Best(keras.callbacks.Callback):  # type: ignore[misc]
        worth, weights = (-1.0, 0.0), network.get_weights()

        def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
            if (logs["val_accuracy"], -logs["val_loss"]) >= self.worth:
                self.worth = logs["val_accuracy"], -logs["val_loss"]
                self.weights = network.get_weights()

    best = Best()
    begin = time.monotonic()
    learner.fit(
        images, (eye * (1 - smoothing) + smoothing / labels)[truth], recipe.batch_size, epochs,
        validation_data=(held, eye[held_truth]), verbose=0,
        callbacks=[*recipe.callbacks(epochs, recipe.learning_rate), best],
    )  # fmt: skip
    network.set_weights(best.weights)
    return time.monotonic() - begin


def macro_f1(network: Any, dataset: Dataset) -> float:
    """Of the test images, which neither side has seen."""
    images, truth = arrays(dataset, "test")
    scores = network.predict(images, verbose=0)
    return evaluate(scores, truth, dataset.labels).metrics()["f1_macro"]


def arrays(dataset: Dataset, split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pixels (n, height, width, channels) and label indices (n,) of a split."""
    rows = dataset.split(split).orderBy("digest").select("pixels", "label").toArrow()
    flat = np.frombuffer(b"".join(rows["pixels"].to_pylist()), np.uint8)
    pixels = flat.reshape(-1, *dataset.preprocessing.shape)
    return pixels, rows["label"].to_numpy().astype(np.int64)


def driver_memory(data: Path, home: Path) -> dict[str, Any]:
    """Peaks of the driver's two processes in a pass over the images, and over ten times as many.

    Executors are processes of their own, since a local driver's JVM also holds what they cache.
    """
    with cluster.running(home / "cluster", WORKERS) as it:
        once = peaks(data, home / "once", it.url)
        terminal.err.print(once)
        more = peaks(copied(data, home / "copies", COPIES), home / "more", it.url)
        terminal.err.print(more)
    return {
        "data": str(data),
        "once": once,
        f"{COPIES} times": more,
        "ratio": {key: more[key] / once[key] for key in once},
    }


def copied(data: Path, folder: Path, copies: int) -> Path:
    """Class folders with copies whose bytes differ behind the end of the picture."""
    for index, example in enumerate(datasets.class_folders(data)):
        path, below = Path(example.path), folder / example.label
        below.mkdir(parents=True, exist_ok=True)
        for number in range(copies):
            copy = below / f"{index}-{number}{path.suffix}"
            copy.write_bytes(path.read_bytes() + b"\0" * number)
    return folder


def peaks(data: Path, home: Path, master: str) -> dict[str, float]:
    """MiB at most, resident, of the Python process and of the JVM of a training of one pass."""
    command = [sys.executable, "-m", "sightstream", "train", "xray", "--data", str(data)]
    command += ["--epochs", "1", "--workers", str(WORKERS), "--home", str(home), "--json",
                "--master", master]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        python = psutil.Process(process.pid)
        most = {"python_mib": 0.0, "jvm_mib": 0.0}
        while process.poll() is None:
            for key, each in {"python_mib": python, "jvm_mib": _jvm(python)}.items():
                try:
                    taken = each.memory_info().rss / 2**20 if each else 0.0
                except psutil.NoSuchProcess:
                    continue
                most[key] = max(most[key], taken)
            time.sleep(0.05)
    if process.returncode:
        raise SystemExit("the training failed")
    return {**most, "both_mib": sum(most.values())}


def _jvm(process: psutil.Process) -> psutil.Process | None:
    try:
        return next((p for p in process.children() if p.name() == "java"), None)
    except psutil.NoSuchProcess:
        return None


def show_learning(found: dict[str, Any]) -> None:
    """A line for each seed, and their mean."""
    table = Table(
        "seed", "Keras F1", "Elephas F1", "difference", "Keras s", "Elephas s", "ratio",
        title=f"{found['recipe']}, {found['epochs']} passes, {found['workers']} workers, images "
              f"{found['images']}; imports and Spark took {found['start_seconds']:.0f} s",
    )  # fmt: skip
    for run in (*found["runs"], found["mean"]):
        table.add_row(
            f"{run['seed']:.0f}" if "seed" in run else "mean",
            f"{run['plain_f1']:.4f}",
            f"{run['elephas_f1']:.4f}",
            f"{run['elephas_f1'] - run['plain_f1']:+.4f}",
            f"{run['plain_seconds']:.1f}",
            f"{run['elephas_seconds']:.1f}",
            f"{run['elephas_seconds'] / run['plain_seconds']:.2f}",
        )
    terminal.out.print(table)


def show_memory(found: dict[str, Any]) -> None:
    """A line for each process."""
    table = Table("driver, peak resident MiB", "once", f"{COPIES} times", "ratio")
    for key, name in {"python_mib": "Python", "jvm_mib": "JVM", "both_mib": "both"}.items():
        values = found["once"][key], found[f"{COPIES} times"][key]
        table.add_row(name, *(f"{v:.0f}" for v in values), f"{found['ratio'][key]:.2f}")
    terminal.out.print(table)


if __name__ == "__main__":
    main()
