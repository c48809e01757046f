"""The commands of training: `sightstream train`, `evaluate`, `refresh` and `models import`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sightstream import terminal
from sightstream.cli import extras, models, options
from training import import_command

if TYPE_CHECKING:
    from sightstream.config import Settings
    from sightstream.models.registry import Version
    from training.live import Judged
    from training.options import Progress
    from training.publish import Trained

Data = Annotated[
    Path | None, typer.Option(help="Folder with one subfolder of images for each class.")
]
Workers = Annotated[int, typer.Option(min=1, help="Number of Spark partitions that train at once.")]
Promote = Annotated[
    bool, typer.Option(help="Make it the champion if it is not worse, else the challenger.")
]
AllowUnreadable = Annotated[
    bool, typer.Option(help="Continue when over 5 % of the images cannot be read.")
]


_NEEDED = ("tensorflow", "elephas", "sklearn", "matplotlib")


def register(app: typer.Typer) -> None:
    """Adds the commands of this package to the command line."""
    app.command()(train)
    app.command()(evaluate)
    app.command()(refresh)
    models.app.command("import")(import_command.import_)


def train(
    recipe: Annotated[
        str,
        typer.Argument(help="Recipe: starter, leaf, digits, xray, cars, skin, or a Python file."),
    ],
    data: Data = None,
    test: Annotated[
        Path | None, typer.Option(help="Folder like --data with the test images.")
    ] = None,
    split_file: Annotated[
        Path | None, typer.Option(help="CSV file with path, label, split; replaces --data.")
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(help="Network of the recipe, such as mlp, cnn, resnet [the recipe's]."),
    ] = None,
    featuriser: Annotated[
        str | None,
        typer.Option(
            help="Pretrained network: NAME[@ALIAS] of a registered model, which takes the place "
            "of the recipe's network; squeezenet, or one of keras.applications."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Weights of squeezenet or of keras.applications: a file, or imagenet."),
    ] = None,
    head: Annotated[
        Literal["logistic", "elephas"],
        typer.Option(help="Classifier that is trained on the features."),
    ] = "logistic",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Number of epochs [the recipe's].")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images in a batch [the recipe's].")
    ] = None,
    workers: Workers = 2,
    mode: Annotated[
        Literal["synchronous", "asynchronous", "hogwild"], typer.Option(help="Mode of Elephas.")
    ] = "synchronous",
    seed: Annotated[
        int,
        typer.Option(
            min=0, max=options.SEEDS, help="Seed of the split, the weights and the order."
        ),
    ] = 0,
    optimise: Annotated[
        bool, typer.Option(help="Look for a faster engine that answers as well.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="Name of the registered model [the recipe's].")
    ] = None,
    promote: Promote = True,
    allow_unreadable: AllowUnreadable = False,
    master: options.Master = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Train a model with Elephas on Spark, and register it.

    The model is evaluated on test images, and promoted when there is no champion or it is not
    worse than the champion. A running stream loads a new champion by itself. Ctrl-C during the
    training keeps the best epoch so far.

    Example: sightstream train leaf --data leaves/ --epochs 30
    """
    from training import recipes
    from training.datasets import Source
    from training.options import Options
    from training.train import train as run

    extras.require(*_NEEDED)
    chosen = recipes.find(recipe, network)
    source = Source((data,) if data else (), test, split_file)
    wanted = Options(
        recipe=str(Path(recipe).absolute()) if recipe.endswith(".py") else recipe,
        network=network, name=name, epochs=epochs, batch_size=batch_size, workers=workers,
        mode=mode, seed=seed, promote=promote, allow_unreadable=allow_unreadable,
        featuriser=featuriser, weights=weights, head=head, optimise=optimise,
    )  # fmt: skip
    settings = options.settings(home, master=master, model=name)
    with _progress(settings, name or chosen.name) as progress:
        trained = run(chosen, settings, source, wanted, progress)
    _print_trained(trained, as_json=as_json)
    if not as_json:
        terminal.say(f"serve it with: {_serving(trained.version, options.flag(home))}")


def evaluate(
    model: Annotated[str, typer.Argument(help="Model: NAME, NAME@ALIAS or NAME@NUMBER.")],
    data: Annotated[Path, typer.Option(help="Folder with one subfolder of images for each class.")],
    allow_unreadable: AllowUnreadable = False,
    master: options.Master = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Evaluate a registered model on labelled images.

    Its answers are those that the stream would give. Figures, pictures and a report page are
    written to the home folder and to the MLflow run of the model.

    Example: sightstream evaluate leaf@champion --data leaves-of-may/
    """
    from training.compare import evaluate as run

    extras.require(*_NEEDED)
    settings = options.settings(home, master=master)
    with _progress(settings, model) as progress:
        evaluation, page = run(settings, model, data, progress.on_step, allow_unreadable)
    if as_json:
        terminal.out.print_json(data={**evaluation.as_dict(), "report": str(page)})
        return
    figures = evaluation.metrics()
    shown = ("accuracy", "f1_macro", "precision_macro", "recall_macro", "fpr_macro",
             "top3_accuracy", "ece")  # fmt: skip
    for key in shown:
        terminal.out.print(f"{key:>16}  {figures[key]:.4f}", highlight=False)
    terminal.say(f"look at {page}")


def refresh(
    name: Annotated[str, typer.Argument(help="Name of the registered model.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with new images, one subfolder for each class [labels only]."),
    ] = None,
    every: Annotated[
        str | None, typer.Option(help="Repeat at this interval, such as 30s, 10m, 1h.")
    ] = None,
    when_new: Annotated[
        int, typer.Option(min=1, help="Minimum number of new labelled images.")
    ] = 1,
    margin: Annotated[
        float, typer.Option(min=0, max=1, help="Largest allowed loss of F1 in any class.")
    ] = 0.05,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Number of epochs [a third of the training's].")
    ] = None,
    workers: Workers = 2,
    seed: Annotated[
        int, typer.Option(min=0, max=options.SEEDS, help="Seed of the split and the order.")
    ] = 0,
    promote: Promote = True,
    judge: Annotated[
        Literal["held-out", "live"],
        typer.Option(help="Images that decide: those held out, or the stream's as well."),
    ] = "held-out",
    over: Annotated[
        int, typer.Option(min=1, help="Images of the stream that --judge live decides on.")
    ] = 1000,
    recipe: Annotated[
        Path | None,
        typer.Option(help="Your recipe file; with a registry on a server it must be named."),
    ] = None,
    master: options.Master = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Train the champion further on images that were labelled since.

    Champion and challenger are evaluated on the same images, which neither has seen. The
    challenger is promoted when its macro F1 is not lower and no class loses more than the margin.
    A running stream loads it by itself.

    With --judge live, and a stream that runs with --shadow, the challenger must also agree with the
    champion on 95 % of the stream's images, or be right more often on those that people labelled.

    Example: sightstream refresh leaf --data new-leaves/ --every 1h --when-new 200
    """
    from training import refresh as module
    from training.live import Judged

    extras.require(*_NEEDED)
    settings = options.settings(home, master=master)
    wanted = module.Wish(
        data, when_new, margin, epochs, workers, seed, promote, judge, over,
        str(recipe) if recipe else None,
    )  # fmt: skip
    for _ in module.times(every):
        with _progress(settings, name) as progress:
            trained = module.refresh(name, settings, wanted, progress)
        if isinstance(trained, Judged):
            _print_judged(trained, as_json=as_json)
        elif trained:
            _print_trained(trained, as_json=as_json)
        else:
            waits = "; no challenger waits to be judged" * (judge == "live")
            few = f"fewer than {when_new}" if when_new > 1 else "no"
            terminal.say(f"{name}: {few} new labelled images{waits}; nothing done")


@contextmanager
def _progress(settings: Settings, title: str) -> Iterator[Progress]:
    """A progress bar on the screen, while the output of libraries goes to logs/train.log."""
    from rich import progress as rich

    from training.options import Progress

    def on_round(done: int, epochs: int, curves: Any) -> None:
        # Asynchronous workers report no loss.
        loss = f"loss {curves.loss[-1]:.3f}, " if math.isfinite(curves.loss[-1]) else ""
        seen = f"{loss}validation accuracy {curves.val_accuracy[-1]:.4f}"
        bar.update(task, completed=done, total=epochs, seen=seen)
        show(f"pass {done} of {epochs}: {seen}")

    def on_step(step: str) -> None:
        bar.update(task, description=f"{title}: {step}")
        show(step)

    def show(text: str) -> None:
        if not screen.is_terminal:
            terminal.say(f"{title}: {text}")

    columns = (
        rich.TextColumn("{task.description}"), rich.BarColumn(), rich.MofNCompleteColumn(),
        rich.TimeElapsedColumn(), rich.TimeRemainingColumn(),
        rich.TextColumn("{task.fields[seen]}"),
    )  # fmt: skip
    screen = terminal.err
    with (
        terminal.chatter_to(settings.logs / "train.log"),
        rich.Progress(
            *columns, console=screen, disable=not screen.is_terminal, **terminal.OURS
        ) as bar,
    ):
        task = bar.add_task(title, total=None, seen="")
        yield Progress(on_step, on_round)


def _serving(version: Version, home: str) -> str:
    """The command that serves a version; that of a challenger makes it the champion."""
    if "champion" in version.aliases:
        return f"sightstream run --model {version.name}{home}"
    return f"sightstream models promote {version.name} {version.number}{home}"


def _print_judged(judged: Judged, *, as_json: bool) -> None:
    version, promoted = judged.version, judged.promoted
    if as_json:
        terminal.out.print_json(data={
            "model": version.name, "version": version.number, "promoted": promoted,
            "reason": judged.reason,
        })  # fmt: skip
        return
    verb = {True: "is the champion now", False: "was not promoted", None: "waits"}[promoted]
    terminal.say(f"{version.name} version {version.number} {verb}: {judged.reason}")


def _print_trained(trained: Trained, *, as_json: bool) -> None:
    version = trained.version
    if as_json:
        left_out = [
            {"path": terminal.printable(e.path), "fault": e.fault} for e in trained.left_out
        ]
        terminal.out.print_json(data={
            "model": version.name, "version": version.number, "promoted": trained.promoted,
            "reason": trained.reason, "metrics": version.metrics, "report": str(trained.report),
            "left_out": left_out, "copies": trained.copies[0],
            "copies_on_several_sides": trained.copies[1],
        })  # fmt: skip
        return
    verb = "is the champion now" if trained.promoted else "was not promoted"
    figures = version.metrics
    if trained.left_out:
        terminal.say(f"{len(trained.left_out)} images were left out:")
        for e in trained.left_out[:5]:
            terminal.say(f"  {e.path}: {e.fault}")
    found, spread = trained.copies
    if found:
        terminal.say(
            f"{found} images are nearly the same as others; those are on one side of the split"
            + (f", but for {spread}, whose class has too few others" if spread else "")
        )
    terminal.say(
        f"{version.name} version {version.number} {verb} ({trained.reason}): accuracy "
        f"{figures['accuracy']:.4f}, macro F1 {figures['f1_macro']:.4f} on "
        f"{figures['test_images']:.0f} unseen images"
    )
    terminal.say(f"look at {trained.report}")
