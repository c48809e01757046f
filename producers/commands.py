"""The commands of the producers: `sightstream drop`, `publish`, `watch` and `load`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sightstream import terminal
from sightstream.cli import extras, options
from sightstream.errors import InputError

if TYPE_CHECKING:
    from producers.topic import Destination
    from sightstream.config import Settings

Paths = Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")]
FASTEST = 1e6
"""Images a second, at most, so that their number stays one that Python can count to."""

Rate = Annotated[
    float | None,
    typer.Option(min=0.001, max=FASTEST, help="Images a second [as many as possible]."),
]
Topic = Annotated[str | None, typer.Option(help="Kafka topic that images are sent to [images].")]
Servers = Annotated[
    str | None,
    typer.Option(help="Bootstrap servers of Kafka, separated by commas [localhost:9092]."),
]
Timeout = Annotated[
    float,
    typer.Option(
        min=1, max=86_400, help="Seconds that the broker may be unreachable, or take for an image."
    ),
]
CreateTopic = Annotated[
    bool, typer.Option("--create-topic", help="Create the topic if it does not exist.")
]
Partitions = Annotated[
    int, typer.Option(min=1, max=100_000, help="Number of partitions of a topic that is created.")
]


def register(app: typer.Typer) -> None:
    """Adds the commands of this package to the command line."""
    app.command()(drop)
    app.command()(publish)
    app.command()(watch)
    app.command()(load)


def drop(
    paths: Paths,
    rate: Rate = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Copy images into the inbox.

    Each appears there at once and whole. Folders keep their structure. The path below the inbox
    becomes original_name in the row.

    Example: sightstream drop photos/ --rate 10
    """
    from producers import inbox

    extras.tell_of_decoder()
    settings = options.settings(home)
    inbox.require_apart(paths, settings.inbox)
    total, dropped = sum(1 for _ in inbox.find(paths, settings.ignore)), 0
    with (
        inbox.dropping(settings.inbox, settings.staging) as drop_one,
        _bar("dropping", total) as (advance, _),
    ):
        for file, name in inbox.paced(inbox.find(paths, settings.ignore), rate):
            drop_one(file, name)
            advance()
            dropped += 1
    if as_json:
        terminal.out.print_json(data={"dropped": dropped, "inbox": str(settings.inbox)})
    else:
        terminal.say(f"{dropped} images are in {settings.inbox}")


def publish(
    images: Annotated[
        list[str] | None,
        typer.Argument(help="Image files, folders of them, or uris such as s3://bucket/photos/."),
    ] = None,
    topic: Topic = None,
    rate: Rate = None,
    key: Annotated[
        Literal["id", "name", "path", "hash"],
        typer.Option(
            help="Key of the messages; with hash, equal pictures have one id and one row a day."
        ),
    ] = "id",
    claim_check: Annotated[
        Literal["auto", "always", "never"],
        typer.Option(
            help="Which images are sent as their uri; auto: those too large for the topic."
        ),
    ] = "auto",
    create_topic: CreateTopic = False,
    partitions: Partitions = 4,
    timeout: Timeout = 60,
    servers: Servers = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Publish images to a Kafka topic.

    All replicas acknowledge each of them. Folders keep their structure: the path from the folder's
    name on becomes original_name in the row. An image that is too large for the topic is sent as
    its uri if it lies below one of kafka_uri_prefixes; images of an object store always are. Exit
    code 0 when all images were acknowledged, 1 when one was refused, 7 when the broker stayed
    unreachable. Without images, --create-topic makes the topic alone.

    Example: sightstream publish photos/ --topic images --create-topic --rate 10
    """
    from producers.publish import Sent, find
    from producers.publish import publish as publish_all

    extras.require("kafka")
    settings = options.settings(home, kafka_topic=topic, kafka_servers=servers)
    if not images and not create_topic:
        raise InputError("give images to publish, or --create-topic to make a topic alone")
    images = images or []
    sent = Sent(sum(1 for _ in find(images, settings.ignore)))
    try:
        with _bar("publishing", sent.images) as (advance, _):
            publish_all(
                images, _destination(settings, timeout, partitions if create_topic else 0),
                settings.kafka_uri_prefixes, sent, notify=terminal.say, on_answer=advance,
                rate=rate, key=key, claim_check=claim_check, ignore=settings.ignore,
            )  # fmt: skip
    finally:
        if as_json:
            terminal.out.print_json(data={**vars(sent), "topic": settings.kafka_topic})
        else:
            terminal.say(
                f"{sent.acknowledged} of {sent.images} images are in the topic "
                f"{settings.kafka_topic}, {sent.claim_checks} of them as their uri; "
                f"{sent.refused} were refused; {sent.acknowledged / max(sent.seconds, 1e-9):.0f} "
                "a second"
            )
    if not sent.complete:
        raise typer.Exit(1)


def watch(
    folder: Annotated[Path, typer.Argument(help="Folder that images are dropped into.")],
    topic: Topic = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove published files instead of keeping them.")
    ] = False,
    create_topic: CreateTopic = False,
    partitions: Partitions = 4,
    timeout: Timeout = 600,
    servers: Servers = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Publish images that are dropped into a folder, until Ctrl-C.

    A file is published once it is complete, and moved to the subfolder published once it is
    acknowledged. After a crash it is sent again under the same event id. Exit code 7 when the
    broker stayed unreachable; the next start continues.

    Example: sightstream watch photos/ --topic images
    """
    from producers.watch import Watch

    extras.require("kafka")
    settings = options.settings(home, kafka_topic=topic, kafka_servers=servers)
    watched = Watch(
        folder, _destination(settings, timeout, partitions if create_topic else 0),
        settings.kafka_uri_prefixes, settings.acceptance, keep=not remove, notify=terminal.say,
    )  # fmt: skip
    stop = terminal.stop_on_signals()
    terminal.say(
        f"publishing what is dropped into {folder} to {settings.kafka_topic}; Ctrl-C ends it"
    )
    try:
        watched.run(stop)
    finally:
        if as_json:
            data = {"published": watched.published, "topic": settings.kafka_topic}
            terminal.out.print_json(data=data)
        else:
            terminal.say(f"{watched.published} images are in the topic {settings.kafka_topic}")


def load(
    target: Annotated[
        Literal["inbox", "kafka"], typer.Option(help="Where images are sent.")
    ] = "inbox",
    rate: Annotated[float, typer.Option(min=0.001, max=FASTEST, help="Images a second.")] = 10,
    duration: Annotated[str, typer.Option(help="Duration, such as 60s, 10m, 1h.")] = "60s",
    mix: Annotated[
        str,
        typer.Option(
            help="Shares of good and bad images; bad: empty, truncated, noise, too large."
        ),
    ] = "good=95,bad=5",
    images: Annotated[
        Path | None, typer.Option(help="Folder of good images [the digits of starter].")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the bad images and of the order.")] = 0,
    topic: Topic = None,
    timeout: Annotated[
        float,
        typer.Option(
            min=1,
            max=86_400,
            help="Seconds without any answer after which missing images are lost.",
        ),
    ] = 60,
    servers: Servers = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Send images to a running stream and report how they fare.

    Each image is looked up in the predictions table of this home. The latency is the time from
    the file's appearance in the inbox, or the broker's acknowledgement, to the row as this
    process reads it. Exit code 1 when an image was lost or has two rows.

    Example: sightstream load --target kafka --rate 50 --duration 60s --mix good=95,bad=5
    """
    from itertools import islice

    from producers import inbox
    from producers import load as loads

    settings = options.settings(home, kafka_topic=topic, kafka_servers=servers)
    shares, seconds = loads.shares(mix), options.seconds("--duration", duration)
    folder = images or settings.root / "starter" / "digits"
    good = [file for file, _ in islice(inbox.find([folder], settings.ignore), 1000)]
    with _bar("answered", max(1, round(rate * seconds))) as (_, reach):
        report = loads.load(
            _destination(settings, timeout) if target == "kafka"
            else inbox.dropping(settings.inbox, settings.staging),
            settings.predictions, good, shares, rate=rate, seconds=seconds,
            largest=settings.max_image_bytes, seed=seed, timeout=timeout, notify=terminal.say,
            on_answers=reach,
        )  # fmt: skip
    if as_json:
        terminal.out.print_json(data=vars(report))
    else:
        spread = ", ".join(f"{name} {value:.3f} s" for name, value in report.latency.items())
        terminal.say(
            f"{report.sent} images sent in {report.seconds:.1f} s, {report.unsent} not taken; "
            f"{report.answered} answered: {report.ok} ok, {report.rejected} rejected; "
            f"{report.lost} lost, {report.doubled} doubled; latency {spread or 'unknown'}"
        )
    if not report.clean:
        raise typer.Exit(1)


def _destination(settings: Settings, timeout: float, partitions: int = 0) -> Destination:
    from producers.topic import Destination

    return Destination(
        settings.kafka, settings.kafka_topic, timeout, partitions, settings.max_image_bytes
    )


@contextmanager
def _bar(what: str, total: int) -> Iterator[tuple[Callable[[], None], Callable[[int], None]]]:
    """Shows a progress bar; yields functions that advance it by one, and to a number."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=terminal.err, disable=not terminal.err.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task), lambda done: bar.update(task, completed=done)
