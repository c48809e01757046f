"""Statistics of a model's training images, with which the stream compares what it receives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sightstream.images.decode import Preprocessing
from sightstream.models import drift
from sightstream.models.drift import Reference
from training.datasets import Dataset

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK_IMAGES = 64  # images whose statistics are computed at once


def of(dataset: Dataset, scores: NDArray[np.float32]) -> Reference:
    """Distributions of labels and image statistics of the split train, and of scores.

    Spark's workers compute the statistics from the pixels in their cache. `scores` are the best
    scores of held-out images, (n,): on its training images a model is too sure.
    """
    preprocessing = dataset.preprocessing

    def measure(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for start in range(0, batch.num_rows, CHUNK_IMAGES):
                yield _statistics(batch.slice(start, CHUNK_IMAGES), preprocessing)

    columns = "label int, brightness float, contrast float, sharpness float, size float"
    images = dataset.split("train").select("label", "width", "height", "pixels")
    found = images.mapInArrow(measure, columns).toArrow()
    values = {name: found[name].to_numpy() for name in found.column_names if name != "label"}
    labels = np.bincount(found["label"].to_numpy(), minlength=len(dataset.labels))
    return Reference.of({**values, "score": scores}, {"label": labels.tolist()})


def _statistics(batch: pa.RecordBatch, preprocessing: Preprocessing) -> pa.RecordBatch:
    import pyarrow as pa

    flat = np.frombuffer(b"".join(batch["pixels"].to_pylist()), np.uint8)
    seen = drift.statistics(flat.reshape(-1, *preprocessing.shape))
    size = drift.size(batch["width"].to_numpy(), batch["height"].to_numpy())
    columns = [batch["label"], *(pa.array(column) for column in seen.T), pa.array(size)]
    names = ["label", "brightness", "contrast", "sharpness", "size"]
    return pa.RecordBatch.from_arrays(columns, names)
