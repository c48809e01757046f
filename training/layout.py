"""The layout of a data set in folders: classes, or splits that hold classes.

A folder of other programs, a hidden one, and a copy of the set inside itself are no classes.
"""

from __future__ import annotations

import mimetypes
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from sightstream.errors import InputError
from sightstream.io.ignored import ignored

_SIDES = {
    "train": "train", "training": "train", "trn": "train",
    "val": "validation", "valid": "validation", "validate": "validation",
    "validation": "validation", "dev": "validation", "eval": "validation",
    "evaluation": "validation",
    "test": "test", "testing": "test", "tst": "test", "holdout": "test", "hold-out": "test",
    "hold_out": "test", "heldout": "test", "held-out": "test", "held_out": "test",
}  # fmt: skip
_SIDE = re.compile(
    rf"(?:seg[-_ ]|[0-9]+[-_. ]*)?({'|'.join(_SIDES)})"
    r"(?:[-_ ]?(?:set|dataset|data|images|imgs|split|samples))?",
    re.I,
)
_FOLD = re.compile(r"(?:cv|k)?[-_ ]?folds?[-_ ]?[0-9]+|[0-9]+[-_ ]?folds?", re.I)
_PICTURES = ("image/", "application/dicom")
_is_ignored = ignored()


def set_in(folder: Path) -> Path:
    """The folder of a data set: that given, or one that is all it holds, as archives leave it."""
    inside = folders(folder)
    if len(inside) == 1 and folders(inside[0]) and not _has_images(inside[0]):
        found = set_in(inside[0])
        if len(folders(found)) > 1:
            return found
    return folder


def sides(folder: Path) -> dict[str, Path]:
    """The folders of the splits, by their names in `split.SPLITS`; empty where there are none.

    They are those of Kaggle's, Roboflow's and Keras' data sets: train, val or valid, test.

    Raises:
        InputError: splits stand beside classes, hold none, or have names that are not known.
    """
    found = folders(folder)
    by_side = {name: each for each in found if (name := side(each.name))}
    others = [each.name for each in found if each not in by_side.values()]
    if not _are_sides(found):
        return {}
    if "train" not in by_side or len(by_side) < 2 or others:
        raise InputError(
            f"{folder} holds folders that are named as splits, but not all are known "
            f"({', '.join(each.name for each in found)}); name them train, validation and test, "
            "move others away, or name one with --data"
        )
    by_side = {name: _inner(each) for name, each in by_side.items()}
    for each in by_side.values():
        if not folders(each):
            raise InputError(
                f"{each} holds no folders of classes; sort its images into some, or move it away"
            )
    return by_side


def all_split(classes: list[Path]) -> bool:
    """Whether each class folder holds folders of splits and nothing else.

    Raises:
        InputError: something stands beside folders of splits.
    """
    inside = [_visible(each) for each in classes]
    named = [{side(f.name) for f in found if f.is_dir()} - {""} for found in inside]
    if len(set[str]().union(*named)) < 2 and not all(named):
        return False
    for each in (each for found in inside for each in found):
        if not side(each.name) or not each.is_dir():
            raise InputError(
                f"{each} is in none of the folders of splits (train, validation, test) that "
                "classes hold; move it into one of them, or away"
            )
    return True


def folders(folder: Path) -> list[Path]:
    """The folders in a folder that may be classes, sorted by name."""
    found = _folders(folder)
    return [each for each in found if not _is_copy(each, [f for f in found if f != each])]


def require_no_set(folder: Path, holding: set[Path], classes: set[str]) -> None:
    """Raises InputError where a folder below a class holds folders of two or more classes.

    `holding` are the folders of the images, all of them below `folder`.
    """
    inside = defaultdict[Path, set[str]](set)
    for each in holding:
        for below in (each, *each.parents):
            if below.parent == folder:
                break
            inside[below.parent].add(below.name)
    for each, names in inside.items():
        if len(names & classes) > 1:
            raise InputError(_another(each, names & classes))


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
    above = {folder.resolve(), *folder.resolve().parents}
    return [
        each for each in sorted(folder.iterdir())
        if not each.name.startswith(".") and not _is_ignored(os.fsencode(each.name))
        and not (each.is_symlink() and Path(os.path.realpath(each)) in above)
    ]  # fmt: skip


def _inner(split: Path) -> Path:
    """The folder of the same meaning that is all a split holds, as in seg_train/seg_train."""
    inside = folders(split)
    if len(inside) == 1 and side(inside[0].name) == side(split.name):
        return inside[0]
    return split


def _are_sides(found: list[Path]) -> bool:
    """Whether folders are splits by their names, also by some that `side` does not know.

    Raises:
        InputError: all of them are folds.
    """
    if len(found) > 1 and all(_FOLD.fullmatch(each.name) for each in found):
        raise InputError(
            f"{found[0].parent} holds folds ({', '.join(each.name for each in found)}), which are "
            "no classes; name the split of each image in a file: --split-file FILE"
        )
    alike = {each: name for each in found if (name := _like(each.name))}
    if not alike:
        return False
    exact = [each for each in found if side(each.name)]
    if len(exact) == len(found) > 1:
        return True
    inside = {each: {f.name for f in folders(each)} for each in found}
    of_sides = set[str]().union(*(inside[each] for each in alike))
    if not of_sides:  # classes may have such names too
        return False
    more = [each for each in found if each not in alike and inside[each] & of_sides]
    return len(set(alike.values())) > 1 or bool(exact and len(alike) + len(more) > 1)


def _like(name: str) -> str:
    """The split that a word of a folder's name stands for; empty for none."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    return side(name) or next(filter(None, map(side, words)), "")


def _has_images(folder: Path) -> bool:
    """Whether files stand in a folder that their names tell to be images, or do not tell."""
    kinds = [mimetypes.guess_type(each.name)[0] for each in _visible(folder) if each.is_file()]
    return any(kind is None or kind.startswith(_PICTURES) for kind in kinds)


def _is_copy(folder: Path, others: list[Path]) -> bool:
    """Whether a folder holds nothing but what the folders beside it hold too, at some depth.

    Raises:
        InputError: it holds folders of their names, with other files.
    """
    names, inner, inside = {each.name for each in others}, folder, _folders(folder)
    while len(inside) == 1 and inside[0].name not in names:
        inner, inside = inside[0], _folders(inside[0])
    alike = {each.name for each in inside} & names
    if not alike:
        return False
    beside = {
        (os.path.relpath(file, folder.parent), file.stat().st_size)
        for each in others
        for file in files(each)
    }
    own = {(os.path.relpath(file, inner), file.stat().st_size) for file in files(folder)}
    if own <= beside:
        return True
    if len(alike) > 1 or len(alike) == len(inside) == len(names):
        raise InputError(_another(inner, alike))
    return False


def _folders(folder: Path) -> list[Path]:
    return [each for each in _visible(folder) if each.is_dir()]


def _another(folder: Path, names: set[str]) -> str:
    return (
        f"{folder} holds folders of the same names as those beside it ({', '.join(sorted(names))})"
        ": a data set inside another; move it away, or name one of both with --data"
    )
