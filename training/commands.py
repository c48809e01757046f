"""The command line of training: `sightstream train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightstream import options, terminal

if TYPE_CHECKING:
    from sightstream.config import Settings
    from training.fit import Curves
    from training.recipes import Recipe
    from training.train import Trained


def register(app: typer.Typer) -> None:
    """Adds the commands of this package."""
    app.command()(train)


def train(
    recipe: Annotated[str, typer.Argument(help="What to train: starter.")],
    data: Annotated[
        Path | None, typer.Option(help="A folder that holds a folder of images for each class.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Rounds of Elephas [the recipe's own].")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Spark partitions that train at once.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Of the split, the weights, the order.")] = 0,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Trains a model with Elephas on Spark, and registers it.

    It is evaluated on images that it never saw, and promoted when the registry has no champion
    or it is not worse. A running stream takes a new champion by itself.

    Example: sightstream train starter --epochs 8 --seed 1
    """
    from training import recipes

    chosen = recipes.find(recipe)
    settings = options.settings(home)
    with terminal.chatter_to(settings.logs / "train.log"):
        trained = _with_progress(
            chosen, settings, data=data, epochs=epochs or chosen.epochs, workers=workers, seed=seed
        )
        version = trained.version
        if as_json:
            terminal.out.print_json(
                data={
                    "model": version.name,
                    "version": version.number,
                    "promoted": trained.promoted,
                    "reason": trained.reason,
                    "metrics": version.metrics,
                }
            )
            return
        verb = "is the champion now" if trained.promoted else "was not promoted"
        terminal.err.print(
            f"{version.name} version {version.number} {verb} ({trained.reason}): accuracy "
            f"{version.metrics['accuracy']:.4f} on {version.metrics['test_images']:.0f} unseen ones"
        )


def _with_progress(
    recipe: Recipe, settings: Settings, *, data: Path | None, epochs: int, workers: int, seed: int
) -> Trained:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from training.train import train as run

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[seen]}"),
    )
    with Progress(*columns, console=terminal.err) as progress:
        bar = progress.add_task(recipe.name, total=epochs, seen="")

        def on_epoch(epoch: int, curves: Curves) -> None:
            seen = f"loss {curves.loss[-1]:.3f}, validation accuracy {curves.val_accuracy[-1]:.4f}"
            progress.update(bar, completed=epoch, seen=seen)

        return run(
            recipe, settings, data=data, epochs=epochs, workers=workers, seed=seed,
            on_step=lambda step: progress.update(bar, description=f"{recipe.name}: {step}"),
            on_epoch=on_epoch,
        )  # fmt: skip
