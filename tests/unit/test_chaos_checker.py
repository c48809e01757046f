"""tests.chaos.checker: each kind of difference is found, and none where there is none."""

from dataclasses import asdict, replace

import pytest

from tests.chaos.checker import DEADLINE, Row, differences, pauses
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


def fault(name, begin, at):
    return {"kind": "fault", "name": name, "begin": begin, "at": at, "did": ""}


ENTRIES = [sent(GOOD), sent(BAD), sent(MESSAGE)]


def found(rows=ROWS, entries=ENTRIES, topic=None):
    return [each.partition(":")[0] for each in differences(rows, entries, topic)]


def row(number, **changes):
    return [replace(each, **changes) if at == number else each for at, each in enumerate(ROWS)]


def test_what_was_sent_and_has_its_row_is_no_difference():
    assert found() == []
    assert found(topic=["id-a", "id-b", "/cam#1", "/cam#1"]) == []
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


def test_a_message_that_was_sent_again_and_arrived_must_have_its_row():
    again = [*ENTRIES[:2], sent(MESSAGE, kind="maybe"), sent(MESSAGE, at=105.0)]
    assert found(ROWS[:2], again) == ["lost"]


def test_a_message_that_was_deleted_may_have_no_row_unless_it_was_sent_again():
    deleted = {"kind": "deleted", "at": 103.0, "ids": [MESSAGE.id]}
    assert found(entries=[*ENTRIES, deleted]) == found(ROWS[:2], [*ENTRIES, deleted]) == []
    assert found(ROWS[:2], [*ENTRIES, deleted, sent(MESSAGE, at=105.0)]) == ["lost"]
    assert found([*ROWS, ROWS[2]], [*ENTRIES, deleted]) == ["doubled"]


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
    promoted = {"kind": "promoted", "at": 101.5, "version": 2}
    later = Row("id-c", "c.png", "folder", "ok", "3", "", 10, 2, 1, "dd", seen=103.0)
    third = sent(Sent("c.png", "folder", "dd", 10, label="3"))
    assert found([*ROWS, later], [*ENTRIES, third, promoted]) == []
    assert found([*ROWS, replace(later, model_version=0)], [*ENTRIES, third])[0] == "backwards"
    assert found(row(2, model_version=2), [*ENTRIES, promoted | {"at": 110.0}]) == ["early"]


def test_a_version_that_was_never_to_answer_is_found():
    promoted = {"kind": "promoted", "at": 90.0, "version": 2}
    assert found(row(2, model_version=2), [*ENTRIES, promoted]) == []
    assert found(row(2, model_version=2)) == ["unfit"]


def test_homes_may_see_a_new_champion_one_after_the_other():
    rows = [
        replace(ROWS[0], original_name=f"{name}.png", model_version=version, seen=seen)
        for name, version, seen in (("a-1", 2, 101.0), ("b-1", 1, 102.0), ("b-2", 2, 103.0))
    ]
    entries = [sent(replace(GOOD, id=row.original_name)) for row in rows]
    entries.append({"kind": "promoted", "at": 90.0, "version": 2})
    assert found(rows, entries) == []
    back = replace(rows[0], original_name="a-2.png", model_version=1, seen=104.0)
    assert found([*rows, back], [*entries, sent(replace(GOOD, id="a-2.png"))]) == ["backwards"]


def test_a_row_is_late_where_no_fault_holds_it_up():
    late = row(0, seen=100 + DEADLINE + 50)
    assert found(late) == ["late"]
    assert found(late, [*ENTRIES, fault("disk full", 110.0, 160.0)]) == []
    assert found(late, [*ENTRIES, fault("disk full", 110.0, 500.0)]) == []


def test_a_row_without_a_message_and_a_message_without_a_row_are_found():
    assert found(topic=["id-a", "id-b"]) == ["untold"]
    assert found(topic=["id-a", "id-b", "/cam#1", "/cam#2"]) == ["untrue"]


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


def test_a_ledger_keeps_what_it_was_told(tmp_path):
    ledger = Ledger(tmp_path / "ledger")
    ledger.sent(GOOD)
    ledger.sent(MESSAGE, certain=False)
    ledger.aborted(BAD)
    ledger.ended(6, "no", explained=False)
    ledger.deleted({})
    told = ledger.entries()
    assert ledger.has_ended(6, since=told[0]["at"])
    assert not ledger.has_ended(6, since=told[-1]["at"])
    ledger.close()
    assert [each["kind"] for each in told] == ["sent", "maybe", "aborted", "ended", "deleted"]
    assert told[-1]["ids"] == [MESSAGE.id]
    assert told[0].items() >= asdict(GOOD).items()
    assert ledger.acknowledged == 1
