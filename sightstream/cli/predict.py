"""`sightstream predict`: images classified in this process."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sightstream import terminal
from sightstream.cli import extras, options
from sightstream.errors import ConfigError, InputError, ModelNotFoundError

_SHOWN = ("status", "error_code", "error_detail", "model", "model_version")
"""Columns of an answer that are printed as JSON, besides `top`."""


def predict(
    paths: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    top: Annotated[int, typer.Option(min=1, help="Number of labels shown for each image.")] = 1,
    model: Annotated[
        str | None, typer.Option(help="NAME, NAME@ALIAS or NAME@NUMBER [the only one].")
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Number or alias of its version [champion].")
    ] = None,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Classify images in this process, without Spark.

    Decoder, engine and answers are those of the stream. Exit code 1 when an image was rejected.

    Example: sightstream predict photo.jpg --top 3
    """
    from sightstream.models.registry import Registry, parts, resolve
    from sightstream.scoring import api

    extras.tell_of_decoder()
    name, which = parts(model, version or "") if model else (None, version)
    if version and which != version:
        raise ConfigError(f"--model {model} and --version {version} name two versions; give one")
    settings = options.settings(home, model=name)
    if not settings.registry_uri and not settings.root.is_dir():
        raise ModelNotFoundError(
            f"there is no home folder {settings.root}; name one with --home, or make one with: "
            "sightstream train starter"
        )
    files = [file for path in paths for file in _files(path)]
    if not files:
        raise InputError(f"there are no files in {', '.join(map(str, paths))}")
    wanted = f"{Registry(settings.registry_address).chosen(settings.model)}@{which or 'champion'}"
    served = resolve(wanted, settings.registry_address, settings.engine, settings.device)
    answers = api.predict(
        files, served, top_k=top, max_bytes=settings.max_image_bytes,
        max_pixels=settings.max_image_pixels,
    )  # fmt: skip
    results = [
        {"path": str(file), **{key: answer[key] for key in _SHOWN}, "top": answer["top"] or []}
        for file, answer in zip(files, answers, strict=True)
    ]
    if as_json:
        terminal.out.print_json(data=results)
    else:
        for result in results:
            _print(result)
    if any(result["error_code"] for result in results):
        raise typer.Exit(1)


def _files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _print(result: dict[str, Any]) -> None:
    best = "  ".join(f"{each['label']} {each['score']:.4f}" for each in result["top"])
    answer = best or f"{result['error_code']}: {result['error_detail']}"
    terminal.line(f"{result['path']}  {answer}")
