"""From answers to results, which anybody gets, and to rows of the predictions table."""

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from sightstream.models.version import ServedModel
from sightstream.tables.schema import RESULT, ROW

_UTC = pa.timestamp("us", "UTC")


def results(answers: pa.Table, model: ServedModel) -> pa.Table:
    """Turn `schema.ANSWER` into `schema.RESULT`, with labels by name, one row for each answer."""
    answer = {name: answers[name].combine_chunks() for name in answers.column_names}
    top = _top(answer["classes"], answer["scores"], model.labels)
    best = pc.list_element(top, 0)
    columns = {
        **answer,
        "status": pc.if_else(pc.is_null(answer["error_code"]), "ok", "rejected"),
        "label": pc.struct_field(best, "label"),
        "score": pc.struct_field(best, "score"),
        "top": top,
        "model": pa.repeat(model.name, len(answers)),
        "model_version": pa.repeat(pa.scalar(model.version, pa.int64()), len(answers)),
    }
    return pa.table([columns[name] for name in RESULT.names], schema=RESULT)


def rows(events: pa.Table, answers: pa.Table, model: ServedModel, batch_id: int) -> pa.Table:
    """Turn `schema.EVENT`, and an answer of `schema.ANSWER` for each event, into `schema.ROW`."""
    if len(events) != len(answers):
        raise ValueError(f"{len(answers)} answers for {len(events)} events")
    for name in ("error_code", "error_detail", "bytes"):
        # The error of the arrival counts first, and the size of what was read.
        first, second = (answers, events) if name == "bytes" else (events, answers)
        column = pc.coalesce(first[name].combine_chunks(), second[name].combine_chunks())
        answers = answers.set_column(answers.column_names.index(name), name, column)
    time = pc.cast(pc.round(pc.multiply(events["event_time"], 1e6)), pa.int64()).cast(_UTC)
    count = len(events)
    columns = {
        **dict(zip(events.column_names, events.columns, strict=True)),
        **dict(zip(answers.column_names, answers.columns, strict=True)),
        **dict(zip(RESULT.names, results(answers, model).columns, strict=True)),
        "event_time": time,
        "processed_at": pa.repeat(pa.scalar(datetime.now(UTC), _UTC), count),
        "batch_id": pa.repeat(pa.scalar(batch_id, pa.int64()), count),
        "date": pc.cast(time, pa.date32()),
    }
    return pa.table([columns[name] for name in ROW.names], schema=ROW)


def _top(classes: pa.ListArray, scores: pa.ListArray, labels: tuple[str, ...]) -> pa.ListArray:
    pairs = pa.StructArray.from_arrays(
        [pa.array(labels).take(classes.flatten()), pc.cast(scores.flatten(), pa.float64())],
        ["label", "score"],
    )
    lengths = pc.fill_null(pc.list_value_length(classes), 0)
    ends = pc.cumulative_sum(lengths)
    offsets = pa.concat_arrays([pa.array([0], ends.type), ends]).cast(pa.int32())
    return pa.ListArray.from_arrays(offsets, pairs, mask=pc.is_null(classes))
