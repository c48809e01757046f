"""From answers to results, which anybody gets, and to rows of the predictions table."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sightstream.models.version import ServedModel
from sightstream.tables.schema import ALSO, RESULT, ROW

_UTC = pa.timestamp("us", "UTC")


class Other(NamedTuple):
    """What another model answered beside the first one: `schema.OTHER`, a row for each event."""

    model: ServedModel
    alias: str
    answers: pa.Table


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


def rows(
    events: pa.Table, answers: pa.Table, model: ServedModel, batch_id: int,
    others: Sequence[Other] = (), canary: float = 0.0,
) -> pa.Table:  # fmt: skip
    """Turn `schema.EVENT`, and an answer of `schema.ANSWER` for each event, into `schema.ROW`.

    For a share of the events, `canary`, the first of the others takes the first model's place.
    """
    if len(events) != len(answers):
        raise ValueError(f"{len(answers)} answers for {len(events)} events")
    for name in ("error_code", "error_detail", "bytes"):
        # The error of the arrival counts first, and the size of what was read.
        first, second = (answers, events) if name == "bytes" else (events, answers)
        column = pc.coalesce(first[name].combine_chunks(), second[name].combine_chunks())
        answers = answers.set_column(answers.column_names.index(name), name, column)
    time = pc.cast(pc.round(pc.multiply(events["event_time"], 1e6)), pa.int64()).cast(_UTC)
    count, result = len(events), results(answers, model)
    chosen = _chosen(events["event_id"], canary) if others and canary else np.zeros(count, bool)
    result, given = _exchanged(result, [_given(each) for each in others], chosen)
    columns = {
        **dict(zip(events.column_names, events.columns, strict=True)),
        **dict(zip(answers.column_names, answers.columns, strict=True)),
        **dict(zip(RESULT.names, result.columns, strict=True)),
        "event_time": time,
        "processed_at": pa.repeat(pa.scalar(datetime.now(UTC), _UTC), count),
        "batch_id": pa.repeat(pa.scalar(batch_id, pa.int64()), count),
        "date": pc.cast(time, pa.date32()),
        "also": _also(given, result["status"]),
    }
    return pa.table([columns[name] for name in ROW.names], schema=ROW)


def _chosen(event_ids: pa.ChunkedArray, share: float) -> NDArray[np.bool_]:
    """Choose a share of the events by a hash of their ids, the same ones each time."""
    digests = b"".join(
        hashlib.blake2b(each.encode(), digest_size=8).digest() for each in event_ids.to_pylist()
    )
    return np.frombuffer(digests, ">u8") < share * 2**64


def _given(other: Other) -> pa.Table:
    """Return what another model answered in the columns of `ALSO`."""
    answers, count = other.answers, len(other.answers)
    top = _top(
        answers["classes"].combine_chunks(), answers["scores"].combine_chunks(), other.model.labels
    )
    best = pc.list_element(top, 0)
    columns = [
        pa.repeat(other.model.name, count),
        pa.repeat(pa.scalar(other.model.version, pa.int64()), count),
        pa.repeat(other.alias, count),
        pc.struct_field(best, "label"), pc.struct_field(best, "score"), top,
    ]  # fmt: skip
    return pa.table(columns, pa.schema(list(ALSO.value_type)))


def _exchanged(
    result: pa.Table, given: list[pa.Table], chosen: NDArray[np.bool_]
) -> tuple[pa.Table, list[pa.Table]]:
    """Exchange the first model's answer with the first other's in chosen rows that have both."""
    if not chosen.any():
        return result, given
    other = given[0]
    both = pc.and_(pa.array(chosen), pc.is_valid(other["label"].combine_chunks()))
    both = pc.and_(both, pc.is_valid(result["label"].combine_chunks()))
    alias = pc.if_else(both, "champion", other["alias"].combine_chunks())
    other = other.set_column(other.column_names.index("alias"), "alias", alias)
    pairs = {"model": "model", "model_version": "version"} | {
        name: name for name in ("label", "score", "top")
    }
    for mine, theirs in pairs.items():
        a, b = result[mine].combine_chunks(), other[theirs].combine_chunks()
        result = result.set_column(
            result.column_names.index(mine), RESULT.field(mine), pc.if_else(both, b, a)
        )
        other = other.set_column(other.column_names.index(theirs), theirs, pc.if_else(both, a, b))
    return result, [other, *given[1:]]


def _also(given: list[pa.Table], status: pa.ChunkedArray) -> pa.Array:
    """Return the others' answers for each image that was classified, in the order of the models."""
    count, many = len(status), len(given)
    if not many:
        return pa.nulls(count, ALSO)
    ok = pc.equal(status, "ok").combine_chunks()
    one_after_the_other = pa.concat_tables(given).to_struct_array().combine_chunks()
    kept = np.flatnonzero(ok.to_numpy(zero_copy_only=False))
    places = (kept[:, None] + count * np.arange(many)).ravel()
    offsets = np.concatenate([[0], np.cumsum(many * ok.to_numpy(zero_copy_only=False))])
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), one_after_the_other.take(pa.array(places)),
        mask=pc.invert(ok),
    ).cast(ALSO)  # fmt: skip


def _top(classes: pa.ListArray, scores: pa.ListArray, labels: tuple[str, ...]) -> pa.ListArray:
    pairs = pa.StructArray.from_arrays(
        [pa.array(labels).take(classes.flatten()), pc.cast(scores.flatten(), pa.float64())],
        ["label", "score"],
    )
    lengths = pc.fill_null(pc.list_value_length(classes), 0)
    ends = pc.cumulative_sum(lengths)
    offsets = pa.concat_arrays([pa.array([0], ends.type), ends]).cast(pa.int32())
    return pa.ListArray.from_arrays(offsets, pairs, mask=pc.is_null(classes))
