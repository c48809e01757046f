"""A champion is trained further with what has been labelled since, and replaced if that helps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sightstream.cli.options import seconds
from sightstream.config import Settings
from sightstream.images.store import local_path
from sightstream.models.registry import Registry
from sightstream.models.version import (
    KERAS_FILE,
    SPLIT_FILE,
    Card,
    import_keras,
    load_keras,
    read_card,
)
from training import datasets, recipes
from training.datasets import Example, Source
from training.train import Options, Progress, Trained, learn, learning, publish

if TYPE_CHECKING:
    from training.recipes import Recipe

SHARE = 1 / 3
"""Of the passes of a training, those of a refresh, which begins where that ended."""

RATE = 0.3
"""Of the learning rate of a training, that of a refresh."""


@dataclass(frozen=True)
class Wish:
    """What a user wants of a refresh.

    Attributes:
        data: class folders of new images; None for those in the `labels` table alone.
        when_new: nothing is done when fewer images are new.
        margin: what the F1 of a class may lose at most.
        epochs: passes over the images; None for a share of the training's.
        workers: partitions that are trained side by side.
        seed: of the split of new images and of the order.
        promote: whether the new version may become the champion.
    """

    data: Path | None
    when_new: int
    margin: float
    epochs: int | None
    workers: int
    seed: int
    promote: bool


def times(every: str | None) -> Iterator[None]:
    """Once, or again and again.

    Args:
        every: such as 30s, 10m, 1h; None for once.

    Raises:
        InputError: it is not of that form.
    """
    if every is None:
        yield
        return
    interval = seconds("--every", every)
    while True:
        begin = time.monotonic()
        yield
        time.sleep(max(0.0, begin + interval - time.monotonic()))


def refresh(name: str, settings: Settings, wish: Wish, progress: Progress) -> Trained | None:
    """Trains the champion of a name further, and promotes the outcome when it is not worse.

    The images of the champion's training stay on the side of the split where they were; new ones
    are dealt out in the recipe's shares, so that neither model has seen what both are judged by.

    Args:
        name: the registered model.
        settings: the home folder, Spark and the registry.
        wish: what the user wants.
        progress: whom to tell.

    Returns:
        The outcome; None where too few images are new.

    Raises:
        ModelNotFoundError: there is no champion.
        InputError: its recipe or its images are not there any more.
    """
    registry = Registry(settings)
    champion = registry.version(name)
    files = registry.fetch(champion)
    card = read_card(files, champion.digest)
    known = _known(files)
    source = _source(settings, wish, name, known)
    # What a challenger was refused with is not new.
    tried = [*known, *_known(registry.fetch(registry.versions(name)[0]))]
    new = {(e.path, e.label) for e in source.list()} - {(e.path, e.label) for e in tried}
    if len(new) < wish.when_new:
        return None
    recipe, options = _as_before(card, wish, name)
    with learning(settings, recipe, wish.workers, progress) as session:
        progress.on_step("decoding the images")
        dataset = datasets.load(
            session, source, card.preprocessing, settings.limits, shares=recipe.shares,
            seed=wish.seed, labels=card.labels, allow_unreadable=True,
        )  # fmt: skip
        if len(dataset.labels) > len(card.labels):
            recipe, options = _as_before(card, wish, name, whole=True)
        start = extended(load_keras(files / KERAS_FILE), len(dataset.labels))
        network, curves = learn(recipe, dataset, options, progress, start)
        return publish(session, settings, registry, recipe, dataset, network, curves, options,
                       progress, margin=wish.margin)  # fmt: skip


def extended(network: Any, labels: int) -> Any:
    """A network with outputs for further labels; the weights of the others stay as they are.

    Args:
        network: a Keras model whose last layer is dense.
        labels: how many outputs it is to have.
    """
    keras = import_keras()
    last = _leaves(network)[-1]
    kernel, bias = last.get_weights()
    new = labels - len(bias)
    if not new:
        return network

    def wider(layer: Any) -> Any:
        if layer is not last:
            return layer
        return keras.layers.Dense.from_config({**layer.get_config(), "units": labels})

    copy = keras.models.clone_model(network, clone_function=wider, recursive=True)
    for old, now in zip(_leaves(network), _leaves(copy), strict=True):
        if old is not last:
            now.set_weights(old.get_weights())
            continue
        # A new class begins as the least of all classes, and learns from there.
        columns = [kernel, np.zeros((len(kernel), new), kernel.dtype)]
        now.set_weights([np.hstack(columns), np.append(bias, np.full(new, bias.min() - 1))])
    return copy


def _leaves(network: Any) -> list[Any]:
    return [
        leaf
        for layer in network.layers
        for leaf in (_leaves(layer) if hasattr(layer, "layers") else [layer])
    ]


def _known(files: Path) -> list[Example]:
    """The images of a version's training, also those that are not where they were."""
    path = files / SPLIT_FILE
    return datasets.read_split(path) if path.exists() else []


def _source(settings: Settings, wish: Wish, name: str, known: list[Example]) -> Source:
    labelled = _labelled(settings, name)
    corrected = {e.path for e in labelled}
    there = [e for e in known if e.split and Path(e.path).exists()]
    earlier = [Example(e.path, e.label) for e in there if e.path not in corrected]
    sides = {e.digest: e.split for e in known if e.split}
    folders = (wish.data,) if wish.data else ()
    again = {str(p.absolute()) for f in folders for p in f.rglob("*")} | corrected
    return Source(
        folders, examples=(*(e for e in earlier if e.path not in again), *labelled), known=sides
    )


def _labelled(settings: Settings, name: str) -> list[Example]:
    """The images that a model has classified in the stream, and a person has labelled."""
    from sightstream.tables.query import query

    if not settings.labels.exists():
        return []
    rows = query(
        settings.predictions,
        "SELECT p.model, p.uri, l.label FROM labels l JOIN predictions p USING (event_id) "
        "WHERE p.status = 'ok' AND p.uri LIKE 'file://%' ORDER BY p.uri",
        labels=settings.labels,
    ).to_pylist()
    found = [Example(local_path(r["uri"]), r["label"]) for r in rows if r["model"] == name]
    return [e for e in found if Path(e.path).is_file()]


def _as_before(card: Card, wish: Wish, name: str, *, whole: bool = False) -> tuple[Recipe, Options]:
    """The recipe and the settings of the champion's training; smaller, unless a class is new."""
    before = card.training
    recipe = recipes.find(before["recipe"], before.get("network"))
    options = Options(
        before["recipe"],
        before.get("network"),
        name,
        epochs=wish.epochs or max(1, round((1 if whole else SHARE) * recipe.epochs)),
        batch_size=int(before["batch_size"]),
        workers=wish.workers,
        mode=before["mode"],
        seed=wish.seed,
        promote=wish.promote,
        allow_unreadable=True,
        head=before.get("head", "logistic"),
    )
    rate = (1 if whole else RATE) * recipe.learning_rate
    return replace(recipe, preprocessing=card.preprocessing, learning_rate=rate), options
