"""Data sets: class folders and split files, decoded by Spark's workers as the stream decodes."""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from unicodedata import is_normalized, normalize

from sightstream.errors import InputError
from sightstream.images.decode import Decoded, Preprocessing, decode
from sightstream.images.limits import Limits
from sightstream.images.store import local_path, read
from sightstream.io import separated
from sightstream.tables.labels import require_class_name
from training import copies, layout, split
from training.split import SPLITS

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession

_COLUMNS = ("path", "label", "split", "digest", "fault")

UNREADABLE = 0.05  # fraction of unreadable images above which a data set is refused


@dataclass(frozen=True)
class Example:
    """An image of a data set, as the driver holds it: without its pixels."""

    path: str
    label: str
    digest: str = ""  # SHA-256 of its bytes; empty where it cannot be read
    split: str = ""  # one of `SPLITS`; empty where it is left out
    fault: str = ""  # why it is left out; empty where it is not

    @property
    def uri(self) -> str:
        """The path as a file URI."""
        return Path(self.path).as_uri()


@dataclass(frozen=True)
class Source:
    """Places of a data set's images."""

    folders: tuple[Path, ...] = ()  # each holds a folder of images for each class
    test: Path | None = None  # a folder of that kind; all its images are test images
    split_file: Path | None = None  # CSV of path, label and split; its paths start at its folder
    examples: tuple[Example, ...] = ()  # further images, such as those that people have labelled
    known: Mapping[str, str] = field(default_factory=dict)  # earlier splits by digest

    def list(self) -> list[Example]:
        """Lists all images without reading them, each with its split if the source decides it.

        The folders are looked through once.

        Raises:
            InputError: there are fewer than two classes, or a class folder is empty.
        """
        return [*self._found]

    @cached_property
    def _found(self) -> Sequence[Example]:
        found = [example for folder in self.folders for example in class_folders(folder)]
        if self.test:
            found += [Example(e.path, e.label, split="test") for e in class_folders(self.test)]
        if self.split_file:
            found += _split_file(self.split_file)
        found = one_spelling([*found, *self.examples])
        labels = {e.label for e in found if e.split != "test"}
        if len(labels) < 2:
            if not (self.split_file or self.folders or self.examples):
                raise InputError(
                    "there are no images to train on: give --data DIR, with a folder for each "
                    "class, or --split-file"
                )
            where = self.split_file or ", ".join(map(str, self.folders)) or "the data"
            files = (each for folder in self.folders for each in sorted(folder.glob("*.csv")))
            hint = next((f", or the split file: --split-file {each}" for each in files), "")
            raise InputError(
                f"{where} holds {len(labels)} class(es); two or more are needed: give --data DIR, "
                f"with a folder for each class{hint}"
            )
        return found


@dataclass(frozen=True)
class Dataset:
    """Decoded images in Spark's cache, and their names on the driver."""

    labels: tuple[str, ...]  # in the order of the network's outputs
    images: DataFrame
    """Columns uri, label (index), split, digest, width and height (upright, in pixels), and pixels
    (uint8, row by row)."""
    examples: Sequence[Example]  # all images found, also those left out
    preprocessing: Preprocessing
    groups: Mapping[str, str] = field(default_factory=dict)  # of copies of a picture, by digest

    def split(self, name: str) -> DataFrame:
        """The images of one split."""
        return self.images.where(self.images.split == name)

    def count(self, split: str) -> int:
        """Number of images in a split."""
        return sum(e.split == split for e in self.examples)

    @property
    def copies(self) -> tuple[int, int]:
        """Images beside the first one of their group, and those of groups on several sides."""
        sides = defaultdict[str, Counter[str]](Counter)
        for e in self.examples:
            if e.split and e.digest in self.groups:
                sides[self.groups[e.digest]][e.split] += 1
        counts = list(sides.values())
        spread = sum(each.total() for each in counts if len(each) > 1)
        return sum(each.total() - 1 for each in counts), spread

    @property
    def left_out(self) -> list[Example]:
        """Images that are not used, each with its fault."""
        return [e for e in self.examples if e.fault]

    def write_split(self, path: Path) -> None:
        """Writes the split as a CSV file that `--split-file` reads."""
        with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = csv.writer(file)
            rows.writerow(_COLUMNS)
            rows.writerows([getattr(e, name) for name in _COLUMNS] for e in self.examples)


def load(
    spark: SparkSession, source: Source, preprocessing: Preprocessing, limits: Limits, *,
    shares: split.Shares, seed: int, labels: Sequence[str] = (),
    allow_unreadable: bool = False,
) -> Dataset:  # fmt: skip
    """Decodes the images of a source in Spark's workers, and splits them by shares and seed.

    `labels` are classes that come first, in this order; the others follow, sorted.

    Raises:
        InputError: there are too few classes or images, or too many that cannot be read.
    """
    from pyspark.sql import functions as F  # noqa: N812

    found = one_spelling(source.list(), labels)
    decoded = _decoded(spark, [e.uri for e in found], preprocessing, limits)
    rows = {row.uri: row for row in decoded.drop("pixels").collect()}
    seen = {uri: (row.digest, row.fault) for uri, row in rows.items()}
    unreadable = [e for e in found if seen[e.uri][1]]
    why = seen[unreadable[0].uri][1] if unreadable else ""
    require_readable(unreadable, len(found), allow_unreadable, why)
    tested = any(e.split == "test" for e in found)
    read = [e for e in found if not seen[e.uri][1]]
    groups = copies.groups(
        {rows[e.uri].digest: bytes(rows[e.uri].thumbnail) for e in read},
        ((rows[e.uri].digest, e.path, e.label) for e in read),
    )
    examples = split.divide(
        found, seen, split.without_test(shares) if tested else shares, seed,
        known=source.known, learned=set(labels), groups=groups,
    )  # fmt: skip
    names = _names(examples, labels)
    index = {name: number for number, name in enumerate(names)}
    used = [(e.uri, index[e.label], e.split) for e in examples if e.split]
    assigned = spark.createDataFrame(used, "uri string, label int, split string")
    images = decoded.drop("fault", "thumbnail").join(F.broadcast(assigned), "uri")
    return Dataset(names, images, examples, preprocessing, groups)


def require_readable(
    unreadable: Sequence[Example], images: int, allow: bool, why: str = ""
) -> None:
    """Raises InputError where more than `UNREADABLE` cannot be read, unless allowed.

    `why` is the fault of the first one.
    """
    if len(unreadable) > UNREADABLE * images and not allow:
        reason = f": {why} Only" if why else "; sightstream predict says why, and"
        raise InputError(
            f"{len(unreadable)} of {images} images cannot be read, such as {unreadable[0].path}"
            f"{reason} --allow-unreadable goes on without them"
        )


def class_folders(folder: Path) -> list[Example]:
    """Lists the files of class folders without reading them, or of splits that hold such.

    Raises:
        InputError: there is no such folder, or one without images.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give one that holds a folder for each class")
    folder = layout.set_in(folder)
    if splits := layout.sides(folder):
        found = [
            replace(example, split=name)
            for name, each in splits.items()
            for example in _classes(each)
        ]
    else:
        found = _classes(folder)
    if any(e.split == "validation" for e in found):
        return found
    # Without a split to validate with, one is taken from the images to train on.
    return [replace(e, split="") if e.split == "train" else e for e in found]


def one_spelling(examples: Iterable[Example], labels: Iterable[str] = ()) -> list[Example]:
    """Gives one label to classes whose names differ in code points only, as é does in NFC and NFD.

    It is that of `labels` where there is one, else the composed one if it occurs.
    """
    found = list(examples)
    names = {normalize("NFC", label): label for label in labels}
    for label in sorted({e.label for e in found}, key=lambda each: not is_normalized("NFC", each)):
        names.setdefault(normalize("NFC", label), label)
    chosen = [names[normalize("NFC", e.label)] for e in found]
    pairs = zip(found, chosen, strict=True)
    return [e if e.label == label else replace(e, label=label) for e, label in pairs]


def _classes(folder: Path) -> list[Example]:
    classes = layout.folders(folder)
    if not classes:
        raise InputError(f"{folder} holds no folders; it needs one for each class")
    for each in classes:
        require_class_name(each.name)
    split_inside = layout.all_split(classes)
    found = [
        Example(
            str(path.absolute()), each.name,
            split=layout.side(path.relative_to(each).parts[0]) if split_inside else "",
        )
        for each in classes
        for path in sorted(layout.files(each))
    ]  # fmt: skip
    holding = {Path(each) for each in {os.path.dirname(e.path) for e in found}}  # noqa: PTH120
    layout.require_no_set(folder.absolute(), holding, {each.name for each in classes})
    filled = {e.label for e in found}
    if empty := [c.name for c in classes if c.name not in filled]:
        raise InputError(f"no images in the class folder(s) {', '.join(empty)} of {folder}")
    return found


def read_split(path: Path) -> list[Example]:
    """Reads a file that `Dataset.write_split` wrote, with the images left out.

    InputError where it is damaged.
    """
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = [{name: row[name] for name in _COLUMNS} for row in csv.DictReader(file)]
    except (OSError, KeyError, csv.Error) as error:
        raise InputError(f"{path} cannot be read: {error}; train the model anew") from None
    if any(None in row.values() for row in rows):
        raise InputError(f"{path} is cut short; train the model anew")
    return [Example(**row) for row in rows]


def _split_file(path: Path) -> list[Example]:
    try:
        with separated.opened(path, _is_header, "surrogateescape") as (file, before, delimiter):
            rows = csv.DictReader(file, delimiter=delimiter)
            if missing := {"path", "label", "split"} - {*(rows.fieldnames or ())}:
                raise InputError(
                    f"{path}, line {before + 1}: the names of the columns path, label and split "
                    f"are needed; {', '.join(sorted(missing))} is missing"
                )
            lines = [(before + rows.line_num, row) for row in rows if any(row.values())]
    except (OSError, UnicodeError, csv.Error) as error:
        raise InputError(f"the split file {path} cannot be read: {error}") from None
    found = []
    for number, row in lines:
        if row.get("fault"):
            continue
        if not row.get("path") or not row.get("label") or row.get("split") not in SPLITS:
            raise InputError(
                f"{path}, line {number}: path, label and split are needed, where split is "
                f"{', '.join(SPLITS)}"
            )
        require_class_name(row["label"])
        image = _file(path.parent.absolute(), row["path"])
        found.append(Example(str(image), row["label"], split=row["split"]))
    return found


def _is_header(row: list[str]) -> bool:
    return "path" in row


def _file(folder: Path, name: str) -> Path:
    """A file of a split file, whose names may have Windows' separators."""
    file = folder / name
    return file if "\\" not in name or file.exists() else folder / name.replace("\\", "/")


def _decoded(
    spark: SparkSession, uris: Iterable[str], preprocessing: Preprocessing, limits: Limits
) -> DataFrame:
    """Decodes each image once: a persisted DataFrame of uri, pixels, size, digest and fault."""
    from pyspark import StorageLevel

    def decode(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        import pandas as pd

        names = ["uri", "pixels", "width", "height", "digest", "fault"]
        for frame in frames:
            rows = [(uri, *_row(uri, preprocessing, limits)) for uri in frame["uri"]]
            made = pd.DataFrame(rows, columns=names)
            made["thumbnail"] = [
                copies.thumbnail(pixels, preprocessing.shape) if pixels else None
                for _, pixels, *_ in rows
            ]
            yield made

    tasks = 2 * spark.sparkContext.defaultParallelism
    # As URIs, since the JVM has no strings for names that are not UTF-8.
    images = spark.createDataFrame([(uri,) for uri in dict.fromkeys(uris)], "uri string")
    columns = "uri string, pixels binary, width int, height int, digest string, fault string"
    columns += ", thumbnail binary"
    # On disk, where Linux keeps it in memory that it can spare; the driver's heap stays small.
    decoded = images.repartition(tasks).mapInPandas(decode, columns)
    return decoded.persist(StorageLevel.DISK_ONLY)


def _names(examples: Sequence[Example], first: Sequence[str]) -> tuple[str, ...]:
    there = {e.label for e in examples if e.split}
    if missing := sorted(set(first) - there):
        raise InputError(f"no usable image is left of the class(es) {', '.join(missing)}")
    return (*first, *sorted(there - set(first)))


def _row(
    uri: str, preprocessing: Preprocessing, limits: Limits
) -> tuple[bytes | None, int, int, str, str]:
    data = read(local_path(uri), limits)
    if not isinstance(data, bytes):
        return None, 0, 0, "", data.detail
    image = decode(data, preprocessing, limits)
    if not isinstance(image, Decoded):
        return None, 0, 0, "", image.detail
    digest = hashlib.sha256(data).hexdigest()
    return image.pixels.tobytes(), image.width, image.height, digest, ""
