"""A page of pictures on which two versions differ; it needs no other file, and runs nothing.

Names and uris come from outside: they are cut, and never read as markup.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from string import Template
from typing import Any

from sightstream.images.decode import Decoded, Frame, Preprocessing, decode
from sightstream.images.frames import shown
from sightstream.images.limits import Limits
from sightstream.images.store import Store, here, read
from sightstream.io import disk
from sightstream.scoring.child import Child, LostError
from sightstream.terminal import shortened

PICTURES = 48
"""Most pictures of a page."""

SIDE = 160
"""Pixels of a picture's longest side."""

SECONDS = 20.0
"""Time that a picture may take."""

_OWN = "backfill"
"""Source of rows whose uri the owner of the home has named."""

_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>$title</title>
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em; color: #222; background: #fff }
main { display: flex; flex-wrap: wrap; gap: 1em }
figure { margin: 0; width: ${side}px; overflow-wrap: anywhere; font-size: 13px }
figure div { width: ${side}px; height: ${side}px; display: flex; background: #eee }
img, i { margin: auto }
b { color: #b44a00 }
</style></head><body><h1>$title</h1><p>$about</p><main>
$figures
</main></body></html>
""")

_FIGURE = Template("""<figure><div>$picture</div><figcaption>$name<br>
version $a: $said_a $score_a<br>version $b: <b>$said_b</b> $score_b$truth</figcaption></figure>""")


class Pictures:
    """Finds and shrinks pictures, in a process of their own."""

    def __init__(self, limits: Limits, prefixes: Sequence[str]) -> None:
        """Read what strangers named below `prefixes` only."""
        self._limits = limits
        self._stores = {True: Store(None, limits), False: Store(prefixes, limits)}

    def webp(self, uri: str, own: bool, frame: Frame | int) -> bytes | None:
        """Return a small picture as a WebP file, or None where there is none."""
        from PIL import Image

        image = self._stores[own](uri)
        data = read(image, self._limits) if isinstance(image, str) else image
        size = Preprocessing(SIDE, SIDE, aspect="pad", frame=frame)
        found = decode(data, size, self._limits) if isinstance(data, bytes) else data
        if not isinstance(found, Decoded):
            return None
        held = BytesIO()
        Image.fromarray(found.pixels).save(held, "WEBP", quality=85)
        return held.getvalue()


def write(
    page: Path, title: str, about: str, pair: tuple[int, int],
    examples: Sequence[Mapping[str, Any]], home: Path, limits: Limits, prefixes: Sequence[str],
) -> Path:  # fmt: skip
    """Write a page of examples of `Agreement`; one at the same path is replaced."""
    child = Child(Pictures, limits, (*prefixes, f"{home.as_uri()}/images"))
    try:
        figures = "\n".join(_figures(child, examples, pair, home))
    finally:
        child.end()
    page.parent.mkdir(parents=True, exist_ok=True)
    text = _PAGE.substitute(title=escape(title), about=escape(about), side=SIDE, figures=figures)
    disk.replace(page, text.encode())
    return page


def _figures(
    child: Child, examples: Sequence[Mapping[str, Any]], pair: tuple[int, int], home: Path
) -> Iterator[str]:
    for each in examples:
        truth = each["truth"]
        yield _FIGURE.substitute(
            picture=_picture(child, each, home), name=_shown(each["original_name"] or ""),
            a=pair[0], said_a=_shown(each["a"]), score_a=f"{each['score_a']:.2f}",
            b=pair[1], said_b=_shown(each["b"]), score_b=f"{each['score_b']:.2f}",
            truth=f"<br>labelled {_shown(truth)}" if truth else "",
        )  # fmt: skip


def _picture(child: Child, example: Mapping[str, Any], home: Path) -> str:
    uri, own = here(example["uri"] or "", home.as_uri()), example["source"] == _OWN
    try:
        webp = child.ask("webp", uri, own, shown(example["event_id"]), seconds=SECONDS)
    except (LostError, RuntimeError):
        webp = None
    if not webp:
        return "<i>no picture</i>"
    return f'<img alt="" src="data:image/webp;base64,{b64encode(webp).decode()}">'


def _shown(text: str) -> str:
    return escape(shortened(text, 80))
