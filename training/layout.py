"""The layout of a data set in folders: classes, or splits that hold classes.

A folder of other programs, a hidden one, and a copy of the set inside itself are no classes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from sightstream.errors import InputError
from sightstream.io.ignored import ignored

_SIDES = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
_SIDE = re.compile(rf"(?:seg[-_ ])?({'|'.join(_SIDES)})(?:[-_ ]?(?:set|data|images))?", re.I)
_is_ignored = ignored()


def sides(folder: Path) -> dict[str, Path]:
    """The folders of the splits, by their names in `split.SPLITS`; empty where there are none.

    They are those of Kaggle's, Roboflow's and Keras' data sets: train, val or valid, test.

    Raises:
        InputError: splits stand beside classes, or a split holds no classes.
    """
    found = folders(folder)
    named = [(side(each.name), each) for each in found]
    by_side = {name: each for name, each in named if name}
    others = [each.name for name, each in named if by_side.get(name) != each]
    if "train" not in by_side or len(by_side) < 2 or (others and not folders(by_side["train"])):
        return {}
    if others:
        raise InputError(
            f"{folder} holds folders of splits ({', '.join(p.name for p in by_side.values())}) "
            f"beside others ({', '.join(others)}); move the others away, or name one with --data"
        )
    by_side = {name: _inner(each) for name, each in by_side.items()}
    for each in by_side.values():
        if not folders(each):
            raise InputError(
                f"{each} holds no folders of classes; sort its images into some, or move it away"
            )
    return by_side


def all_split(classes: list[Path]) -> bool:
    """Whether each class folder holds folders of splits and nothing else."""
    inside = [_visible(each) for each in classes]
    return all(found and all(side(f.name) and f.is_dir() for f in found) for found in inside)


def folders(folder: Path) -> list[Path]:
    """The folders in a folder that may be classes, sorted by name."""
    found = [each for each in _visible(folder) if each.is_dir()]
    return [each for each in found if not _is_copy(each, [f for f in found if f != each])]


def files(folder: Path) -> Iterator[Path]:
    """The files below a class folder that may be images."""
    for each in _visible(folder):
        if each.is_dir() and not each.is_symlink():
            yield from files(each)
        elif each.is_file():
            yield each


def side(name: str) -> str:
    """The split that a folder's name stands for; empty for none."""
    match = _SIDE.fullmatch(name)
    return _SIDES[match[1].lower()] if match else ""


def _visible(folder: Path) -> list[Path]:
    return [
        each for each in sorted(folder.iterdir())
        if not each.name.startswith(".") and not _is_ignored(os.fsencode(each.name))
    ]  # fmt: skip


def _inner(split: Path) -> Path:
    """The folder of the same meaning that is all a split holds, as in seg_train/seg_train."""
    inside = folders(split)
    if len(inside) == 1 and side(inside[0].name) == side(split.name):
        return inside[0]
    return split


def _is_copy(folder: Path, others: list[Path]) -> bool:
    """Whether a folder holds nothing but what the folders beside it hold too.

    Raises:
        InputError: it holds folders of their names, with other files.
    """
    names = {each.name for each in others}
    inside = {each.name for each in _visible(folder) if each.is_dir()}
    if not inside or not inside <= names or len(inside) < min(2, len(names)):
        return False
    beside = {
        (str(file.relative_to(folder.parent)), file.stat().st_size)
        for each in others
        for file in files(each)
    }
    own = {(str(file.relative_to(folder)), file.stat().st_size) for file in files(folder)}
    if own <= beside:
        return True
    raise InputError(
        f"{folder} holds folders of the same names as those beside it ({', '.join(sorted(inside))})"
        ": a data set inside another; move it away, or name one of both with --data"
    )
