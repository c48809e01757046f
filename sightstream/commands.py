"""Commands that need neither Spark nor training: models, predict, query, tail, doctor, config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightstream import options, terminal

if TYPE_CHECKING:
    from sightstream.registry import Version

models_app = typer.Typer(no_args_is_help=True, help="Lists, shows, promotes and rolls back models.")
config_app = typer.Typer(no_args_is_help=True, help="Shows the settings.")

Name = Annotated[str, typer.Argument(help="The registered model.")]


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.command()(predict)
    app.command()(query)
    app.command()(tail)
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
    """Classifies images here and now, without Spark.

    The decoder, the engine and so the answers are those of the stream. Exit code 1 when an image
    was rejected.

    Example: sightstream predict photo.jpg --top 3
    """
    from sightstream.classify import Classifier
    from sightstream.errors import InputError
    from sightstream.registry import Registry

    settings = options.settings(home, model=model)
    files = [
        file
        for path in paths
        for file in (sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path])
    ]
    if not files:
        raise InputError(f"there are no files in {', '.join(map(str, paths))}")
    registry = Registry(settings)
    served = registry.load(registry.version(settings.model, version), settings.engine)
    answers = Classifier(served, settings.limits, top)([str(file) for file in files])
    results = []
    for file, answer in zip(files, answers, strict=True):
        best = zip(answer.classes or (), answer.scores or (), strict=True)
        results.append(
            {
                "path": str(file),
                "status": "rejected" if answer.error_code else "ok",
                "error_code": answer.error_code,
                "error_detail": answer.error_detail,
                "top": [{"label": served.labels[i], "score": score} for i, score in best],
                "model": served.name,
                "model_version": served.version,
            }
        )
    if as_json:
        terminal.out.print_json(data=results)
    else:
        for result in results:
            _print_prediction(result)
    if any(answer.error_code for answer in answers):
        raise typer.Exit(1)


def query(
    sql: Annotated[str, typer.Argument(help="DuckDB's SQL over predictions and dead_letters.")],
    format: Annotated[str, typer.Option(help="table, csv or json.")] = "table",
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Asks the predictions table, also while the stream runs.

    Example: sightstream query "select label, count(*) as images from predictions group by label"
    """
    from sightstream.errors import ConfigError
    from sightstream.predictions import query as ask

    if format not in {"table", "csv", "json"}:
        raise ConfigError(f"--format is table, csv or json, not {format!r}")
    answer = ask(options.settings(home).predictions, sql)
    rows = [list(row) for row in zip(*(c.to_pylist() for c in answer.columns), strict=True)]
    if as_json or format == "json":
        terminal.out.print_json(json.dumps(answer.to_pylist(), default=str))
    elif format == "csv":
        import csv
        import sys

        writer = csv.writer(sys.stdout)
        writer.writerow(answer.column_names)
        writer.writerows(rows)
    else:
        _print_table(answer.column_names, rows)


def tail(home: options.Home = None, as_json: options.Json = False) -> None:
    """Prints new rows as they are committed, until Ctrl-C.

    Example: sightstream tail --json | jq .label
    """
    from sightstream.predictions import follow

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


def doctor(home: options.Home = None, as_json: options.Json = False) -> None:
    """Checks the machine and the home folder.

    Each line is ok, or says what to do. Exit code 1 when something is to be done.

    Example: sightstream doctor
    """
    from sightstream.doctor import checks

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
    from sightstream.registry import Registry

    registry = Registry(options.settings(home))
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

    from sightstream import models
    from sightstream.registry import Registry

    registry = Registry(options.settings(home))
    found = registry.version(name, version)
    card = models.read_card(registry.fetch(found), found.digest)
    shown = {**vars(found), **asdict(card)}
    if as_json:
        terminal.out.print_json(json.dumps(shown, default=str))
    else:
        _print_table(["", ""], [[key, value] for key, value in shown.items()])


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
    from sightstream.registry import Registry

    _print_champion(Registry(options.settings(home)).promote(name, version), as_json=as_json)


@models_app.command("rollback")
def models_rollback(name: Name, home: options.Home = None, as_json: options.Json = False) -> None:
    """Gives the champion's place back to the version before.

    Example: sightstream models rollback starter
    """
    from sightstream.registry import Registry

    _print_champion(Registry(options.settings(home)).rollback(name), as_json=as_json)


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

    table = Table(*columns)
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    terminal.out.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, dict)):
        value = json.dumps(value, default=str)
    return terminal.printable(str(value))
