"""One file for each recipe: what differs, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightstream.errors import InputError
from sightstream.imaging import Preprocessing

NAMES = ("starter",)


@dataclass(frozen=True)
class Recipe:
    """How a model of one kind is trained.

    Attributes:
        name: of the recipe, and of the registered model.
        preprocessing: how an image becomes the network's input, in training and in serving.
        network: labels to an uncompiled Keras model from uint8 pixels to probabilities.
        epochs: rounds of Elephas.
        batch_size: images in a step of one worker.
        learning_rate: Adam's in the first epoch.
        augment: an image, uint8 (height, width, channels), to the variants to learn from.
        prepare: writes the images of a recipe that brings its own below a folder, as class
            folders, and returns theirs; None for a recipe that is given a folder.
    """

    name: str
    preprocessing: Preprocessing
    network: Callable[[int], Any]
    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 1e-3
    augment: Callable[[NDArray[np.uint8]], list[NDArray[np.uint8]]] = lambda pixels: [pixels]
    prepare: Callable[[Path], Path] | None = None


def find(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        InputError: there is none.
    """
    if name not in NAMES:
        raise InputError(f"there is no recipe '{name}'; there is: {', '.join(NAMES)}")
    recipe: Recipe = import_module(f"training.recipes.{name}").RECIPE
    return recipe
