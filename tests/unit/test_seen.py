"""streaming.bucket.seen: what was taken, across starts, crashes and full listings."""

import random

import pytest

from streaming.bucket import seen as module
from streaming.bucket.seen import WIDTH, Seen, digest


@pytest.fixture
def file(tmp_path):
    return tmp_path / "taken"


def digests(*names):
    return [digest(f"s3://photos/{name}#1") for name in names]


def full_listing(seen, *names):
    seen.unknown(digests(*names))
    return seen.listed()


def test_what_was_taken_is_known_at_once_and_after_a_start(file):
    seen = Seen(file)
    assert seen.unknown(digests("a", "b")) == [True, True]
    seen.add(digests("a"))
    assert seen.unknown(digests("a", "b")) == [False, True]
    assert Seen(file).unknown(digests("a", "b")) == [False, True]


def test_another_version_is_not_known(file):
    seen = Seen(file)
    seen.add([digest('s3://photos/a#"1"')])
    assert seen.unknown([digest('s3://photos/a#"2"')]) == [True]


def test_an_end_that_a_crash_cut_short_is_dropped_and_written_anew(file):
    Seen(file).add(digests("a", "b"))
    file.write_bytes(file.read_bytes()[: WIDTH + 5])
    seen = Seen(file)
    assert seen.unknown(digests("a", "b")) == [False, True]
    seen.add(digests("b", "c"))
    assert Seen(file).unknown(digests("a", "b", "c")) == [False] * 3


def test_what_two_full_listings_do_not_show_is_forgotten(file):
    seen = Seen(file)
    seen.add(digests("a", "b"))
    assert [full_listing(seen, "a"), full_listing(seen, "a")] == [0, 0]
    assert seen.unknown(digests("b")) == [False]  # which shows it again
    assert [full_listing(seen, "a") for _ in range(3)] == [0, 0, 1]
    assert seen.unknown(digests("a", "b")) == [False, True]
    assert Seen(file).unknown(digests("a", "b")) == [False, True]


def test_listings_that_show_nothing_forget_nothing(file):
    seen = Seen(file)
    seen.add(digests("a"))
    assert [full_listing(seen), full_listing(seen), full_listing(seen)] == [0, 0, 0]
    assert seen.unknown(digests("a")) == [False]


def test_where_the_disk_was_full_what_was_noted_is_written_later(file):
    seen = Seen(file)
    seen.add(digests("a"))
    file.rename(file.with_name("aside"))
    with pytest.raises(FileNotFoundError):  # as good as any other failure to write
        seen.add(digests("b"))
    assert seen.unknown(digests("b")) == [False]
    file.with_name("aside").rename(file)
    file.write_bytes(file.read_bytes() + b"cut")
    seen.write()
    assert Seen(file).unknown(digests("a", "b", "c")) == [False, False, True]


def test_what_is_taken_during_a_listing_behind_its_page_stays(file):
    seen = Seen(file)
    seen.add(digests("z"))
    for name in "abc":
        seen.unknown(digests("z"))
        seen.add(digests(name))
        seen.listed()
        assert seen.unknown(digests(name)) == [False]


def test_it_agrees_with_a_set_whatever_comes(file, monkeypatch):
    monkeypatch.setattr(module, "_FEW", 50)
    chance, seen, held = random.Random(30), Seen(file), set()
    for number in range(300):
        names = [f"{chance.randrange(2000)}" for _ in range(chance.randrange(1, 40))]
        names = list(dict.fromkeys(names))
        unknown = seen.unknown(digests(*names))
        assert unknown == [name not in held for name in names]
        new = [name for name, is_new in zip(names, unknown, strict=True) if is_new]
        seen.add(digests(*new))
        held |= set(new)
        if number % 40 == 39:
            seen = Seen(file)
        assert len(seen) == len(held)
