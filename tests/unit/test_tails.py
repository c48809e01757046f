"""streaming.bucket.tails: behind which keys a look lists."""

from streaming.bucket.store import Object
from streaming.bucket.tails import MOST, Tails


def page(*keys, modified=1.0):
    return [Object(key, "1", 9, modified) for key in sorted(keys)]


def test_without_objects_the_inbox_is_listed_from_its_beginning():
    assert list(Tails("in/")) == [("in/", "")]
    assert list(Tails("")) == [("", "")]


def test_rising_names_are_one_listing():
    tails = Tails("in/")
    tails.note(page("in/2026/11/27/a", "in/2026/11/28/b", "in/2026/11/28/c"))
    assert set(tails) == {("in/2026/11/27/", "in/2026/11/27/a"), ("in/", "in/2026/11/28/c")}


def test_each_camera_has_a_tail_of_its_own_and_of_its_next_day():
    tails = Tails("")
    tails.note(page("cam-1/28/b", "cam-2/28/a"))
    assert set(tails) == {("cam-1/", "cam-1/28/b"), ("", "cam-2/28/a")}


def test_keys_without_a_folder_and_with_empty_folders_have_a_tail():
    tails = Tails("")
    tails.note(page("a"))
    tails.note(page("/b", "//c"))
    assert set(tails) == {("", "a"), ("/", "/b"), ("//", "//c")}


def test_a_tail_never_goes_back():
    tails = Tails("in/")
    tails.note(page("in/m"))
    tails.note(page("in/b"))
    assert list(tails) == [("in/", "in/m")]


def test_the_folders_that_objects_last_came_into_are_kept_and_the_inbox():
    tails = Tails("in/")
    for number in range(500):
        tails.note(page(f"in/{number:03}/a", modified=float(1000 - number)))
    found = list(tails)
    assert len(found) <= MOST + 1
    assert ("in/", "in/499/a") in found
    assert ("in/000/", "in/000/a") in found
