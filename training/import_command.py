"""The command `sightstream models import`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sightstream import terminal
from sightstream.cli import extras, options
from sightstream.errors import InputError

if TYPE_CHECKING:
    from training.bring import Imported


def import_(
    path: Annotated[Path, typer.Argument(help="Model: a file or a folder.")],
    name: Annotated[str, typer.Option(help="Name of the registered model.")],
    labels: Annotated[
        str | None, typer.Option(help="Names of the outputs: a file of lines, or a,b,c.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="Height and width, such as 224x224.")] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            help="Pixels that it expects: 0..255, 0..1, -1..1, imagenet, caffe, or "
            "'mean=R,G,B std=R,G,B' (at its end bgr where blue is first)."
        ),
    ] = None,
    layout: Annotated[
        Literal["nchw", "nhwc"] | None, typer.Option(help="Where its channels are.")
    ] = None,
    aspect: Annotated[
        Literal["stretch", "crop", "pad"] | None,
        typer.Option(help="How pictures of another shape fit [stretch]."),
    ] = None,
    crop: Annotated[
        float | None,
        typer.Option(help="Share of each side that is kept around the centre, such as 0.875 [1]."),
    ] = None,
    resize: Annotated[
        Literal["box", "bilinear", "bicubic", "lanczos"] | None,
        typer.Option(help="Filter that pictures are resized by [bilinear]."),
    ] = None,
    window: Annotated[
        str,
        typer.Option(
            help="What of grey DICOM is seen: the number of a file's window, a name such as lung, "
            "or center/width [the file's first]."
        ),
    ] = "",
    frame: Annotated[
        Literal["first", "middle", "each"],
        typer.Option(help="Which frame of a DICOM is seen; each: a row of its own."),
    ] = "first",
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with one subfolder of images for each class: evaluates."),
    ] = None,
    promote: Annotated[
        bool,
        typer.Option(
            "--promote",
            help="Make it the champion, with --data if it is not worse; else the challenger.",
        ),
    ] = False,
    optimise: Annotated[
        bool, typer.Option("--optimise", help="Look for a faster engine, on images of --data.")
    ] = False,
    allow_unreadable: Annotated[
        bool, typer.Option(help="Continue when over 5 % of the images cannot be read.")
    ] = False,
    home: options.Home = None,
    as_json: options.Json = False,
) -> None:
    """Import a model that was made elsewhere, and register it.

    What the file itself tells is used; what it does not tell is asked for. The served model has to
    answer real images as the original does in its own runtime.

    Example: sightstream models import mobilenet.onnx --name things --labels imagenet.txt
    --scale imagenet
    """
    extras.require("onnx", "sklearn", "matplotlib")
    from sightstream.models.bring import labels as names
    from sightstream.models.bring import scale as ranges
    from sightstream.models.bring.bring import Wish
    from training.bring import import_model

    if not re.fullmatch(r"[\w.-]+", name):
        raise InputError(f"--name takes letters, digits, '-', '_' and '.', not '{name}'")
    if optimise and not data:
        raise InputError("--optimise compares answers on images: give them with --data DIR")
    settings = options.settings(home, model=name)
    wish = Wish(
        names.given(labels) if labels else None, _size(size) if size else None,
        ranges.parse(scale) if scale else None, layout, aspect,
        _window(window), frame, resize, _crop(crop),
    )  # fmt: skip

    def on_step(step: str) -> None:
        terminal.say(f"{name}: {step}")

    with terminal.chatter_to(settings.logs / "import.log"):
        done = import_model(
            settings, path, name, wish, data, promote=promote, allow_unreadable=allow_unreadable,
            on_step=on_step, faster=optimise,
        )  # fmt: skip
    _print(done, options.flag(home), as_json=as_json)


def _size(text: str) -> tuple[int, int]:
    if not (found := re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)):
        raise InputError(f"--size takes height and width, such as 224x224, not '{text}'")
    return int(found[1]), int(found[2])


def _crop(share: float | None) -> float | None:
    if share is not None and not 0 < share <= 1:
        raise InputError(f"--crop takes a share above 0, at most 1, such as 0.875, not {share:g}")
    return share


def _window(text: str) -> str:
    from sightstream.images import windows

    try:
        windows.chosen(text)
    except ValueError as error:
        raise InputError(f"--{error}") from None
    return text


def _print(done: Imported, home: str, *, as_json: bool) -> None:
    version, origin = done.version, done.brought.origin
    if as_json:
        terminal.out.print_json(data={
            "model": version.name, "version": version.number, "promoted": done.promoted,
            "reason": done.reason, "metrics": version.metrics, "labels": done.brought.labels,
            "origin": origin, **done.optimised, "report": str(done.report) if done.report else None,
        })  # fmt: skip
        return
    for key, value in (origin | done.optimised).items():
        terminal.say(f"  {key}: {value}")
    verb = "is the champion now" if done.promoted else "is the challenger"
    terminal.say(f"{version.name} version {version.number} {verb} ({done.reason})")
    if done.report:
        terminal.say(f"look at {done.report}")
    serve = f"models promote {version.name} {version.number}"
    if done.promoted:
        serve = f"run --model {version.name}"
    terminal.say(f"serve it with: sightstream {serve}{home}")
