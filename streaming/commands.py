"""The command line of the stream: `sightstream run`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from sightstream import terminal
from sightstream.cli import options

if TYPE_CHECKING:
    from sightstream.config import Settings
    from streaming.job import Stream
    from streaming.observe.screen import Screen


def register(app: typer.Typer) -> None:
    """Adds the commands of this package."""
    app.command()(run)
    app.command()(status)


def run(
    once: Annotated[
        bool, typer.Option("--once", help="Classify what is there, and leave.")
    ] = False,
    source: Annotated[
        list[str] | None,
        typer.Option(help="Where images come from: folder or kafka; twice for both [folder]."),
    ] = None,
    topic: Annotated[
        str | None, typer.Option(help="The Kafka topic that images come from [images].")
    ] = None,
    predictions_topic: Annotated[
        str | None, typer.Option(help="A Kafka topic for each new row, as JSON.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The registered model to serve [starter].")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="What runs it: auto, onnx or keras [auto].")
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
    """Classifies what is dropped into the inbox, or comes from Kafka, until Ctrl-C.

    Each image becomes one row of the predictions table. The first run trains the starter model,
    and drops a handful of handwritten digits itself.

    Example: sightstream run --source folder --source kafka --predictions-topic predictions
    """
    from sightstream.errors import ModelNotFoundError

    settings = options.settings(
        home, master=master, model=model, engine=engine, metrics_port=metrics_port,
        source=source or None, kafka_topic=topic, kafka_predictions_topic=predictions_topic,
    )  # fmt: skip
    terminal.log_to(settings.logs / "sightstream.log")
    with terminal.chatter_to(settings.logs / "libraries.log"):
        try:
            _run(settings, once=once, as_json=as_json)
        except ModelNotFoundError:
            if settings.model != "starter":
                raise
            _train_starter(settings)
            _run(settings, once=once, as_json=as_json)


def status(
    source: Annotated[
        list[str] | None, typer.Option(help="folder or kafka; twice for both [folder].")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="The Kafka topic [images].")] = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Shows how the home folder is doing, whether or not a stream runs.

    Example: sightstream status --source kafka
    """
    from streaming.observe.status import RECENT
    from streaming.observe.status import status as look

    found = look(options.settings(home, source=source or None, kafka_topic=topic))
    if as_json:
        import json

        terminal.out.print_json(json.dumps(vars(found), default=str))
        return
    newest = f"{found.newest.astimezone():%Y-%m-%d %H:%M:%S}" if found.newest else "none yet"
    lines = {
        "stream": "running" if found.running else "not running",
        "model": found.model,
        "rows today": f"{found.rows_today}, {found.rejected_today} of them rejected",
        "rate": f"{found.rows_per_minute:.1f} rows a minute, in the last {RECENT} minutes",
        "newest row": newest,
        "folder": f"{found.behind} images behind",
        **{
            f"partition {number}": f"{count} messages behind, the oldest by {seconds:.1f} s"
            for number, (count, seconds) in found.lag.items()
        },
        **({"Kafka": found.kafka} if found.kafka else {}),
    }
    for name, text in lines.items():
        terminal.line(f"{name:>12}  {terminal.printable(text)}")


def _run(settings: Settings, *, once: bool, as_json: bool) -> None:
    from streaming.job import running
    from streaming.observe.screen import Screen

    screen = Screen(as_json=as_json)
    starting = terminal.err.status("starting Spark and loading the model")
    starting.start()
    try:
        with running(settings, screen.add) as stream:
            starting.stop()
            stop = terminal.stop_on_signals()
            if once:
                taken = stream.drain()
                stream.start()
                stream.finish(stop)
                terminal.err.print(f"{taken} images taken, {stream.behind} of them left behind")
            else:
                _follow(settings, stream, screen, stop)
    finally:
        starting.stop()
        screen.close()


def _follow(settings: Settings, stream: Stream, screen: Screen, stop: Event) -> None:
    screen.open(settings, stream)
    stream.start()
    stream.watch(stop)
    _drop_samples(settings)
    while not stop.wait(0.2) and not screen.gone:
        stream.tend()
        screen.refresh()
    terminal.err.print("finishing the current micro-batch")


def _train_starter(settings: Settings) -> None:
    """Trains in a process of its own, so that TensorFlow's memory goes with it."""
    terminal.err.print("no model yet: training the starter model on handwritten digits")
    command = [sys.executable, "-m", "sightstream", "--home", str(settings.root), "train"]
    screen = terminal.err.file
    done = subprocess.run([*command, settings.model], stdout=screen, stderr=screen)
    if done.returncode:
        raise typer.Exit(done.returncode)


def _drop_samples(settings: Settings) -> None:
    """The first images of a first run; moved, so that no other run drops them again."""
    samples: Path = settings.root / "starter" / "samples"
    if settings.model != "starter" or "folder" not in settings.source or not samples.is_dir():
        return
    dropped = settings.inbox / samples.name
    dropped.mkdir(exist_ok=True)
    for image in samples.iterdir():  # a move of the folder would not be the files' time of arrival
        image.rename(dropped / image.name)
    samples.rmdir()
