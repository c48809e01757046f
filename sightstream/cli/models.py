"""Commands on the versions in the registry: `sightstream models`."""

from __future__ import annotations

import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightstream import terminal
from sightstream.cli import options
from sightstream.errors import InputError

if TYPE_CHECKING:
    from sightstream.config import Settings
    from sightstream.models.registry import Registry, Version
    from sightstream.models.version import Card
    from sightstream.tables.agreement import Agreement

app = typer.Typer(
    no_args_is_help=True, help="List, show, compare, promote and roll back registered models."
)

_MOST_LABELS = 20
_MOST_COLUMNS = 12

Name = Annotated[str, typer.Argument(help="Name of the registered model.")]


@app.command("list")
def models_list(home: options.Home = None, as_json: options.Json = False) -> None:
    """List all versions of all models, the newest first.

    Example: sightstream models list
    """
    registry = _registry(home)
    versions = [version for name in registry.names() for version in registry.versions(name)]
    if as_json:
        terminal.out.print_json(data=[vars(v) for v in versions], default=str)
        return
    if not versions:
        terminal.err.print("no models yet; train one with: sightstream train starter")
        return
    rows = [
        [v.name, v.number, v.aliases, f"{v.created:%Y-%m-%d %H:%M}", v.metrics.get("accuracy")]
        for v in versions
    ]
    terminal.table(["model", "version", "alias", "created (UTC)", "accuracy"], rows)


@app.command("show")
def models_show(
    name: Annotated[
        str, typer.Argument(help="Name of the registered model [the one in use].")
    ] = "",
    version: Annotated[str, typer.Argument(help="Number or alias of a version.")] = "champion",
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Show what a version is made of.

    Its labels, preprocessing, metrics, training settings and files.

    Example: sightstream models show starter champion
    """
    from sightstream.models.registry import Registry

    settings = options.settings(home)
    registry = Registry(settings.registry_address)
    found = registry.version(registry.chosen(name or settings.model), version)
    shown = {**vars(found), **asdict(registry.card(found))}
    if as_json:
        terminal.out.print_json(data=shown, default=str)
        return
    rows = []
    del shown["reference"]  # hundreds of figures, for machines
    if len(labels := shown["labels"]) > _MOST_LABELS:
        shown["labels"] = f"{', '.join(labels[:_MOST_LABELS])}, ... ({len(labels)}; all: --json)"
    for key, value in shown.items():
        parts = value if isinstance(value, dict) else {"": value}
        rows += [[key if i == 0 else "", *part] for i, part in enumerate(parts.items())]
    terminal.table(["", "", ""], rows)


@app.command("diff")
def models_diff(
    name: Name,
    a: Annotated[str, typer.Argument(help="Number or alias of a version.")] = "champion",
    b: Annotated[
        str, typer.Argument(help="Number or alias of the version it is compared with.")
    ] = "challenger",
    live: Annotated[
        bool, typer.Option("--live", help="Compare their answers to the stream's images.")
    ] = False,
    table: Annotated[
        str, typer.Option(help="Compare their answers, with those that backfill put into a table.")
    ] = "",
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Compare two versions.

    Their metrics, and the settings and labels that differ.

    With --live, where the stream ran with --shadow: on how many images they agreed, by label, and
    the newest ones on which they did not. With --table, which also writes a page with pictures: the
    same for the answers of the stream and of a backfill.

    Example: sightstream models diff starter 1 2
    """
    registry = _registry(home)
    old, new = registry.version(name, a), registry.version(name, b)
    if live or table:
        _print_agreement(options.settings(home), old, new, table, as_json=as_json)
        return
    found = _difference(old, new, registry.card(old), registry.card(new))
    if as_json:
        terminal.out.print_json(data=found, default=str)
        return
    heads = [" ".join((v.name, str(v.number), *v.aliases)) for v in (old, new)]
    metrics = [
        [key, each["a"], each["b"], each["difference"] and f"{each['difference']:+.6g}"]
        for key, each in found["metrics"].items()
    ]
    terminal.table(["metric", *heads, "difference"], metrics)
    if found["settings"]:
        settings = [[key, each["a"], each["b"]] for key, each in found["settings"].items()]
        terminal.table(["setting", *heads], settings)
    for change, labels in found["labels"].items():
        if labels:
            terminal.line(f"labels {change}: {', '.join(labels)}")


@app.command("promote")
def models_promote(
    name: Name,
    version: Annotated[str, typer.Argument(help="Number of the version.")],
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Make a version the champion.

    A running stream uses it from its next micro-batch on.

    Example: sightstream models promote starter 2
    """
    if not re.fullmatch("[0-9]{1,9}", version):
        raise InputError(
            f"promote takes the number of a version, not {version!r}; see the numbers with: "
            "sightstream models list"
        )
    _print_champion(_registry(home).promote(name, int(version)), as_json=as_json)


@app.command("rollback")
def models_rollback(name: Name, home: options.Home = None, as_json: options.Json = False) -> None:
    """Make the previous champion the champion again.

    Example: sightstream models rollback starter
    """
    _print_champion(_registry(home).rollback(name), as_json=as_json)


def _print_agreement(
    settings: Settings, old: Version, new: Version, table: str, *, as_json: bool
) -> None:
    from sightstream.scoring.sheet import PICTURES
    from sightstream.tables.agreement import agreement

    pair, place = (old.number, new.number), _place(settings, table) if table else ""
    # The stream's answers of the older version are compared with those of the table.
    since = (min if table else max)(old.created, new.created)
    found = agreement(
        settings.predictions, old.name, pair, since=since, labels=settings.labels, table=place,
        examples=PICTURES if table else 20,
    )  # fmt: skip
    page = _sheet(settings, found, table) if table and found.examples else None
    if as_json:
        shown = found.as_dict() | ({"page": page} if table else {})
        terminal.out.print_json(data=shown, default=str)
        return
    if not found.images:
        cure = (
            f"backfill predictions --into again --model {old.name}@{new.number}" if table else
            f"run --model {old.name} --shadow {old.name}@challenger"
        )  # fmt: skip
        terminal.line(
            f"no image of the stream has answers of versions {old.number} and {new.number} of "
            f"{old.name} since both are there; start it with: sightstream {cure}"
        )
        return
    _print_found(found)
    if page:
        terminal.say(f"the pictures: {page}")


def _print_found(found: Agreement) -> None:
    terminal.line(
        f"versions {found.a} and {found.b} of {found.model} agreed on {found.agreed} of "
        f"{found.images} images ({found.share:.1%})"
    )
    if found.labelled:
        terminal.line(
            f"of {found.labelled} that people labelled, {found.right_a} and {found.right_b} are "
            "right"
        )
    if found.classes:
        terminal.table(*_matrix(found))
    if found.examples:
        heads = ["event", "name", *(f"label of {number}" for number in (found.a, found.b))]
        shown = [[e["event_id"], e["original_name"], e["a"], e["b"]] for e in found.examples[:20]]
        terminal.table(heads, shown)


def _matrix(found: Agreement) -> tuple[list[str], list[list[Any]]]:
    """A row for each label of the first version: its images, by what the second one said."""
    answers = sorted({each["b"] for each in found.matrix})
    heads = [f"label of {found.a}", "images", "agreed"]
    if len(answers) > _MOST_COLUMNS:
        return heads, [[c["label"], c["images"], c["agreed"]] for c in found.classes]
    counts = {(each["a"], each["b"]): each["images"] for each in found.matrix}
    rows = [
        [c["label"], c["images"], c["agreed"], *(counts.get((c["label"], b)) for b in answers)]
        for c in found.classes
    ]
    return [*heads, *(f"{found.b}: {label}" for label in answers)], rows


def _place(settings: Settings, table: str) -> str:
    """The place of a table that is given by its name, its path or its uri."""
    named = settings.tables / table
    if "/" not in table:
        if not named.is_dir():
            known = ", ".join(sorted(each.name for each in settings.tables.glob("*"))) or "none"
            raise InputError(f"there is no table {table!r} in {settings.tables}; it has: {known}")
        return str(named)
    return table if "://" in table else os.path.abspath(os.path.expanduser(table))  # noqa: PTH100, PTH111


def _sheet(settings: Settings, found: Agreement, table: str) -> Path:
    from sightstream.scoring import sheet

    name = f"{found.a}-{found.b}-in-{Path(table).name}.html"
    return sheet.write(
        settings.root / "reports" / found.model / name,
        f"{found.model}: versions {found.a} and {found.b}",
        f"They agreed on {found.agreed} of {found.images} images. Of the others, these are the "
        f"{len(found.examples)} on which both were the surest.",
        (found.a, found.b), found.examples, settings.root, settings.limits,
        settings.kafka_uri_prefixes,
    )  # fmt: skip


def _registry(home: Path | None) -> Registry:
    from sightstream.models.registry import Registry

    return Registry(options.settings(home).registry_address)


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


def _print_champion(version: Version, *, as_json: bool) -> None:
    if as_json:
        terminal.out.print_json(data=vars(version), default=str)
    else:
        terminal.err.print(f"{version.name} version {version.number} is the champion")
