"""tests.chaos.checker: each kind of difference is found, and none where there is none."""

from dataclasses import asdict, replace

import pytest

from tests.chaos.checker import (
    DEADLINE,
    SETTLED,
    Message,
    Row,
    differences,
    effects,
    excused,
    pauses,
)
from tests.chaos.ledger import Ledger, Sent

GOOD = Sent("a.png", "folder", "aa", 10, label="3")
BAD = Sent("b.png", "folder", "bb", 5, code="truncated")
MESSAGE = Sent("/cam#1", "kafka", "cc", 7, label="4")
ROWS = [
    Row("id-a", "a.png", "folder", "ok", "3", "", 10, 1, 0, "aa", seen=101.0),
    Row("id-b", "b.png", "folder", "rejected", "", "truncated", 5, 0, 0, "bb", seen=101.0),
    Row("/cam#1", "kafka://images/0/0", "kafka", "ok", "4", "", 7, 1, 0, seen=102.0),
]


def sent(image, at=100.0, kind="sent"):
    return {"kind": kind, "at": at, **asdict(image)}


def fault(name, begin, at, *, effect=True, delays=True, champions=None):
    return {
        "kind": "fault", "name": name, "begin": begin, "at": at, "did": "", "effect": effect,
        "delays": delays, "champions": champions,
    }  # fmt: skip


def promotion(version, at, labels=None):
    return {"kind": "promoted", "version": version, "at": at, "labels": labels or {}}


ENTRIES = [sent(GOOD), sent(BAD), sent(MESSAGE)]


def found(rows=ROWS, entries=ENTRIES, topic=None):
    return [each.partition(":")[0] for each in differences(rows, entries, topic)]


TOPIC = [Message(r.event_id, r.event_id, r.status, r.label, r.model_version) for r in ROWS]


def row(number, **changes):
    return [replace(each, **changes) if at == number else each for at, each in enumerate(ROWS)]


def test_what_was_sent_and_has_its_row_is_no_difference():
    assert found() == []
    assert found(topic=[*TOPIC, TOPIC[2]]) == []
    explained = {"kind": "ended", "at": 1.0, "code": -9, "said": "", "explained": True}
    assert found(entries=[*ENTRIES, explained]) == []


@pytest.mark.parametrize("number", range(3))
def test_an_image_without_its_row_is_lost(number):
    assert found([*ROWS[:number], *ROWS[number + 1 :]]) == ["lost"]


@pytest.mark.parametrize("number", range(3))
def test_an_image_with_two_rows_is_doubled(number):
    assert found([*ROWS, replace(ROWS[number], batch_id=1)]) == ["doubled"]


def test_a_row_that_nobody_sent_or_whose_transaction_was_aborted_is_invented():
    assert found(entries=ENTRIES[:2]) == ["invented"]
    assert found(entries=[*ENTRIES[:2], sent(MESSAGE, kind="aborted")]) == ["invented"]


def test_a_message_whose_answer_was_lost_has_a_row_or_none_but_never_two():
    unsure = [*ENTRIES[:2], sent(MESSAGE, kind="maybe")]
    assert found(entries=unsure) == found(ROWS[:2], unsure) == []
    assert found([*ROWS, ROWS[2]], unsure) == ["doubled"]


def test_a_message_whose_answer_was_lost_has_a_row_where_the_topic_has_it_and_else_none():
    unsure = [*ENTRIES[:2], sent(MESSAGE, kind="maybe")]
    there, away = ({"kind": "arrived", "at": 110.0, "ids": ids} for ids in ([MESSAGE.id], []))
    assert found(entries=[*unsure, there]) == found(ROWS[:2], [*unsure, away]) == []
    assert found(ROWS[:2], [*unsure, there]) == ["lost"]
    assert found(ROWS[:2], [*unsure, there, away]) == ["lost"]
    assert found(entries=[*unsure, away]) == ["invented"]
    assert excused(ROWS[:2], [*unsure, away])["were never committed"] == 1


def test_a_message_that_was_sent_again_and_arrived_must_have_its_row():
    again = [*ENTRIES[:2], sent(MESSAGE, kind="maybe"), sent(MESSAGE, at=105.0)]
    assert found(ROWS[:2], again) == ["lost"]


def test_a_message_that_was_deleted_may_have_no_row_unless_it_was_sent_again():
    deleted = {"kind": "deleted", "at": 103.0, "ids": [MESSAGE.id]}
    assert found(entries=[*ENTRIES, deleted]) == found(ROWS[:2], [*ENTRIES, deleted]) == []
    assert found(ROWS[:2], [*ENTRIES, deleted, sent(MESSAGE, at=105.0)]) == ["lost"]
    assert found([*ROWS, ROWS[2]], [*ENTRIES, deleted]) == ["doubled"]
    assert excused(ROWS[:2], [*ENTRIES, deleted])["were deleted unread"] == 1
    assert excused(ROWS, [*ENTRIES, deleted])["were deleted unread"] == 0


@pytest.mark.parametrize(
    "changes",
    [{"status": "rejected"}, {"label": "5"}, {"code": "crashed"}, {"bytes": 11}, {"sha256": "zz"}],
    ids=str,
)
def test_a_row_that_is_not_that_of_its_image_is_unlike(changes):
    assert found(row(0, **changes)) == ["unlike"]


def test_a_broken_image_that_is_classified_is_unlike():
    assert found(row(1, status="ok", label="3", code="", model_version=1)) == ["unlike"]


def test_a_version_that_comes_back_or_too_early_is_found():
    promoted = promotion(2, 101.5)
    later = Row("id-c", "c.png", "folder", "ok", "3", "", 10, 2, 1, "dd", seen=103.0)
    third = sent(Sent("c.png", "folder", "dd", 10, label="3"))
    assert found([*ROWS, later], [*ENTRIES, third, promoted]) == []
    assert found([*ROWS, replace(later, model_version=0)], [*ENTRIES, third])[0] == "backwards"
    assert found(row(2, model_version=2), [*ENTRIES, promoted | {"at": 110.0}]) == ["early"]


def test_a_version_that_was_never_to_answer_is_found():
    promoted = promotion(2, 90.0)
    assert found(row(2, model_version=2), [*ENTRIES, promoted]) == []
    assert found(row(2, model_version=2)) == ["unfit"]


def test_a_row_has_the_label_of_the_version_that_it_names():
    promoted = promotion(2, 90.0, {"3": "4", "4": "5"})
    assert found(row(2, model_version=2, label="5"), [*ENTRIES, promoted]) == []
    assert found(row(2, model_version=2), [*ENTRIES, promoted]) == ["unlike"]
    assert found(row(2, label="5"), [*ENTRIES, promoted]) == ["unlike"]


def start(begin, ready):
    told = {"home": "said"}
    return [{"kind": "started", "at": begin} | told, {"kind": "ready", "at": ready} | told]


LONG_AGO = 100.0 - SETTLED - 1


def test_an_image_that_is_sent_long_after_a_promotion_is_answered_by_that_version():
    new = row(0, model_version=2)[:1]
    old, entries = ROWS[:1], ENTRIES[:1]
    assert found(new, [*entries, promotion(2, LONG_AGO)]) == []
    assert found(old, [*entries, promotion(2, LONG_AGO)]) == ["stale"]
    assert found(old, [*entries, promotion(2, LONG_AGO + 2)]) == []
    assert found(new, [*entries, promotion(2, LONG_AGO), promotion(3, 98.0)]) == []


@pytest.mark.parametrize(
    ("more", "stale"),
    [
        ([fault("locked", LONG_AGO, LONG_AGO + 2, champions=0.0)], False),
        ([fault("locked", LONG_AGO, LONG_AGO + 2, champions=0.0, effect=False)], True),
        ([fault("kill", LONG_AGO, LONG_AGO + 2)], True),
        ([fault("locked", 20.0, 30.0, champions=0.0)], True),
        ([fault("hangs", 20.0, 30.0, champions=300.0)], False),
        (start(LONG_AGO - 5, LONG_AGO + 5), False),
        (start(LONG_AGO - 50, LONG_AGO - 5), True),
        (start(LONG_AGO + 5, LONG_AGO + 10), True),
    ],
)
def test_a_fault_of_the_registry_and_a_start_that_had_looked_before_hold_a_champion_up(more, stale):
    promoted = promotion(2, LONG_AGO)
    assert found(ROWS[:1], [*ENTRIES[:1], promoted, *more]) == ["stale"] * stale


def test_homes_may_see_a_new_champion_one_after_the_other():
    rows = [
        replace(ROWS[0], original_name=f"{name}.png", model_version=version, seen=seen)
        for name, version, seen in (("a-1", 2, 101.0), ("b-1", 1, 102.0), ("b-2", 2, 103.0))
    ]
    entries = [sent(replace(GOOD, id=row.original_name)) for row in rows]
    entries.append(promotion(2, 90.0))
    assert found(rows, entries) == []
    back = replace(rows[0], original_name="a-2.png", model_version=1, seen=104.0)
    assert found([*rows, back], [*entries, sent(replace(GOOD, id="a-2.png"))]) == ["backwards"]


def test_a_row_is_late_where_no_fault_holds_it_up():
    late = row(0, seen=100 + DEADLINE + 50)
    assert found(late) == ["late"]
    assert found(late, [*ENTRIES, fault("disk full", 110.0, 160.0)]) == []
    assert found(late, [*ENTRIES, fault("disk full", 110.0, 500.0)]) == []
    for changes in ({"effect": False}, {"delays": False}):
        assert found(late, [*ENTRIES, fault("none there", 110.0, 160.0, **changes)]) == ["late"]


def test_a_row_without_a_message_and_a_message_without_a_row_are_found():
    assert found(topic=TOPIC[:2]) == ["untold"]
    assert found(topic=[*TOPIC, replace(TOPIC[0], key="/cam#2")]) == ["untrue"]


@pytest.mark.parametrize(
    "changes",
    [{"event_id": "id-b"}, {"status": "ok"}, {"label": "9"}, {"model_version": 2}],
    ids=str,
)
def test_a_message_that_is_not_that_of_its_row_is_untrue(changes):
    number = 1 if "status" in changes else 0
    assert found(topic=[*TOPIC, replace(TOPIC[number], **changes)]) == ["untrue"]


def test_an_end_that_no_fault_explains_and_what_a_part_must_not_do_are_found():
    ended = {"kind": "ended", "at": 1.0, "code": 6, "said": "mv it", "explained": False}
    assert found(entries=[*ENTRIES, ended]) == ["ended"]
    assert found(entries=[*ENTRIES, {"kind": "wrong", "at": 1.0, "what": "two"}]) == ["wrong"]


def test_the_longest_wait_counts_for_the_fault_before_it():
    rows = [replace(ROWS[0], seen=112.0), replace(ROWS[2], seen=125.0)]
    entries = [
        sent(GOOD, at=104.0), sent(MESSAGE, at=106.0),
        fault("first", 105.0, 108.0), fault("second", 120.0, 123.0),
    ]  # fmt: skip
    assert pauses(rows, entries) == {"first": 8.0, "second": 17.0}
    assert pauses(rows, entries[:2]) == {"none": 19.0}
    without = fault("second", 120.0, 123.0, effect=False)
    assert pauses(rows, [*entries[:3], without]) == {"first": 19.0}
    assert effects([*entries, without]) == {"first": (1, 1), "second": (1, 2)}


def test_a_ledger_keeps_what_it_was_told(tmp_path):
    ledger = Ledger(tmp_path / "ledger")
    ledger.sent(GOOD)
    ledger.sent(MESSAGE, certain=False)
    ledger.aborted(BAD)
    ledger.ended(6, "no", explained=False)
    ledger.deleted([MESSAGE.id])
    told = ledger.entries()
    assert ledger.has_ended(6, since=told[0]["at"])
    assert not ledger.has_ended(6, since=told[-1]["at"])
    ledger.close()
    assert [each["kind"] for each in told] == ["sent", "maybe", "aborted", "ended", "deleted"]
    assert told[-1]["ids"] == [MESSAGE.id]
    assert told[0].items() >= asdict(GOOD).items()
    assert ledger.acknowledged == 1
