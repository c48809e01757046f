"""streaming.folder.assignment: which events of the manifests each task takes."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pandas as pd
import pytest

from streaming.folder.assignment import AssignedImages, Assignment, _new_turns, cuts, taken
from streaming.source import SMALL


@pytest.fixture
def images(settings):
    settings.images.mkdir(parents=True)
    return AssignedImages(settings.images, settings.manifests)


def task(number):
    return pd.DataFrame({"id": [number]})


def names(pieces):
    return [name for events, _ in pieces for name in events["original_name"].to_pylist()]


@pytest.mark.parametrize("tasks", [1, 2, 3, 7])
def test_shares_that_are_fixed_are_the_lines_in_their_order(manifest, images, tasks):
    for number, events in enumerate(("abc", "d", "efgh"), start=1):
        manifest(number, *events)
    assigned = Assignment({}, {"manifest": f"{3:020d}.arrow"}, 8, tasks).text()
    found = [list(images(task(number), assigned)) for number in range(tasks)]
    pieces = [piece for share in found for piece in share]
    assert names(pieces) == [*"abcdefgh"]
    assert [path for _, paths in pieces for path in paths] == [
        str(images.images / "day" / n) for n in "abcdefgh"
    ]
    sizes = [sum(len(paths) for _, paths in share) for share in found]
    assert max(sizes) - min(sizes) <= 1


def test_an_event_that_was_refused_has_no_image(manifest, images):
    end = manifest(1, "x", error_code="unreadable", error_detail="It is a pipe.")
    ((events, found),) = images(task(0), Assignment({}, end, 1, 1).text())
    assert found == [None]
    assert events["error_code"].to_pylist() == ["unreadable"]


def test_a_share_comes_in_pieces(manifest, images):
    end = manifest(1, *map(str, range(2500)))
    pieces = images(task(0), Assignment({}, end, 2500, 1).text())
    assert [len(paths) for _, paths in pieces] == [1024, 1024, 452]


@pytest.mark.parametrize(
    ("size", "tasks"), [(1, 2), (SMALL, 2), (SMALL + 1, 2), (1000, 2), (20_000, 2), (20_000, 64)]
)
def test_parts_hold_all_lines_and_are_small_at_the_end(size, tasks):
    parts = cuts(size, tasks)
    assert [line for first, last in parts for line in range(first, last)] == list(range(size))
    sizes = [last - first for first, last in parts]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) <= 1024
    assert size <= 4 or min(sizes) <= 4
    assert len(sizes) <= 30 * tasks


def test_what_one_task_has_taken_no_other_takes(tmp_path):
    turns = _new_turns(tmp_path)
    parts, together = [(n, n + 1) for n in range(5000)], Barrier(4)

    def take(number):
        together.wait()
        return list(taken(parts, turns, number))

    with ThreadPoolExecutor(4) as pool:
        found = [each.result() for each in [pool.submit(take, n) for n in range(4)]]
    assert sorted(part for each in found for part in each) == parts
    assert all(each == sorted(each) for each in found)


def test_a_task_that_is_ahead_leaves_less_to_the_others(manifest, images, tmp_path):
    end = manifest(1, *map(str, range(2500)))
    assigned = Assignment({}, end, 2500, 2).text(tmp_path)
    slow = iter(images(task(0), assigned))
    first = next(slow)
    quick = list(images(task(1), assigned))
    assert list(slow) == []
    assert sorted(names([first, *quick]), key=int) == list(map(str, range(2500)))


def test_a_task_of_a_job_that_failed_takes_nothing_from_the_next(manifest, images, tmp_path):
    end = manifest(1, *map(str, range(100)))
    late = Assignment({}, end, 100, 2).text(tmp_path)
    again = Assignment({}, end, 100, 2).text(tmp_path)
    with pytest.raises(FileNotFoundError):
        list(images(task(0), late))
    assert len(names(images(task(0), again))) == 100
    assert len(list(tmp_path.glob("turns-*"))) == 1


def test_a_task_that_is_tried_again_takes_what_it_had_taken_and_what_it_takes_since(tmp_path):
    turns = _new_turns(tmp_path)
    parts = [(n, n + 1) for n in range(9)]
    failed, other, again = (taken(parts, turns, number) for number in (0, 1, 0))
    next(failed), next(failed)
    counted = [next(other), next(again)]
    next(failed)  # Spark has given it up, which it has not noticed yet
    assert sorted([*counted, *again, *other]) == parts
