"""From answers to rows of the predictions table."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from sightstream.models.version import ServedModel
from sightstream.tables import predictions


def rows(events: pa.Table, answers: pa.Table, model: ServedModel, batch_id: int) -> pa.Table:
    """Brings a micro-batch into the table's columns.

    Args:
        events: the fields of `ImageEvent`.
        answers: `classifier.ANSWER`, one for each event, in their order.
        model: what answered.
        batch_id: the micro-batch.

    Returns:
        A table with `predictions.schema`, one row for each event.
    """
    if len(events) != len(answers):
        raise ValueError(f"{len(answers)} answers for {len(events)} events")
    answer = {name: answers[name].combine_chunks() for name in answers.column_names}
    code = pc.coalesce(events["error_code"].combine_chunks(), answer["error_code"])
    ok = pc.is_null(code)
    top = _top(answer["classes"], answer["scores"], model.labels)
    best = pc.list_element(top, 0)
    time = pc.cast(pc.round(pc.multiply(events["event_time"], 1e6)), pa.int64()).cast(_UTC)
    count = len(events)
    columns = {
        "event_id": events["event_id"],
        "source": events["source"],
        "uri": events["uri"],
        "original_name": events["original_name"],
        "event_time": time,
        "processed_at": pa.repeat(pa.scalar(datetime.now(UTC), _UTC), count),
        "status": pc.if_else(ok, "ok", "rejected"),
        "error_code": code,
        "error_detail": pc.coalesce(events["error_detail"], answer["error_detail"]),
        "label": pc.struct_field(best, "label"),
        "score": pc.struct_field(best, "score"),
        "top": top,
        "model": pa.repeat(model.name, count),
        "model_version": pa.repeat(pa.scalar(model.version, pa.int64()), count),
        "format": answer["format"],
        "width": answer["width"],
        "height": answer["height"],
        "bytes": pc.coalesce(answer["bytes"], events["bytes"]),
        "decode_ms": answer["decode_ms"],
        "predict_ms": answer["predict_ms"],
        "batch_id": pa.repeat(pa.scalar(batch_id, pa.int64()), count),
        "date": pc.cast(time, pa.date32()),
    }
    schema = predictions.schema()
    return pa.table([columns[field.name] for field in schema], schema=schema)


_UTC = pa.timestamp("us", "UTC")


def _top(classes: pa.ListArray, scores: pa.ListArray, labels: tuple[str, ...]) -> pa.ListArray:
    pairs = pa.StructArray.from_arrays(
        [pa.array(labels).take(classes.flatten()), pc.cast(scores.flatten(), pa.float64())],
        ["label", "score"],
    )
    lengths = pc.fill_null(pc.list_value_length(classes), 0)
    ends = pc.cumulative_sum(lengths)
    offsets = pa.concat_arrays([pa.array([0], ends.type), ends]).cast(pa.int32())
    return pa.ListArray.from_arrays(offsets, pairs, mask=pc.is_null(classes))
