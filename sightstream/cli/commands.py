"""Commands that need neither Spark nor training: on models, predictions, labels, the home."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightstream import terminal
from sightstream.cli import options

if TYPE_CHECKING:
    from sightstream.config import Settings
    from sightstream.models.registry import Registry, Version
    from sightstream.models.version import Card
    from sightstream.tables.labels import Label, Labels

models_app = typer.Typer(
    no_args_is_help=True, help="Lists, shows, compares, promotes and rolls back models."
)
_SHOW_EVENTS = 'sightstream query "select event_id, original_name, label from predictions"'

_PREDICTED = ("status", "error_code", "error_detail", "top", "model", "model_version")
"""Columns of an answer that `predict` prints as JSON."""

config_app = typer.Typer(no_args_is_help=True, help="Shows the settings.")

Name = Annotated[str, typer.Argument(help="The registered model.")]


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.command()(predict)
    app.command()(query)
    app.command()(tail)
    app.command()(label)
    app.add_typer(models_app, name="models")
    app.command()(doctor)
    app.add_typer(config_app, name="config")


def predict(
    paths: Annotated[list[Path], typer.Argument(help="Images, or folders of them.")],
    top: Annotated[int, typer.Option(min=1, help="Labels to show for each image.")] = 1,
    model: Annotated[str | None, typer.Option(help="The registered model [starter].")] = None,
    version: Annotated[str, typer.Option(help="A version's number or alias.")] = "champion",
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Classify images here and now, without Spark.

    The decoder, the engine and so the answers are those of the stream. Exit code 1 when an image
    was rejected.

    Example: sightstream predict photo.jpg --top 3
    """
    from sightstream.errors import InputError
    from sightstream.models.registry import Registry
    from sightstream.scoring import api

    settings = options.settings(home, model=model)
    files = [
        file
        for path in paths
        for file in (sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path])
    ]
    if not files:
        raise InputError(f"there are no files in {', '.join(map(str, paths))}")
    registry = Registry(settings.registry_address)
    served = registry.load(registry.version(settings.model, version), settings.engine)
    answers = api.predict(
        files, served, top_k=top, max_bytes=settings.max_image_bytes,
        max_pixels=settings.max_image_pixels,
    )  # fmt: skip
    results = [
        {"path": str(file), **{key: answer[key] for key in _PREDICTED}}
        for file, answer in zip(files, answers, strict=True)
    ]
    if as_json:
        terminal.out.print_json(data=results)
    else:
        for result in results:
            _print_prediction(result)
    if any(result["error_code"] for result in results):
        raise typer.Exit(1)


def query(
    sql: Annotated[str, typer.Argument(help="DuckDB's SQL.")],
    format: Annotated[str, typer.Option(help="table, csv or json.")] = "table",
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Asks the tables predictions, dead_letters and labels, also while the stream runs.

    predictions has a row for each image; dead_letters are those of it that were rejected; labels
    are what people say the images show, by event_id.

    Example: sightstream query "select label, count(*) as images from predictions group by label"
    """
    from sightstream.errors import ConfigError
    from sightstream.tables.query import query as ask

    if format not in {"table", "csv", "json"}:
        raise ConfigError(f"--format is table, csv or json, not {format!r}")
    settings = options.settings(home)
    answer = ask(settings.predictions, sql, labels=settings.labels)
    rows = [list(row) for row in zip(*(c.to_pylist() for c in answer.columns), strict=True)]
    if as_json or format == "json":
        terminal.out.print_json(json.dumps(answer.to_pylist(), default=str))
    elif format == "csv":
        import csv
        import sys

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(answer.column_names)
        writer.writerows(rows)
    else:
        _print_table(answer.column_names, rows)


def tail(home: options.Home = None, as_json: options.Json = False) -> None:
    """Prints new rows as they are committed, until Ctrl-C.

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
                    line = f"{when}  {terminal.printable(row['original_name'])}  {answer}  {score}"
                terminal.line(line)
    except KeyboardInterrupt:
        return


def label(
    event_id: Annotated[str | None, typer.Argument(help="The image's event_id.")] = None,
    label: Annotated[str | None, typer.Argument(help="What it shows.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take back its last change.")] = False,
    csv: Annotated[
        Path | None, typer.Option(help="A file of lines event_id,label, taken all or none.")
    ] = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Says what an image shows, where the model was wrong or to confirm it.

    The last word on an image counts. Its history is kept, so that an undo can be undone.

    Example: sightstream label 01a1fe0c-b2f5-7f93-9ba7-f629a851ac89 "red panda"
    """
    from sightstream.errors import InputError
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
        terminal.out.print_json(json.dumps([vars(row) for row in rows], default=str))
    elif csv:
        _say(f"{len(rows)} labels were written")
    else:
        said = "has no label" if rows[0].label is None else f"is {rows[0].label!r}"
        _say(f"{rows[0].event_id} {said} now")


def doctor(home: options.Home = None, as_json: options.Json = False) -> None:
    """Checks the machine and the home folder.

    Each line is ok, or says what to do. Exit code 1 when something is to be done.

    Example: sightstream doctor
    """
    from sightstream.cli.doctor import checks

    found = list(checks(options.settings(home)))
    if as_json:
        terminal.out.print_json(data=[vars(check) for check in found])
    else:
        for check in found:
            mark = "[green]ok[/]" if check.ok else "[red]!![/]"
            terminal.out.print(mark, end=" ")
            terminal.out.print(f"{check.name}: {check.detail}", markup=False, highlight=False)
    if not all(check.ok for check in found):
        raise typer.Exit(1)


@models_app.command("list")
def models_list(home: options.Home = None, as_json: options.Json = False) -> None:
    """Lists all versions of all models, the newest first.

    Example: sightstream models list
    """
    from sightstream.models.registry import Registry

    registry = Registry(options.settings(home).registry_address)
    versions = (
        [v for name in registry.names() for v in registry.versions(name)] if registry.exists else []
    )
    if as_json:
        terminal.out.print_json(json.dumps([vars(v) for v in versions], default=str))
        return
    if not versions:
        terminal.err.print("no models yet; train one with: sightstream train starter")
        return
    rows = [
        [
            v.name, v.number, ", ".join(v.aliases), f"{v.created:%Y-%m-%d %H:%M}",
            f"{v.metrics.get('accuracy', float('nan')):.4f}",
        ]
        for v in versions
    ]  # fmt: skip
    _print_table(["model", "version", "alias", "created (UTC)", "accuracy"], rows)


@models_app.command("show")
def models_show(
    name: Name,
    version: Annotated[str, typer.Argument(help="A version's number or alias.")] = "champion",
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Shows a version: labels, preprocessing, metrics, training settings, files.

    Example: sightstream models show starter champion
    """
    from dataclasses import asdict

    from sightstream.models.registry import Registry

    registry = Registry(options.settings(home).registry_address)
    found = registry.version(name, version)
    shown = {**vars(found), **asdict(_card(registry, found))}
    if as_json:
        terminal.out.print_json(json.dumps(shown, default=str))
        return
    rows = []
    del shown["reference"]  # hundreds of figures, for machines
    for key, value in shown.items():
        parts = value if isinstance(value, dict) else {"": value}
        rows += [[key if i == 0 else "", *part] for i, part in enumerate(parts.items())]
    _print_table(["", "", ""], rows)


@models_app.command("diff")
def models_diff(
    name: Name,
    a: Annotated[str, typer.Argument(help="A version's number or alias.")] = "champion",
    b: Annotated[str, typer.Argument(help="The version to compare it with.")] = "challenger",
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Compares two versions: metrics, and what differs in settings and labels.

    Example: sightstream models diff starter 1 2
    """
    from sightstream.models.registry import Registry

    registry = Registry(options.settings(home).registry_address)
    old, new = registry.version(name, a), registry.version(name, b)
    found = _difference(old, new, _card(registry, old), _card(registry, new))
    if as_json:
        terminal.out.print_json(json.dumps(found, default=str))
        return
    heads = [" ".join((v.name, str(v.number), *v.aliases)) for v in (old, new)]
    metrics = [
        [key, each["a"], each["b"], each["difference"] and f"{each['difference']:+.6g}"]
        for key, each in found["metrics"].items()
    ]
    _print_table(["metric", *heads, "difference"], metrics)
    if found["settings"]:
        settings = [[key, each["a"], each["b"]] for key, each in found["settings"].items()]
        _print_table(["setting", *heads], settings)
    for change, labels in found["labels"].items():
        if labels:
            terminal.line(f"labels {change}: {terminal.printable(', '.join(labels))}")


@models_app.command("promote")
def models_promote(
    name: Name,
    version: Annotated[int, typer.Argument(min=1, help="The version's number.")],
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Makes a version the champion; a running stream takes it at its next micro-batch.

    Example: sightstream models promote starter 2
    """
    from sightstream.models.registry import Registry

    registry = Registry(options.settings(home).registry_address)
    _print_champion(registry.promote(name, version), as_json=as_json)


@models_app.command("rollback")
def models_rollback(name: Name, home: options.Home = None, as_json: options.Json = False) -> None:
    """Gives the champion's place back to the version before.

    Example: sightstream models rollback starter
    """
    from sightstream.models.registry import Registry

    registry = Registry(options.settings(home).registry_address)
    _print_champion(registry.rollback(name), as_json=as_json)


@config_app.command("show")
def config_show(home: options.Home = None, as_json: options.Json = False) -> None:
    """Shows each setting with its value and meaning.

    A setting comes from a flag, SIGHTSTREAM_<NAME>, sightstream.toml, or its default, in this
    order.

    Example: SIGHTSTREAM_TOP_K=5 sightstream config show
    """
    settings = options.settings(home)
    values = settings.model_dump(mode="json")
    if as_json:
        terminal.out.print_json(data=values)
        return
    fields = type(settings).model_fields
    rows = [[key, value, fields[key].description] for key, value in values.items()]
    _print_table(["setting", "value", "meaning"], rows)


def _put(
    settings: Settings, labels: Labels, pairs: dict[str, str], places: dict[str, str]
) -> list[Label]:
    """Writes labels of events that exist; places begin the error about one that does not."""
    from sightstream.errors import InputError
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
        _say(f"{label!r} is a label that {model} does not know yet; refresh will extend it")
    return rows


def _unknown(settings: Settings, asked: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """The labels that are not on the card of their model's champion, if there is one."""
    from sightstream.errors import SightstreamError
    from sightstream.models.registry import Registry
    from sightstream.tables.query import query as ask

    # MLflow's import takes seconds; what a model has answered once it knows.
    answers = ask(settings.predictions, "SELECT DISTINCT model, label FROM predictions")
    asked = asked - set(zip(*(column.to_pylist() for column in answers.columns), strict=True))
    registry = Registry(settings.registry_address)
    known = {}
    for model in {model for model, _ in asked}:
        with suppress(SightstreamError):
            known[model] = _card(registry, registry.version(model)).labels
    return sorted(pair for pair in asked if pair[1] not in known.get(pair[0], (pair[1],)))


def _card(registry: Registry, version: Version) -> Card:
    from sightstream.models.version import read_card

    return read_card(registry.fetch(version), version.digest)


def _difference(a: Version, b: Version, old: Card, new: Card) -> dict[str, Any]:
    metrics = _compared(a.metrics, b.metrics)
    for each in metrics.values():
        each["difference"] = None if None in each.values() else each["b"] - each["a"]
    settings = _compared(
        {**vars(old.preprocessing), **old.training}, {**vars(new.preprocessing), **new.training}
    )
    return {
        "model": a.name,
        "a": a.number,
        "b": b.number,
        "metrics": metrics,
        "settings": {key: each for key, each in settings.items() if each["a"] != each["b"]},
        "labels": {
            "added": [label for label in new.labels if label not in old.labels],
            "removed": [label for label in old.labels if label not in new.labels],
        },
    }


def _compared(a: dict[str, Any], b: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {key: {"a": a.get(key), "b": b.get(key)} for key in {**a, **b}}


def _say(text: str) -> None:
    terminal.err.print(terminal.printable(text), markup=False, highlight=False, soft_wrap=True)


def _print_champion(version: Version, *, as_json: bool) -> None:
    if as_json:
        terminal.out.print_json(json.dumps(vars(version), default=str))
    else:
        terminal.err.print(f"{version.name} version {version.number} is the champion")


def _print_prediction(result: dict[str, Any]) -> None:
    best = "  ".join(f"{each['label']} {each['score']:.4f}" for each in result["top"])
    answer = best or f"{result['error_code']}: {result['error_detail']}"
    terminal.line(f"{terminal.printable(result['path'])}  {answer}")


def _print_table(columns: list[str], rows: list[list[Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for column in columns:
        table.add_column(Text(_cell(column)))
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    terminal.out.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple):
        value = ", ".join(map(str, value))
    if isinstance(value, (list, dict)):
        value = json.dumps(value, default=str)
    return terminal.printable(str(value))
