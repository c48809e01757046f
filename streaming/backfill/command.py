"""The command `sightstream backfill`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightstream import terminal
from sightstream.cli import extras, options
from sightstream.errors import EnvironmentUnfitError

if TYPE_CHECKING:
    from streaming.backfill.job import OnStep, Report

_LEFT = {
    "gone": "have no image any more",
    "repeated": "have the event_id of another one",
    "classified": "have a row already",
}
"""What becomes of images that are left out, by the reasons of a plan."""


def backfill(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder, uri such as s3://photos/2025/, Delta or Parquet table, or predictions."
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(help="NAME, NAME@ALIAS or NAME@NUMBER [the champion of the only one]."),
    ] = None,
    into: Annotated[
        str, typer.Option(help="Table that gets the rows: a name, a folder or a uri.")
    ] = "predictions",
    where: Annotated[
        str, typer.Option(help="Condition in DuckDB's SQL on the rows or files [all].")
    ] = "",
    master: options.Master = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Classify images that are there already, each once.

    The same command again goes on where it was ended, and adds nothing that is there already. It
    works beside a running stream. Exit code 1 when it was stopped before its end.

    Example: sightstream backfill predictions --model leaf@2 --into again --where "label = 'rust'"
    """
    from streaming.backfill import job

    extras.tell_of_decoder()
    settings = options.settings(home, master=master)
    terminal.log_to(settings.logs / "backfill.log")
    with terminal.chatter_to(settings.logs / "libraries.log"), _progress() as (on_phase, on_step):
        wanted = job.wish(settings, source, model or "", into, where)
        report = job.run(settings, wanted, on_phase, on_step)
    _print(report, as_json=as_json)
    if not report.complete:
        raise typer.Exit(1)
    if report.unreadable:
        raise EnvironmentUnfitError(
            f"{len(report.unreadable)} folder(s) could not be looked into; let this user read them"
        )


@contextmanager
def _progress() -> Iterator[tuple[Any, OnStep]]:
    """Yield what shows a phase, and what moves a bar with the time left."""
    from rich import progress as rich

    def on_phase(text: str) -> None:
        bar.update(task, description=text)

    def on_step(done: int, images: int) -> None:
        bar.update(task, description="classifying", completed=done, total=images)

    columns = (
        rich.TextColumn("{task.description}"), rich.BarColumn(), rich.MofNCompleteColumn(),
        rich.TimeElapsedColumn(), rich.TimeRemainingColumn(),
    )  # fmt: skip
    screen = terminal.err
    with rich.Progress(
        *columns, console=screen, disable=not screen.is_terminal, transient=True,
        speed_estimate_period=600, **terminal.OURS,
    ) as bar:  # fmt: skip
        task = bar.add_task("starting", total=None)
        yield on_phase, on_step


def _print(report: Report, *, as_json: bool) -> None:
    done, plan = report.done, report.plan
    for name, why in report.unreadable.items():
        terminal.say(f"{name} {why}")
    if as_json:
        terminal.out.print_json(data={
            "table": report.table, "model": plan.model, "images": plan.images,
            "before": report.before, "rows": done.rows, "rejected": done.rejected,
            "left_out": plan.left, "complete": report.complete,
            "seconds": round(done.seconds, 3),
        })  # fmt: skip
        return
    for why, number in plan.left.items():
        terminal.say(f"{number} {_LEFT[why]}, and are left out")
    rate = f", {done.images / done.seconds:,.0f} a second" if done.seconds else ""
    terminal.say(
        f"{report.before + done.images} of {plan.images} images are done; {done.rows} rows went "
        f"into {report.table}, {done.rejected} of them rejected{rate}"
    )
    if not report.complete:
        terminal.say("the same command goes on")
