"""The commands of the stream: `sightstream run` and `status`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from sightstream import terminal
from sightstream.cli import extras, options
from streaming.backfill.command import backfill

if TYPE_CHECKING:
    from sightstream.config import Settings
    from streaming.job import Stream
    from streaming.observe.news import News
    from streaming.observe.screen import Screen

Sources = Annotated[
    list[str] | None,
    typer.Option("--source", help="Source of images: folder or kafka; twice for both [folder]."),
]
Inbox = Annotated[
    str | None,
    typer.Option(help="Bucket that images come from: s3://BUCKET/FOLDER/ [the home's inbox]."),
]
Topic = Annotated[str | None, typer.Option(help="Kafka topic of images [images].")]


TRAINING = "training"
"""Name of the lock, in a home folder, that a first run holds while it trains the starter model."""


_OF_A_HOME = ("lock", TRAINING, "inbox", "registry", "predictions", "checkpoints", "images")
"""What tells a home folder from any other."""


def register(app: typer.Typer) -> None:
    """Add the commands of this package."""
    app.command()(run)
    app.command()(status)
    app.command()(backfill)


def run(
    once: Annotated[
        bool, typer.Option("--once", help="Classify the images that are there, then end.")
    ] = False,
    source: Sources = None,
    topic: Topic = None,
    predictions_topic: Annotated[
        str | None, typer.Option(help="Kafka topic that gets each new row as JSON.")
    ] = None,
    inbox: Inbox = None,
    inbox_topic: Annotated[
        str | None, typer.Option(help="Kafka topic with the bucket's S3 notifications [none].")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Registered model that classifies [the only one].")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="Engine: auto, onnx, int8, openvino, openvino-int8, openvino-bf16, keras [auto]."
        ),
    ] = None,
    shadow: Annotated[
        str | None, typer.Option(help="Challenger that answers beside it: NAME@ALIAS [none].")
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(help="Further model that answers beside it: NAME or NAME@ALIAS [none]."),
    ] = None,
    canary: Annotated[
        str | None,
        typer.Option(help="Share of images that the shadow answers for, such as 5% [0]."),
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="Port of the metrics endpoint, 0 for any free one [9108].")
    ] = None,
    master: options.Master = None,
    home: options.Home = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each new row as a line of JSON.")
    ] = False,
) -> None:
    """Classify images from the inbox or a Kafka topic, until Ctrl-C.

    Each image becomes one row of the predictions table. Where no model is registered yet, the first
    run trains the starter model and drops some handwritten digits into the inbox.

    Example: sightstream run --source folder --source kafka --predictions-topic predictions
    """
    from sightstream.errors import ModelNotFoundError

    settings = options.settings(
        home, master=master, model=model, shadow=shadow, also=also or None, canary=canary,
        engine=engine, metrics_port=metrics_port, source=source or None, kafka_topic=topic,
        kafka_predictions_topic=predictions_topic, inbox_uri=inbox,
        inbox_topic=inbox_topic,
    )  # fmt: skip
    terminal.log_to(settings.logs / "sightstream.log")
    extras.tell_of_decoder()
    with terminal.chatter_to(settings.logs / "libraries.log"):
        try:
            _run(settings, once=once, as_json=as_json)
        except ModelNotFoundError:
            from sightstream.models.registry import STARTER, Registry

            registry = Registry(settings.registry_address)
            # The registry of a home that has run is away; digits are no answer to its images.
            has_run = (settings.root / "checkpoints").exists()
            if settings.model not in ("", STARTER) or has_run or registry.names():
                raise
            _train_starter(settings)
            _run(settings, once=once, as_json=as_json)


def status(
    source: Sources = None, topic: Topic = None, inbox: Inbox = None,
    home: options.Home = None, as_json: options.Json = False,
) -> None:  # fmt: skip
    """Show the state of a home folder: model, rows, rate and lag.

    Example: sightstream status --source kafka
    """
    from sightstream.errors import InputError
    from sightstream.io import disk
    from sightstream.models.registry import Registry
    from streaming.bucket.intake import manifests_of
    from streaming.folder import stuck
    from streaming.folder.source import arrived, waiting
    from streaming.kafka import lag
    from streaming.observe import news
    from streaming.observe import status as state

    settings = options.settings(home, source=source or None, kafka_topic=topic, inbox_uri=inbox)
    if not settings.root.is_dir():
        raise InputError(
            f"there is no home folder {settings.root}; name one with --home, or make one with: "
            "sightstream run"
        )
    elsewhere = settings.registry_uri or settings.predictions_uri
    if not elsewhere and not any((settings.root / name).exists() for name in _OF_A_HOME):
        raise InputError(
            f"{settings.root} is no home folder: it has no inbox, no table and no registry; "
            "name one with --home, or make one with: sightstream run"
        )
    running = disk.is_held(settings.root)
    note = news.read(settings.stream) if running else news.Note()
    found = {
        "running": running,
        "restarts": note.restarts,
        "model": "training the starter"
        if disk.is_held(settings.root, TRAINING)
        else state.champion(Registry(settings.registry_address), settings.model),
        **state.rows(settings.predictions),
        "behind": waiting(settings.manifests, settings.checkpoint("folder"))
        + waiting(manifests_of(settings.bucket), settings.checkpoint("bucket")),
        "inbox": 0 if settings.inbox_uri else arrived(settings.inbox, settings.ignore),
        "stuck": stuck.read(settings.stuck)
        if settings.inbox_uri
        else stuck.now(settings.stuck, settings.inbox),
        **state.lag(lag.topic(settings) if "kafka" in settings.source else None),
    }
    if as_json:
        shown = {"stuck": vars(found["stuck"]), "restarts": asdict(note)["restarts"]}
        terminal.out.print_json(data=found | shown, default=str)
        return
    inbox = "bucket" if settings.inbox_uri else "folder"
    waits = f", and {found['inbox']} files in the inbox" if found["inbox"] else ""
    rate, newest = found["rows_per_minute"], found["newest"]
    lines = {
        "stream": "running" if running else "not running",
        **{f"query {name}": str(restarts) for name, restarts in note.restarts.items()},
        "model": found["model"],
        "rows today": f"{found['rows_today']}, {found['rejected_today']} of them rejected",
        "rate": f"{rate:.1f} rows a minute, in the last {state.RECENT_MINUTES} minutes",
        "newest row": f"{newest.astimezone():%Y-%m-%d %H:%M:%S}" if newest else "none yet",
        inbox: f"{found['behind']} images behind{waits}; {found['stuck']}",
        **{
            f"partition {number}": f"{count} messages behind, the oldest by {seconds:.1f} s"
            for number, (count, seconds) in found["lag"].items()
        },
        **({"Kafka": found["kafka"]} if found["kafka"] else {}),
    }
    for name, text in lines.items():
        terminal.line(f"{name:>12}  {text}")


def _run(settings: Settings, *, once: bool, as_json: bool) -> None:
    from streaming.start import starting

    with ExitStack() as stack:
        with terminal.waiting("starting Spark and loading the model"):
            session = stack.enter_context(starting(settings))
            from streaming.job import running
            from streaming.observe.news import News
            from streaming.observe.screen import Screen

            screen = Screen(as_json=as_json)
            stack.callback(screen.close)
            stream = stack.enter_context(running(settings, screen.add, session))
        stop = terminal.stop_on_signals()
        news = News(stream, screen.say, settings.stream)
        news.look()
        if once:
            for each in stream.lineup.followers:
                if not each.model:
                    terminal.say(f"{each} is not asked: {each.why}; see: sightstream models list")
            stream.drain()
            stream.start()
            stream.finish(stop, news.look)
            if stream.repeats:
                terminal.say(
                    f"{stream.repeats} of {stream.images} images came again: they have a row "
                    "already, and get no second one"
                )
            behind = stream.behind
            terminal.say(f"{stream.images + behind} images taken, {behind} of them left behind")
            tell_left(stream.left, as_json=as_json)
        else:
            _follow(settings, stream, screen, news, stop)


def tell_left(left: dict[str, str], *, as_json: bool) -> None:
    """Name the files that stay in the inbox; an error where they will until a person acts."""
    from sightstream.errors import EnvironmentUnfitError
    from sightstream.io.folder import BUSY
    from streaming.folder.stuck import NAMED, sentence

    for number, (name, why) in enumerate(left.items()):
        if as_json:
            row = {"original_name": name, "status": "left", "error_detail": f"It {why}."}
            terminal.line(json.dumps(row))
        if number < NAMED:
            terminal.say(sentence(name, why))
    if len(left) > NAMED:
        terminal.say(f"{len(left) - NAMED} more stay in the inbox")
    if away := [sentence(name, why) for name, why in left.items() if "://" in name]:
        raise EnvironmentUnfitError(
            f"{away[0]}; what was found before has its row, the rest is found by the next run"
        )
    if stuck := sum(why != BUSY for why in left.values()):
        raise EnvironmentUnfitError(
            f"{stuck} file(s) or folder(s) could not be taken; let the user that runs the stream "
            "read them and write their folders, or move them away"
        )


def tell_away(
    now: dict[str, str], before: dict[str, str], say: Callable[[str], None] = terminal.say
) -> dict[str, str]:
    """Say that an inbox is away, and that it is back; return what is away now."""
    from streaming.folder.stuck import sentence

    for name in now.keys() - before.keys():
        say(sentence(name, now[name]))
    for name in before.keys() - now.keys():
        say(f"the inbox {name} answers again")
    return now


def _follow(settings: Settings, stream: Stream, screen: Screen, news: News, stop: Event) -> None:
    screen.open(_places(settings, stream), settings.predictions, lambda: stream.behind)
    stream.start()
    stream.watch(stop)
    _drop_samples(settings, stream.champion.model.name)
    left: dict[str, str] = {}
    while not stop.wait(0.2) and not screen.gone:
        stream.tend()
        news.look()
        left = tell_away(stream.left, left, screen.say)
        screen.refresh()
    terminal.err.print("finishing the current micro-batch")


def _places(settings: Settings, stream: Stream) -> dict[str, object]:
    """Where a person finds everything, by the names that the screen shows."""
    inputs = {
        "folder": ("inbox", settings.inbox_uri or settings.inbox),
        "kafka": ("topic", f"{settings.kafka_topic} on {settings.kafka_servers}"),
    }
    others = stream.lineup.beside(stream.champion.model)
    waiting = [f"{f} later ({f.why})" for f in stream.lineup.followers if not f.model]
    return {
        **dict(inputs[source] for source in settings.source),
        "table": settings.predictions,
        "logs": settings.logs,
        "metrics": f"http://{settings.metrics_host}:{stream.metrics.port}/metrics",
        "model": stream.champion.model,
        **({"beside": ", ".join([*map(str, others), *waiting])} if others or waiting else {}),
    }


def _train_starter(settings: Settings) -> None:
    """Train in a process of its own, whose end frees the memory of TensorFlow."""
    from sightstream.io import disk
    from sightstream.models.registry import STARTER

    terminal.err.print("no model yet: training the starter model on handwritten digits")
    command = [sys.executable, "-m", "sightstream", "--home", str(settings.root), "train"]
    screen = terminal.err.file
    settings.root.mkdir(parents=True, exist_ok=True)
    with disk.locked(settings.root / TRAINING):
        done = subprocess.run([*command, STARTER], stdout=screen, stderr=screen)
    if done.returncode:
        raise typer.Exit(done.returncode)


def _drop_samples(settings: Settings, model: str) -> None:
    """Drop the first images of a first run; they are moved, so that no later run drops them."""
    from sightstream.models.registry import STARTER
    from sightstream.tables import predictions

    samples: Path = settings.root / "starter" / "samples"
    here = "folder" in settings.source and not settings.inbox_uri
    if model != STARTER or not here or not samples.is_dir():
        return
    if predictions.latest(settings.predictions, 1).num_rows:
        return  # the user's images have come first
    dropped = settings.inbox / samples.name
    dropped.mkdir(exist_ok=True)
    for image in samples.iterdir():  # a move of the folder would not be the files' time of arrival
        shutil.move(image, dropped / image.name)
    samples.rmdir()
