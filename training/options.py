"""The choices of a user for one training, and who follows its progress."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from training.elephas import Mode
from training.fit import Curves
from training.recipes import Recipe


@dataclass(frozen=True)
class Options:
    """The choices of a user, as `sightstream train` explains them; None takes the recipe's own."""

    recipe: str
    network: str | None = None
    name: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    workers: int = 2
    mode: Mode = "synchronous"
    seed: int = 0
    promote: bool = True
    judge: Literal["held-out", "live"] = "held-out"
    allow_unreadable: bool = False
    featuriser: str | None = None
    weights: str | None = None
    head: Literal["logistic", "elephas"] = "logistic"
    optimise: bool = False

    def used(self, recipe: Recipe) -> dict[str, Any]:
        """The settings that decide on the result of a training with this recipe."""
        silent = {"name", "promote", "judge", "allow_unreadable", "optimise"}
        silent |= {"head"} if recipe.network else set()
        return {
            **{k: v for k, v in asdict(self).items() if v is not None and k not in silent},
            "epochs": self.epochs or recipe.epochs,
            "batch_size": self.batch_size or recipe.batch_size,
            "learning_rate": recipe.learning_rate,
        }


@dataclass(frozen=True)
class Progress:
    """Follows a training."""

    on_step: Callable[[str], None]  # gets a sentence as each step begins
    on_round: Callable[[int, int, Curves], None]  # gets epochs done, all epochs, curves so far
