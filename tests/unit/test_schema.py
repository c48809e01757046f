"""sightstream.tables.schema: what is written lies in files and tables, and may not change."""

import dataclasses

from sightstream.images.event import ImageEvent
from sightstream.scoring.classifier import Answer
from sightstream.tables.labels import Label
from sightstream.tables.schema import (
    ANSWER,
    EVENT,
    EVENT_COLUMNS,
    LABEL,
    RESULT,
    ROW,
    ddl,
)

TOP = "list<item: struct<label: string, score: double>>"
TIME = "timestamp[us, tz=UTC]"
WRITTEN = [
    ("event_id", "string", False), ("source", "string", False), ("uri", "string", True),
    ("original_name", "string", True), ("event_time", TIME, True), ("processed_at", TIME, False),
    ("status", "string", False), ("error_code", "string", True), ("error_detail", "string", True),
    ("label", "string", True), ("score", "double", True), ("top", TOP, True),
    ("model", "string", True), ("model_version", "int64", True), ("format", "string", True),
    ("width", "int32", True), ("height", "int32", True), ("bytes", "int64", True),
    ("decode_ms", "float", True), ("predict_ms", "float", True), ("batch_id", "int64", True),
    ("date", "date32[day]", False),
]  # fmt: skip
"""The columns of the tables that version 0.1.0 wrote."""


def names(made):
    return [field.name for field in dataclasses.fields(made)]


def test_tables_of_version_0_1_0_are_continued():
    assert [(f.name, str(f.type), f.nullable) for f in ROW][: len(WRITTEN)] == WRITTEN
    assert all(field.nullable for field in [*ROW][len(WRITTEN) :])


def test_what_came_later_is_last():
    assert ROW.names[len(WRITTEN) :] == ["also", "frame"]


def test_manifests_and_checkpoints_of_version_0_1_0_are_continued():
    assert ddl(EVENT_COLUMNS) == (
        "event_id string, source string, uri string, original_name string, event_time double, "
        "bytes long, error_code string, error_detail string"
    )
    assert [str(kind) for kind in EVENT.types] == [
        "string", "string", "string", "string", "double", "int64", "string", "string",
    ]  # fmt: skip


def test_each_record_has_the_fields_of_its_schema_in_order():
    assert (names(ImageEvent), names(Answer)) == (EVENT.names, ANSWER.names)
    assert names(Label) == LABEL.names


def test_a_result_is_a_part_of_a_row():
    assert all(ROW.field(name).type == RESULT.field(name).type for name in RESULT.names)
