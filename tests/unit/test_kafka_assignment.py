"""streaming.kafka.assignment: the offsets that tasks take."""

import random

import pytest

from streaming.kafka.assignment import Assignment, Span, spans


def offsets(found):
    return [(number, n) for number, begin, end in found for n in range(begin, end)]


@pytest.mark.parametrize("seed", range(20))
def test_tasks_take_all_offsets_once_in_equal_shares(seed):
    chance = random.Random(seed)
    begins = {number: chance.randrange(10**6) for number in range(chance.randrange(1, 9))}
    ends = {number: begin + chance.randrange(50) for number, begin in begins.items()}
    tasks = chance.randrange(1, 9)
    work = Assignment.of(Assignment("@1", 1.5, tasks, spans(begins, ends)).text())
    shares = [offsets(work.share(task)) for task in range(tasks)]
    everything = [(number, n) for number in begins for n in range(begins[number], ends[number])]
    assert [each for share in shares for each in share] == everything
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert all(each.size > 0 for task in range(tasks) for each in work.share(task))


def test_a_new_partition_is_read_from_its_first_offset_and_a_shorter_one_not_at_all():
    assert spans({0: 5, 2: 9}, {2: 9, 1: 3, 0: 4}) == [Span(1, 0, 3)]


def test_an_assignment_is_the_same_after_its_way_to_a_worker():
    work = Assignment("@ab", 1_700_000_000.25, 3, [Span(0, 1, 2), Span(7, 0, 2**40)])
    assert Assignment.of(work.text()) == work
