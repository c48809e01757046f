"""Every column of events, answers, results, rows and labels, once; all schemas follow from here."""

from collections.abc import Iterable
from typing import NamedTuple

import pyarrow as pa

TOP = pa.list_(pa.struct([pa.field("label", pa.string()), pa.field("score", pa.float64())]))

ALSO = pa.list_(pa.struct([
    pa.field("model", pa.string()), pa.field("version", pa.int64()),
    pa.field("alias", pa.string()), pa.field("label", pa.string()),
    pa.field("score", pa.float64()), pa.field("top", TOP),
]))  # fmt: skip
"""Answers of the other models: an element each, whose label is null where it gave none."""

_TYPES = {
    "string": pa.string(), "time": pa.timestamp("us", "UTC"), "date": pa.date32(), "top": TOP,
    "also": ALSO,
    "double": pa.float64(), "float": pa.float32(), "int": pa.int32(), "long": pa.int64(),
    "ints": pa.list_(pa.int32()), "floats": pa.list_(pa.float32()),
}  # fmt: skip

_SPARK = {
    "time": "timestamp", "top": "array<struct<label: string, score: double>>",
    "ints": "array<int>", "floats": "array<float>",
}  # fmt: skip


class Column(NamedTuple):
    """A column; `kind` is a key of `_TYPES`, and `meaning` the comment on it in a Delta table."""

    name: str
    kind: str
    meaning: str
    required: bool = False


_ARRIVAL = (
    Column("event_id", "string", "the image's arrival; one row each", True),
    Column("source", "string", "the image's way here: folder, bucket, kafka or backfill", True),
    Column("uri", "string", "where the image's bytes are"),
    Column("original_name", "string", "the path below the inbox, or as the message says"),
)
_ARRIVED_AT = Column("event_time", "double", "when the image arrived, seconds since the epoch")
_ERROR = (
    Column("error_code", "string", "why it was rejected, for machines"),
    Column("error_detail", "string", "why it was rejected, in a sentence"),
)
_STATUS = Column("status", "string", "ok or rejected", True)
_LABEL = (
    Column("label", "string", "the best label"),
    Column("score", "double", "the best label's score, 0 to 1"),
    Column("top", "top", "the best labels with their scores, best first"),
)
_MODEL = (
    Column("model", "string", "the registered model that answered"),
    Column("model_version", "long", "its version in the registry"),
)
_SHAPE = (
    Column("format", "string", "the image's format, such as JPEG"),
    Column("width", "int", "pixels, as a person sees the image"),
    Column("height", "int", "pixels, as a person sees the image"),
)
_BYTES = Column("bytes", "long", "the image's size")
_MILLISECONDS = (
    Column("decode_ms", "float", "time to read, decode and resize it, milliseconds"),
    Column("predict_ms", "float", "its share of the time to run the model, milliseconds"),
)
_SCORES = (
    Column("classes", "ints", "indices of the best labels, best first"),
    Column("scores", "floats", "probabilities of the best labels, best first"),
)
_STATISTICS = (
    Column("brightness", "float", "mean of its pixels, 0 to 1"),
    Column("contrast", "float", "standard deviation of its pixels, 0 to 1"),
    Column("sharpness", "float", "mean difference of neighbouring pixels, 0 to 1"),
)
_ROW_TIMES = (
    Column("event_time", "time", "when the image arrived, UTC"),
    Column("processed_at", "time", "when its micro-batch was ready to be committed, UTC", True),
)
_COMMIT = (
    Column("batch_id", "long", "the micro-batch that it was part of"),
    Column("date", "date", "the day of event_time, UTC; the table's partition", True),
)
_FRAME = Column("frame", "int", "the number of the frame that it shows, where each is a row")
_ALSO = Column("also", "also", "the answers of the other models that were asked")
_FAULT = Column("fault", "string", "why another model that was asked gave no answer")
_LABELLED = (
    Column("event_id", "string", "the image's row in the predictions; the newest row of an id "
           "counts", True),
    Column("label", "string", "what the image shows; null: the label was withdrawn"),
    Column("labelled_at", "time", "when it was said, UTC", True),
    Column("labelled_by", "string", "who said it", True),
)  # fmt: skip


def _arrow(columns: Iterable[Column]) -> pa.Schema:
    return pa.schema(pa.field(each.name, _TYPES[each.kind]) for each in columns)


def _delta(columns: Iterable[Column]) -> pa.Schema:
    return pa.schema(
        pa.field(each.name, _TYPES[each.kind], not each.required, {"comment": each.meaning})
        for each in columns
    )


def ddl(columns: Iterable[Column]) -> str:
    """Return columns as Spark's DDL."""
    return ", ".join(f"{each.name} {_SPARK.get(each.kind, each.kind)}" for each in columns)


EVENT_COLUMNS = (*_ARRIVAL, _ARRIVED_AT, _BYTES, *_ERROR)
"""Columns of an image's arrival, in the order of `ImageEvent`."""

RESULT_COLUMNS = (_STATUS, *_ERROR, *_LABEL, *_MODEL, *_SHAPE)
"""Columns that `sightstream.classify` adds to anybody's rows."""

ROW_COLUMNS = (
    *_ARRIVAL, *_ROW_TIMES, *RESULT_COLUMNS, _BYTES, *_MILLISECONDS, *_COMMIT, _ALSO, _FRAME,
)  # fmt: skip
"""Columns of the predictions table."""

EVENT = _arrow(EVENT_COLUMNS)
"""Schema of an image's arrival, in manifests and on its way through the workers."""

ANSWER = _arrow((*_ERROR, *_SCORES, *_SHAPE, _BYTES, *_MILLISECONDS, *_STATISTICS, _FRAME))
"""Schema of a classifier's answers, in the order of `scoring.classifier.Answer`."""

OTHER = _arrow((*_SCORES, _FAULT))
"""Schema of what another model answers beside the first one."""

RESULT = _arrow(RESULT_COLUMNS)
ROW = _delta(ROW_COLUMNS)
LATER = _delta([_ALSO, _FRAME])
"""Columns of rows that tables of the first releases lack."""

LABEL = _delta(_LABELLED)
"""Schema of the labels table, in the order of `tables.labels.Label`."""

LARGE = ("top", "also")
"""Columns that lists of rows leave out."""

ANSWERED = tuple(each.name for each in (_STATUS, *_LABEL, *_MODEL, *_MILLISECONDS, _ALSO))
"""Columns of a row that are of no interest where the image was rejected."""
