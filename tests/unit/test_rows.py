"""sightstream.tables.rows: from events with their answers to rows of the table."""

from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from sightstream.images.decode import Preprocessing
from sightstream.images.event import ImageEvent
from sightstream.models.version import ServedModel
from sightstream.scoring import udf
from sightstream.scoring.classifier import Answer
from sightstream.tables.rows import Other, rows
from sightstream.tables.schema import ANSWER, EVENT, OTHER, ROW

MODEL = ServedModel("animals", 7, ("cat", "dog", "owl"), Preprocessing(8, 8), "onnx", b"")
ARRIVED = datetime(2025, 11, 21, 23, 59, 59, 123456, UTC)

CAT = Answer(
    classes=[0, 2], scores=[0.75, 0.25], format="JPEG", width=40, height=30, bytes=999,
    decode_ms=1.5, predict_ms=0.5,
)  # fmt: skip
TORN = Answer(
    "truncated", "The file ends early.", format="PNG", width=4, height=3, bytes=12, decode_ms=1.0
)
GONE = Answer("not_found", "There is no such file.", decode_ms=0.25)


def event(name, **changes):
    fields = {
        "event_id": f"id of {name}", "source": "folder", "uri": f"file:///images/{name}",
        "original_name": name, "event_time": ARRIVED.timestamp(), "bytes": 5,
        "error_code": None, "error_detail": None,
    }  # fmt: skip
    return ImageEvent(**{**fields, **changes})


def answered(*pairs):
    events = pa.Table.from_pylist([vars(event) for event, _ in pairs], EVENT)
    return events, udf.table([answer for _, answer in pairs])


def row(event, answer):
    (made,) = rows(*answered((event, answer)), MODEL, 3).to_pylist()
    return made


def test_the_table_has_the_schema_of_the_predictions():
    made = rows(*answered((event("a"), CAT), (event("b"), TORN)), MODEL, 3)
    assert made.schema.equals(ROW, check_metadata=True)
    assert made.num_rows == 2


def test_an_image_that_was_classified():
    made = row(event("sub/a cat.jpg"), CAT)
    assert made["status"] == "ok"
    assert (made["label"], made["score"]) == ("cat", 0.75)
    assert made["top"] == [{"label": "cat", "score": 0.75}, {"label": "owl", "score": 0.25}]
    assert (made["model"], made["model_version"], made["batch_id"]) == ("animals", 7, 3)
    assert (made["format"], made["width"], made["height"], made["bytes"]) == ("JPEG", 40, 30, 999)
    assert (made["decode_ms"], made["predict_ms"]) == (1.5, 0.5)
    assert made["error_code"] is made["error_detail"] is None
    assert made["event_id"] == "id of sub/a cat.jpg"
    assert made["uri"] == "file:///images/sub/a cat.jpg"
    assert made["original_name"] == "sub/a cat.jpg"


def test_the_times():
    before = datetime.now(UTC)
    made = row(event("a"), CAT)
    assert made["event_time"] == ARRIVED
    assert made["date"] == date(2025, 11, 21)
    assert before - timedelta(milliseconds=1) <= made["processed_at"] <= datetime.now(UTC)


def test_an_image_that_was_not_decoded():
    made = row(event("a"), TORN)
    assert (made["status"], made["error_code"]) == ("rejected", "truncated")
    assert made["error_detail"] == "The file ends early."
    assert made["label"] is made["score"] is made["top"] is made["predict_ms"] is None
    assert (made["format"], made["width"], made["height"], made["bytes"]) == ("PNG", 4, 3, 12)


def test_an_image_that_was_not_read_keeps_the_size_it_arrived_with():
    made = row(event("a"), GONE)
    assert (made["error_code"], made["bytes"]) == ("not_found", 5)
    assert made["format"] is made["width"] is made["height"] is None


def test_an_arrival_that_was_refused_keeps_its_reason():
    refused = event("a", error_code="unreadable", error_detail="It is a symbolic link.")
    made = row(refused, Answer())
    assert (made["status"], made["error_code"]) == ("rejected", "unreadable")
    assert made["error_detail"] == "It is a symbolic link."
    assert made["label"] is made["top"] is None


@pytest.mark.parametrize("order", [(CAT, TORN, GONE, CAT), (TORN, CAT, GONE), (GONE, GONE, CAT)])
def test_each_row_gets_its_own_answer(order):
    pairs = [(event(f"{n}"), answer) for n, answer in enumerate(order)]
    made = rows(*answered(*pairs), MODEL, 3).to_pylist()
    assert [r["original_name"] for r in made] == [f"{n}" for n in range(len(order))]
    assert [r["label"] for r in made] == ["cat" if a is CAT else None for a in order]
    assert [r["error_code"] for r in made] == [a.error_code for a in order]


def test_a_table_in_several_pieces_is_one():
    pieces = answered((event("a"), TORN)), answered((event("b"), CAT))
    made = rows(*map(pa.concat_tables, zip(*pieces, strict=True)), MODEL, 3)
    assert made["label"].to_pylist() == [None, "cat"]


def test_a_micro_batch_in_which_all_was_rejected():
    made = rows(*answered((event("a"), TORN), (event("b"), GONE)), MODEL, 3)
    assert made["status"].to_pylist() == ["rejected", "rejected"]
    assert made["top"].to_pylist() == [None, None]


def test_an_empty_micro_batch():
    made = rows(*answered(), MODEL, 3)
    assert made.num_rows == 0
    assert made.schema.equals(ROW)


def test_answers_are_as_many_as_events():
    events, answers = answered((event("a"), CAT), (event("b"), TORN))
    with pytest.raises(ValueError, match="1 answers for 2 events"):
        rows(events, answers.slice(1), MODEL, 3)


def test_answers_come_back_piece_by_piece():
    first, second = udf.table([CAT, TORN, GONE]), udf.table([GONE, CAT])
    pieces = pa.chunked_array([[udf.packed(first)], [udf.packed(second)]])
    unpacked = udf.unpacked(pieces, ANSWER)
    assert unpacked.equals(pa.concat_tables([first, second]))


SHADOW = ServedModel("animals", 8, ("cat", "dog", "owl"), Preprocessing(8, 8), "onnx", b"")
PESTS = ServedModel("pests", 2, ("mite", "aphid"), Preprocessing(9, 9), "onnx", b"")


def given(model, alias, *answers):
    """What a model answered: (classes, scores), or the reason why it did not."""
    columns = [
        [None if isinstance(each, str) or not each else each[n] for each in answers] for n in (0, 1)
    ]
    faults = [each if isinstance(each, str) else None for each in answers]
    return Other(model, alias, pa.table([*columns, faults], OTHER))


def several(canary=0.0):
    """A cat, an image that was not decoded, and a cat for which the shadow gave no answer."""
    shadow = given(SHADOW, "challenger", ([1, 0], [0.625, 0.375]), None, "timeout")
    pests = given(PESTS, "champion", ([1], [0.875]), None, ([0], [0.5]))
    pairs = answered((event("a"), CAT), (event("b"), TORN), (event("c"), CAT))
    made = rows(*pairs, MODEL, 3, [shadow, pests], canary)
    assert made.schema.equals(ROW, check_metadata=True)
    return made.to_pylist()


def test_the_answers_of_other_models_are_in_the_same_row():
    first, torn, missed = several()
    assert (first["label"], first["model_version"]) == ("cat", 7)
    dog = [{"label": "dog", "score": 0.625}, {"label": "cat", "score": 0.375}]
    assert first["also"] == [
        {"model": "animals", "version": 8, "alias": "challenger", "label": "dog", "score": 0.625,
         "top": dog},
        {"model": "pests", "version": 2, "alias": "champion", "label": "aphid", "score": 0.875,
         "top": [{"label": "aphid", "score": 0.875}]},
    ]  # fmt: skip
    assert torn["also"] is None
    assert [each["label"] for each in missed["also"]] == [None, "mite"]
    assert row(event("a"), CAT)["also"] is None


def test_a_canary_takes_the_place_of_the_first_model_where_it_answered():
    before, after = several(), several(canary=1.0)
    first, torn, missed = after
    assert (first["label"], first["score"], first["model_version"]) == ("dog", 0.625, 8)
    assert first["top"] == before[0]["also"][0]["top"]
    other, pests = first["also"]
    assert (other["model"], other["version"], other["alias"]) == ("animals", 7, "champion")
    assert (other["label"], other["top"]) == ("cat", before[0]["top"])
    assert pests == before[0]["also"][1]
    for old, new in zip(before[1:], (torn, missed), strict=True):
        assert {**old, "processed_at": 0} == {**new, "processed_at": 0}


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_the_canarys_share_is_chosen_by_the_event_id(share):
    count = 4000
    pairs = [(event(f"{n}"), CAT) for n in range(count)]
    shadow = given(SHADOW, "challenger", *[([1], [0.5])] * count)
    one, two = (
        rows(*answered(*order), MODEL, 3, [shadow], share).to_pylist()
        for order in (pairs, pairs[::-1])
    )
    chosen = {row["event_id"] for row in one if row["model_version"] == 8}
    assert abs(len(chosen) / count - share) < 0.02
    assert chosen == {row["event_id"] for row in two if row["model_version"] == 8}
