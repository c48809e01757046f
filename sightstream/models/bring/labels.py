"""The names of a network's outputs: `--labels`, and what files of labels look like."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightstream.errors import InputError

_MOST_BYTES = 2**22


def given(text: str) -> tuple[str, ...]:
    """Labels of `--labels`: a file (lines, or JSON), or names between commas."""
    path = Path(text)
    try:
        is_file = path.is_file()
    except OSError:  # such as of names too long for a path
        is_file = False
    if is_file:
        return from_text(read(path))
    if "," not in text:
        raise InputError(f"--labels takes a file or names between commas; there is no file {text}")
    return tuple(part.strip() for part in text.split(","))


def read(path: Path) -> str:
    """Return the text of a file of labels."""
    if path.stat().st_size > _MOST_BYTES:
        raise InputError(f"{path} is too large for a file of labels")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text in UTF-8") from None


def from_text(text: str) -> tuple[str, ...]:
    """Labels of a file: JSON, or one a line; Teachable Machine's lines begin with a number."""
    if _like_json(text):
        if not (found := from_json(text)):
            raise InputError(
                "labels that begin with [ or { are read as JSON, and these are no list of it: give "
                'a file such as ["a", "b"], or one label a line'
            )
        return found
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    numbered = [re.fullmatch(r"(\d+)[ \t:]+(.+)", line) for line in lines]
    if all(m and int(m[1]) == n for n, m in enumerate(numbered)):
        return tuple(m[2] for m in numbered if m)
    return tuple(lines)


def from_metadata(text: str) -> tuple[str, ...] | None:
    """Labels of an entry in a file: as JSON or Python writes them, or one a line (PaddlePaddle)."""
    lines = "\n" in text.strip() and not _like_json(text)
    return from_json(text) or (from_text(text) if lines else None)


def _like_json(text: str) -> bool:
    return text.lstrip().startswith(("[", "{"))


def from_json(text: str) -> tuple[str, ...] | None:
    """Labels of a list or a mapping of numbers, as JSON or Python writes it; None for others."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    return from_value(found)


def from_value(found: Any) -> tuple[str, ...] | None:
    """Labels of a list, or of a mapping between numbers from 0 on and names, either way round."""
    if isinstance(found, Mapping) and found:
        if all(isinstance(v, int) for v in found.values()):  # as label2id
            found = {number: name for name, number in found.items()}
        try:
            by_number = {int(key): value for key, value in found.items()}
        except (TypeError, ValueError):
            return None
        if sorted(by_number) != list(range(len(by_number))):
            return None
        found = [by_number[number] for number in range(len(by_number))]
    if not isinstance(found, list | tuple) or not found:
        return None
    if not all(isinstance(each, str | int) for each in found):
        return None
    return tuple(map(str, found))


def distinct(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Labels of which none is empty; one that occurs twice gets its number, as ImageNet's crane."""
    if not all(label.strip() for label in labels):
        raise InputError("a label is empty; give all names with --labels")
    times = Counter(labels)
    named = tuple(f"{x} ({n})" if times[x] > 1 else x for n, x in enumerate(labels))
    if len(set(named)) < len(named):
        raise InputError("labels must differ; give other names with --labels")
    return named
