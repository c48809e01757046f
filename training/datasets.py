"""Class folders as Spark sees them: decoded by the same `imaging` that serves, split by content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sightstream import imaging
from sightstream.errors import InputError
from sightstream.imaging import Decoded, Limits, Preprocessing
from sightstream.spark import prepare_worker

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession

SPLITS = {"train": 0.7, "validation": 0.1, "test": 0.2}
"""The shares of each class."""

UNREADABLE = 0.05
"""The share of unreadable images above which a data set is refused."""


@dataclass(frozen=True)
class Dataset:
    """Decoded images in Spark's cache.

    Attributes:
        labels: the names of the class folders, sorted.
        images: a DataFrame of label (index), pixels (uint8 bytes, row by row) and split.
        preprocessing: the shape of the pixels.
        unreadable: how many images were left out.
    """

    labels: tuple[str, ...]
    images: DataFrame
    preprocessing: Preprocessing
    unreadable: int

    def arrays(self, split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """A split on the driver: pixels (n, height, width, channels) and label indices (n,)."""
        rows = self.images.where(self.images.split == split).orderBy("digest").toArrow()
        shape = (
            -1,
            self.preprocessing.height,
            self.preprocessing.width,
            self.preprocessing.channels,
        )
        pixels = np.frombuffer(b"".join(rows["pixels"].to_pylist()), np.uint8).reshape(shape)
        return pixels, rows["label"].to_numpy()


def load(
    spark: SparkSession, folder: Path, preprocessing: Preprocessing, limits: Limits, seed: int
) -> Dataset:
    """Reads class folders; only Spark's workers decode.

    Args:
        spark: the session.
        folder: holds a folder of images for each class.
        preprocessing: the shape that the images are brought to.
        limits: what an image may weigh.
        seed: of the split, which follows from it and the images' content alone.

    Raises:
        InputError: there are fewer than two classes, a class folder is empty, or too many
            images cannot be read.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as F  # noqa: N812

    labels, files = _class_folders(folder)

    def decode(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        prepare_worker()
        for frame in frames:
            yield _decoded(frame, preprocessing, limits, seed)

    tasks = 2 * spark.sparkContext.defaultParallelism
    found = spark.createDataFrame(files, "path string, label int").repartition(tasks)
    decoded = found.mapInPandas(decode, "label int, pixels binary, digest string").cache()
    unreadable = decoded.where("pixels is null").count()
    if unreadable > UNREADABLE * len(files):
        raise InputError(
            f"{unreadable} of {len(files)} images in {folder} cannot be read; "
            "look at one with: sightstream predict"
        )
    rank = F.percent_rank().over(Window.partitionBy("label").orderBy("digest"))
    train, validation = SPLITS["train"], SPLITS["train"] + SPLITS["validation"]
    split = F.when(rank < train, "train").when(rank < validation, "validation").otherwise("test")
    once = decoded.where("pixels is not null").dropDuplicates(["digest"])
    return Dataset(labels, once.withColumn("split", split).cache(), preprocessing, unreadable)


def _class_folders(folder: Path) -> tuple[tuple[str, ...], list[tuple[str, int]]]:
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; give one that holds a folder for each class")
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(classes) < 2:
        raise InputError(f"{folder} holds {len(classes)} class folder(s); two or more are needed")
    files = [
        (str(path), label)
        for label, each in enumerate(classes)
        for path in sorted(each.rglob("*"))
        if path.is_file()
    ]
    empty = [c.name for label, c in enumerate(classes) if not any(f[1] == label for f in files)]
    if empty:
        raise InputError(f"no images in the class folder(s) {', '.join(empty)} of {folder}")
    return tuple(c.name for c in classes), files


def _decoded(
    frame: pd.DataFrame, preprocessing: Preprocessing, limits: Limits, seed: int
) -> pd.DataFrame:
    import pandas as pd

    rows: Iterable[tuple[int, bytes | None, str]] = (
        _row(path, label, preprocessing, limits, seed)
        for path, label in zip(frame["path"], frame["label"], strict=True)
    )
    return pd.DataFrame(rows, columns=["label", "pixels", "digest"])


def _row(
    path: str, label: int, preprocessing: Preprocessing, limits: Limits, seed: int
) -> tuple[int, bytes | None, str]:
    data = imaging.read(path, limits)
    if not isinstance(data, bytes):
        return label, None, ""
    image = imaging.decode(data, preprocessing, limits)
    digest = hashlib.sha256(f"{seed}:".encode() + data).hexdigest()
    return label, image.pixels.tobytes() if isinstance(image, Decoded) else None, digest
