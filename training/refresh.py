"""Refresh: a champion is trained further with newly labelled images, and replaced if not worse."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sightstream.cli.options import seconds
from sightstream.config import Settings
from sightstream.errors import InputError
from sightstream.images.store import here, local_path
from sightstream.models.engines import Keras, import_keras, load_keras
from sightstream.models.registry import Registry
from sightstream.models.version import SPLIT_FILE, Card, read_card
from training import backbone, datasets, live, recipes
from training.backbone import Backbone
from training.datasets import Example, Source
from training.live import Judged
from training.options import Options, Progress
from training.publish import Run, Trained, publish
from training.train import learn, learning, upon

if TYPE_CHECKING:
    from training.recipes import Recipe

EPOCHS_FRACTION = 1 / 3  # of the recipe's epochs, since a refresh starts from trained weights
RATE_FRACTION = 0.3  # of the recipe's learning rate


@dataclass(frozen=True)
class Wish:
    """The choices of a user for a refresh, as `sightstream refresh` explains them."""

    data: Path | None
    when_new: int
    margin: float
    epochs: int | None
    workers: int
    seed: int
    promote: bool
    judge: Literal["held-out", "live"] = "held-out"
    over: int = 1000
    recipe: str | None = None
    """A recipe file that may be run; None for that of the champion's training."""


def times(every: str | None) -> Iterator[None]:
    """Yields when a refresh is due: at an interval such as 10m, else InputError, or once."""
    if every is None:
        yield
        return
    interval = seconds("--every", every)
    while True:
        begin = time.monotonic()
        yield
        time.sleep(max(0.0, begin + interval - time.monotonic()))


def refresh(
    name: str, settings: Settings, wish: Wish, progress: Progress
) -> Trained | Judged | None:
    """Trains the champion of a name further, and promotes the outcome when it is not worse.

    The images of the champion's training stay on their side of the split, so that neither model
    has seen the images that both are evaluated on. Returns None where too few images are new.
    Judged live, the outcome stays the challenger until the stream has enough answers of both.

    Raises:
        ModelNotFoundError: there is no champion.
        InputError: the champion's recipe or its images are not there any more.
    """
    registry = Registry(settings.registry_address)
    if wish.judge == "live" and (judged := live.judge(registry, settings, name, wish.over)):
        return judged
    champion = registry.version(name)
    with registry.files(champion) as files:
        card = read_card(files, champion.digest)
        if "recipe" not in card.training:
            waits = "no challenger waits to be judged, and " * (wish.judge == "live")
            raise InputError(
                f"{waits}{name}'s champion was imported, not trained here: it cannot be trained "
                "further; train one with: sightstream train"
            )
        card = _with_recipe(card, wish.recipe, name, shared=registry.is_shared)
        known = _known(files, settings.root)
        labelled = _labelled(settings, name)
        source = _source(wish.data, labelled, known)
        # What a challenger was refused with is not new.
        with registry.files(registry.versions(name)[0]) as newest:
            tried = [*known, *_known(newest, settings.root)]
        new = {(e.path, e.label) for e in source.list()} - {(e.path, e.label) for e in tried}
        if len(new) < wish.when_new:
            return None
        base = backbone.again(files, card)
        recipe, options = _as_before(card, wish, name, base)
        with learning(settings, recipe, options, base, progress) as session:
            progress.on_step("decoding the images")
            dataset = datasets.load(
                session, source, card.preprocessing, settings.limits, shares=recipe.shares,
                seed=wish.seed, labels=card.labels, allow_unreadable=True,
            )  # fmt: skip
            if len(dataset.labels) > len(card.labels):
                recipe, options = _as_before(card, wish, name, base, whole=True)
            start = base or extended(load_keras(files / Keras.file), len(dataset.labels))
            run = Run(session, registry, settings.root, settings.limits, recipe, options, progress)
            network, curves = learn(run, dataset, start)
            return publish(run, dataset, network, curves, wish.margin)


def extended(network: Any, labels: int) -> Any:
    """Gives a Keras model further outputs; the weights of the earlier ones stay as they are."""
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
        # A new class starts as the least likely one, and learns from there.
        columns = [kernel, np.zeros((len(kernel), new), kernel.dtype)]
        now.set_weights([np.hstack(columns), np.append(bias, np.full(new, bias.min() - 1))])
    return copy


def _leaves(network: Any) -> list[Any]:
    return [
        leaf
        for layer in network.layers
        for leaf in (_leaves(layer) if hasattr(layer, "layers") else [layer])
    ]


def _with_recipe(card: Card, recipe: str | None, name: str, *, shared: bool) -> Card:
    """The card with the recipe that is to be run, which may be a file of Python.

    Raises:
        InputError: a version of a server names a file, which others may have had it name.
    """
    if recipe:
        return replace(card, training={**card.training, "recipe": recipe})
    named = str(card.training["recipe"])
    if shared and named.endswith(".py"):
        raise InputError(
            f"{name}'s champion names the recipe file {named}, and others may add versions to the "
            f"registry; if the file is yours: sightstream refresh {name} --recipe FILE"
        )
    return card


def _known(files: Path, home: Path) -> list[Example]:
    """The images of a version's training, also those that are gone; the home may have moved."""
    path = files / SPLIT_FILE
    found = datasets.read_split(path) if path.exists() else []
    return [replace(e, path=_here(e.path, home)) for e in found]


def _here(path: str, home: Path) -> str:
    _, digits, name = path.rpartition("/starter/digits/")
    ours = home / "starter" / "digits" / name
    return str(ours) if digits and ours.exists() else here(path, str(home))


def _source(data: Path | None, labelled: list[Example], known: list[Example]) -> Source:
    """The images of the earlier training that are still there, new folders, labelled images."""
    corrected = {e.path for e in labelled}
    folders = (data,) if data else ()
    again = {str(p.absolute()) for f in folders for p in f.rglob("*")} | corrected
    earlier = [
        Example(e.path, e.label)
        for e in known
        if e.split and e.path not in again and Path(e.path).exists()
    ]
    sides = {e.digest: e.split for e in known if e.split}
    return Source(folders, examples=(*earlier, *labelled), known=sides)


def _labelled(settings: Settings, name: str) -> list[Example]:
    """The images that a model has classified in the stream and a person has labelled."""
    from sightstream.images import frames
    from sightstream.tables.query import query

    if not settings.labels.exists():
        return []
    rows = query(
        settings.predictions,
        "SELECT p.model, p.uri, p.event_id, l.label FROM labels l JOIN predictions p "
        "USING (event_id) WHERE p.status = 'ok' AND p.uri LIKE 'file://%' ORDER BY p.uri",
        labels=settings.labels,
    ).to_pylist()
    home = settings.root.as_uri()
    found = [
        Example(local_path(here(r["uri"], home)), r["label"])
        for r in rows
        if r["model"] == name and not frames.is_further(r["event_id"])
    ]
    return [e for e in found if Path(e.path).is_file()]


def _as_before(
    card: Card, wish: Wish, name: str, base: Backbone | None = None, *, whole: bool = False
) -> tuple[Recipe, Options]:  # fmt: skip
    """The champion's recipe and options, with fewer and smaller steps unless a class is new.

    On a registered featuriser, whose head is learnt anew, the steps are those of the training too.
    """
    before, whole = card.training, whole or base is not None
    recipe = recipes.find(before["recipe"], before.get("network"))
    options = Options(
        before["recipe"],
        before.get("network"),
        name,
        epochs=wish.epochs or max(1, round((1 if whole else EPOCHS_FRACTION) * recipe.epochs)),
        batch_size=int(before["batch_size"]),
        workers=wish.workers,
        mode=before["mode"],
        optimise="optimised" in before,
        seed=wish.seed,
        promote=wish.promote,
        judge=wish.judge,
        allow_unreadable=True,
        head=before.get("head", "logistic"),
    )
    rate = (1 if whole else RATE_FRACTION) * recipe.learning_rate
    recipe = replace(recipe, preprocessing=card.preprocessing, learning_rate=rate)
    return upon(base, recipe, options) if base else (recipe, options)
