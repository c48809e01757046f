"""Recipes: how a model of one kind is trained; one file for each."""

import math
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from sightstream.errors import InputError, SightstreamError
from sightstream.images.decode import Preprocessing
from sightstream.images.limits import INT32, require_integer

NAMES = ("starter", "leaf", "digits", "xray", "cars", "skin")


def cosine(epochs: int, learning_rate: float) -> list[Any]:
    """Learning rate that rises over a few of the rounds and then falls to 0 along a cosine.

    The optimizer loses its momentum when weights are averaged; small steps at the end make up for
    that noise.
    """
    from keras.callbacks import LearningRateScheduler

    warm_up = max(1, epochs // 20)

    def rate(epoch: int) -> float:
        if epoch < warm_up:
            return learning_rate * (epoch + 1) / (warm_up + 1)
        return learning_rate * (1 + math.cos(math.pi * (epoch - warm_up) / (epochs - warm_up))) / 2

    return [LearningRateScheduler(rate)]


@dataclass(frozen=True)
class Recipe:
    """How a model of one kind is trained.

    A file of a recipe holds one as `RECIPE`, and further ones, by the name that `--network`
    gives, in `NETWORKS`.
    """

    name: str  # also that of the registered model
    preprocessing: Preprocessing  # in training and in serving
    network: Callable[[int], Any] | None = None
    """Number of labels to an uncompiled Keras model from uint8 pixels to probabilities; None where
    a featuriser with a linear head is the network."""
    shares: tuple[float, float, float] = (0.7, 0.1, 0.2)
    """Fractions of each class's images to train on, to validate with, to test with."""
    epochs: int = 20
    passes: int = 1  # epochs in a round, after which the driver averages the workers' weights
    batch_size: int = 32  # of one worker
    learning_rate: float = 1e-3  # the highest, of Adam
    label_smoothing: float = 0.0  # probability taken from the right label, shared among all
    augmentation: Callable[[], list[Any]] = list  # Keras layers that vary the training images
    callbacks: Callable[[int, float], list[Any]] = cosine
    """Rounds and learning rate to Keras callbacks, which the driver calls around each round."""
    featuriser: str = "squeezenet"  # where `network` is None; see `training.features`
    regularization: float = 0.03  # of the logistic regression on the featuriser's features
    prepare: Callable[[Path], Path] | None = None
    """Writes the recipe's own images below a folder; returns the folder of class folders."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]*\w[\w.-]*", self.name):
            raise ValueError(f"name takes letters, digits, '-', '_' and '.', not {self.name!r}")
        if not isinstance(self.preprocessing, Preprocessing):
            raise TypeError(f"preprocessing is a Preprocessing(...), not {self.preprocessing!r}")
        for field in ("epochs", "passes", "batch_size"):
            require_integer(field, getattr(self, field), INT32)
        train, validation, test = self.shares
        if not (0 < train <= 1 and validation >= 0 <= test and train + validation + test < 1.001):
            raise ValueError(f"shares are fractions of the images, of 1 in all, not {self.shares}")


def find(name: str, network: str | None = None) -> Recipe:
    """Finds a recipe by its name, or in a file like those of this package (a path to a `.py`).

    `network` is one of its `NETWORKS`; None for its `RECIPE`.

    Raises:
        InputError: there is no such recipe, or the file has a mistake, whose line is named.
    """
    if name.endswith(".py"):
        module = _from_file(Path(name))
    elif name in NAMES:
        module = import_module(f"training.recipes.{name}")
    else:
        raise InputError(
            f"there is no recipe '{name}'; there is: {', '.join(NAMES)}, or your own file: "
            "sightstream train ./mine.py --data DIR"
        )
    recipe = getattr(module, "RECIPE", None)
    if not isinstance(recipe, Recipe):
        raise InputError(f"{name} has no RECIPE = Recipe(...); see training/recipes/leaf.py")
    if network is None:
        return recipe
    networks: dict[str, Recipe] = getattr(module, "NETWORKS", {})
    if not isinstance(networks, dict) or {*map(type, networks.values())} - {Recipe}:
        raise InputError(f"the NETWORKS of {name} are no names with their Recipe(...)")
    if network not in networks:
        raise InputError(
            f"the recipe {recipe.name} has no network '{network}'; it has: "
            f"{', '.join(networks) or 'one only, without a name'}"
        )
    return networks[network]


def _from_file(path: Path) -> Any:
    spec = spec_from_file_location(f"recipe_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise InputError(f"there is no recipe file {path}")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        with mistakes_told(path):
            spec.loader.exec_module(module)
    except SyntaxError as error:
        raise InputError(f"{error.filename or path}, line {error.lineno}: {error.msg}") from None
    except (Exception, SystemExit) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: {type(error).__name__}: {error}") from error
    return module


@contextmanager
def mistakes_told(path: Path) -> Iterator[None]:
    """Raises InputError with its line for what the code of a recipe's file raises in the block."""
    try:
        yield
    except (Exception, SystemExit) as error:
        lines = [
            f.lineno
            for f in traceback.extract_tb(error.__traceback__)
            if f.filename == str(path.absolute())
        ]
        if not lines or isinstance(error, SightstreamError | SyntaxError):
            raise
        where = f"{path}, line {lines[-1]}"
        raise InputError(f"{where}: {type(error).__name__}: {error}") from error
