"""From class folders to a registered model: load, fit, evaluate, publish, promote."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Thread

from sightstream import models, spark
from sightstream.config import Settings
from sightstream.registry import Registry, Version
from training import datasets, evaluate
from training.fit import Curves, fit, warm
from training.recipes import Recipe


@dataclass(frozen=True)
class Trained:
    """The outcome of a training.

    Attributes:
        version: as registered.
        promoted: whether it is the champion now.
        reason: the figures that decided it.
    """

    version: Version
    promoted: bool
    reason: str


def train(
    recipe: Recipe, settings: Settings, *, data: Path | None, epochs: int, workers: int, seed: int,
    on_step: Callable[[str], None], on_epoch: Callable[[int, Curves], None],
) -> Trained:  # fmt: skip
    """Trains, evaluates and registers a model; promotes it when it is not worse.

    Args:
        recipe: what to train.
        settings: the home folder, Spark and the registry.
        data: the folder of the class folders; None where the recipe brings its own images.
        epochs: rounds of Elephas.
        workers: partitions that are trained side by side.
        seed: of the split, the network's first weights and the order of the images.
        on_step: called with a sentence as each step begins.
        on_epoch: called after each epoch.
    """
    registry = Registry(settings)
    on_step("starting Spark and TensorFlow")
    session = spark.start(settings, "train")
    try:
        # TensorFlow's import takes 10 s of a core, in the driver as in each worker: side by side.
        ahead = Thread(target=warm, args=(session, workers), daemon=True)
        ahead.start()
        keras = models.import_keras()
        ahead.join()
        folder = data or (recipe.prepare(settings.root) if recipe.prepare else settings.root)
        on_step("decoding the images")
        dataset = datasets.load(session, folder, recipe.preprocessing, settings.limits, seed)
        keras.utils.set_random_seed(seed)
        network = recipe.network(len(dataset.labels))
        on_step("training")
        Thread(target=registry.names, daemon=True).start()  # MLflow's import takes seconds too
        curves = fit(network, dataset, recipe, epochs=epochs, workers=workers, seed=seed,
                     on_epoch=on_epoch)  # fmt: skip
        on_step("evaluating")
        pixels, truth = dataset.arrays("test")
    finally:
        spark.stop(session)
    figures = evaluate.metrics(network.predict(pixels, verbose=0), truth)
    parameters = {
        "recipe": recipe.name, "epochs": epochs, "workers": workers, "seed": seed,
        "batch_size": recipe.batch_size, "learning_rate": recipe.learning_rate,
        "unreadable_images": dataset.unreadable,
    }  # fmt: skip
    card = models.Card(dataset.labels, recipe.preprocessing, figures, parameters)
    on_step("registering")
    with tempfile.TemporaryDirectory(dir=settings.root) as files:
        digest = models.save(Path(files), network, card, pixels[:256])
        version = registry.publish(
            recipe.name, Path(files), digest, parameters=parameters, metrics=figures,
            curves=asdict(curves),
        )  # fmt: skip
    return _decide(registry, version)


def _decide(registry: Registry, challenger: Version) -> Trained:
    name, measure = challenger.name, "f1_macro"
    new = challenger.metrics[measure]
    number = registry.champion_number(name)
    if number is None:
        reason = "there was no champion"
    else:
        old = registry.version(name, number).metrics.get(measure, 0.0)
        reason = f"macro F1 {new:.4f} against {old:.4f} of version {number}"
        if new < old:
            return Trained(challenger, False, reason)
    return Trained(registry.promote(name, challenger.number), True, reason)
