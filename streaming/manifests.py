"""Manifests: the images that were taken, a line each, in files whose names tell the order."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIX = ".jsonl"

Offset = dict[str, str]
"""The last manifest that was read; empty before the first."""

KEY = "manifest"
"""Of an offset's only field."""

_MANIFEST = re.compile(r"\d{20}\.jsonl$")


def published(manifests: Path, after: str = "") -> list[str]:
    """The names of the manifests, in the order of their publication.

    Args:
        manifests: their folder.
        after: only those that came after the one of this name.
    """
    names = (entry.name for entry in os.scandir(manifests))
    return sorted(name for name in names if name > after and _MANIFEST.match(name))


def between(folder: Path, start: Offset, end: Offset | None = None) -> list[Path]:
    """The manifests after an offset, up to another one or to the newest.

    Args:
        folder: holds them.
        start: is empty before the first micro-batch.
        end: the last one.
    """
    names = published(folder, after=start.get(KEY, ""))
    return [folder / name for name in names if end is None or name <= end[KEY]]


def count(manifests: Sequence[Path]) -> int:
    """The events in manifests."""
    return sum(path.read_bytes().count(b"\n") for path in manifests)


def lines(manifests: Sequence[Path]) -> list[bytes]:
    """The lines of manifests, in their order."""
    return [line for path in manifests for line in path.read_bytes().splitlines()]


def parsed(lines: Sequence[bytes]) -> pa.Table:
    """The events of a manifest's lines, in their order."""
    import pyarrow as pa
    from pyarrow.json import ParseOptions, ReadOptions, read_json

    from streaming.classifier import EVENT

    if not lines:
        return EVENT.empty_table()
    parse = ParseOptions(explicit_schema=EVENT, unexpected_field_behavior="error")
    text = pa.BufferReader(b"\n".join(lines))
    return read_json(text, ReadOptions(use_threads=False), parse).combine_chunks()
