"""Commands on the tables of a home: `sightstream query`, `tail` and `label`."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightstream import terminal
from sightstream.cli import options
from sightstream.errors import ConfigError, InputError, SightstreamError

if TYPE_CHECKING:
    from sightstream.config import Settings
    from sightstream.tables.labels import Label, Labels

_SHOW_EVENTS = 'sightstream query "select event_id, original_name, label from predictions"'


def query(
    sql: Annotated[str, typer.Argument(help="A statement in DuckDB's SQL.")],
    format: Annotated[str, typer.Option(help="Output format: table, csv or json.")] = "table",
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Query the tables with SQL, also while the stream runs.

    predictions has one row for each image. dead_letters are the rows of rejected images. labels
    are the labels that people gave to images, by event_id. Tables of backfills have their names.

    Example: sightstream query "select label, count(*) as images from predictions group by label"
    """
    from sightstream.tables.query import query as ask

    if format not in {"table", "csv", "json"}:
        raise ConfigError(f"--format is table, csv or json, not {format!r}")
    settings = options.settings(home)
    answer = ask(settings.predictions, sql, labels=settings.labels, tables=settings.tables)
    try:
        rows = [list(row) for row in zip(*(c.to_pylist() for c in answer.columns), strict=True)]
    except (OverflowError, ValueError) as error:  # of years that Python's dates do not know
        raise InputError(f"a value cannot be shown ({error}); cast it: ::varchar") from None
    if as_json or format == "json":
        terminal.out.print_json(data=answer.to_pylist(), default=str)
    elif format == "csv":
        import csv
        import sys

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(answer.column_names)
        writer.writerows(rows)
    else:
        terminal.table(answer.column_names, rows)


def tail(home: options.Home = None, as_json: options.Json = False) -> None:
    """Print new rows as they are committed, until Ctrl-C.

    Example: sightstream tail --json | jq .label
    """
    from sightstream.tables.predictions import follow

    try:
        for rows in follow(options.settings(home).predictions):
            for row in rows:
                if as_json:
                    line = json.dumps(row, default=str)
                else:
                    answer = row["label"] or row["error_code"]
                    score = "" if row["score"] is None else f"{row['score']:.4f}"
                    when = f"{row['processed_at'].astimezone():%H:%M:%S}"
                    line = f"{when}  {row['original_name']}  {answer}  {score}"
                terminal.line(line)
    except KeyboardInterrupt:
        return


def label(
    event_id: Annotated[str | None, typer.Argument(help="event_id of the image.")] = None,
    label: Annotated[str | None, typer.Argument(help="What the image shows.")] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Undo the last change of its label.")
    ] = False,
    csv: Annotated[
        Path | None,
        typer.Option(help="CSV file with lines event_id,label; all are written or none."),
    ] = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Label an image: correct or confirm the answer of the model.

    The newest label of an image counts. Its history is kept, so that an undo can be undone.

    Example: sightstream label 01a1fe0c-b2f5-7f93-9ba7-f629a851ac89 "red panda"
    """
    from sightstream.tables.labels import Labels, from_csv, user

    settings = options.settings(home)
    labels = Labels(settings.labels)
    if event_id and undo and label is None and csv is None:
        rows = [labels.undo(event_id, user())]
    elif event_id and label is not None and not undo and csv is None:
        rows = _put(settings, labels, {event_id: label}, {event_id: ""})
    elif csv and event_id is None and not undo:
        pairs, lines = from_csv(csv)
        places = {each: f"{csv} line {number}: " for each, number in lines.items()}
        rows = _put(settings, labels, pairs, places)
    else:
        raise InputError("give an event id and a label, an event id and --undo, or --csv FILE")
    if as_json:
        terminal.out.print_json(data=[vars(row) for row in rows], default=str)
    elif csv:
        terminal.say(f"{len(rows)} labels were written")
    else:
        said = "has no label" if rows[0].label is None else f"is {rows[0].label!r}"
        terminal.say(f"{rows[0].event_id} {said} now")


def _put(
    settings: Settings, labels: Labels, pairs: dict[str, str], places: dict[str, str]
) -> list[Label]:
    """Labels events; an error about one that does not exist begins with its entry in `places`."""
    from sightstream.tables.labels import user
    from sightstream.tables.predictions import models_of

    models = models_of(settings.predictions, pairs)
    for event_id in pairs:
        if event_id not in models:
            unknown = f"{places[event_id]}there is no event {event_id!r} in the predictions"
            raise InputError(f"{unknown}; see them with: {_SHOW_EVENTS}")
    rows = labels.put(pairs, user())
    asked = {(model, pairs[event_id]) for event_id, model in models.items() if model}
    for model, label in _unknown(settings, asked):
        terminal.say(f"{label!r} is a label that {model} does not know yet; refresh will extend it")
    return rows


def _unknown(settings: Settings, asked: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pairs of model and label where the card of the model's champion lacks the label."""
    from sightstream.models.registry import Registry
    from sightstream.tables import predictions

    # A label that the model has given is known; so MLflow, whose import takes seconds, can wait.
    answers = predictions.ask(settings.predictions, "SELECT DISTINCT model, label FROM predictions")
    asked = asked - set(zip(*(column.to_pylist() for column in answers.columns), strict=True))
    registry = Registry(settings.registry_address)
    known = {}
    for model in {model for model, _ in asked}:
        with suppress(SightstreamError):
            known[model] = registry.card(registry.version(model)).labels
    return sorted(pair for pair in asked if pair[1] not in known.get(pair[0], (pair[1],)))
