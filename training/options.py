"""The choices of a user for one training, and who follows its progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from training.elephas import Mode
from training.fit import Curves
from training.recipes import Recipe


@dataclass(frozen=True)
class Options:
    """The choices of a user for a training; None takes the recipe's own.

    Attributes:
        recipe: name or file of the recipe.
        network: one of the recipe's networks.
        name: name of the registered model.
        epochs: passes over the images.
        batch_size: images in a step of one worker.
        workers: partitions that are trained side by side.
        mode: how Elephas brings the workers' weights together.
        seed: seed of the split, the first weights and the order of the images.
        promote: whether the new version may become the champion.
        allow_unreadable: whether to go on however many images cannot be read.
        featuriser: a pretrained network in place of the recipe's.
        weights: the featuriser's: a file, or `imagenet`.
        head: what learns from the featuriser's features.
    """

    recipe: str
    network: str | None = None
    name: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    workers: int = 2
    mode: Mode = "synchronous"
    seed: int = 0
    promote: bool = True
    allow_unreadable: bool = False
    featuriser: str | None = None
    weights: str | None = None
    head: Literal["logistic", "elephas"] = "logistic"

    def used(self, recipe: Recipe) -> dict[str, Any]:
        """The settings that decide what a training with this recipe results in."""
        silent = {"name", "promote", "allow_unreadable", *(("head",) if recipe.network else ())}
        return {
            **{k: v for k, v in asdict(self).items() if v is not None and k not in silent},
            "epochs": self.epochs or recipe.epochs,
            "batch_size": self.batch_size or recipe.batch_size,
            "learning_rate": recipe.learning_rate,
        }


@dataclass(frozen=True)
class Progress:
    """Functions that follow a training.

    Attributes:
        on_step: called with a sentence as each step begins.
        on_round: called after each round with the passes made, all passes, and the curves so far.
    """

    on_step: Callable[[str], None]
    on_round: Callable[[int, int, Curves], None]
