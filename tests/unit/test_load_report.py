"""producers.load: mixes, and the images of which they are made."""

from itertools import islice

import pytest

from producers.load import images, shares
from sightstream.errors import ConfigError


@pytest.mark.parametrize(
    ("mix", "expected"),
    [
        ("good=95,bad=5", {"good": 0.95, "bad": 0.05}),
        ("bad=1", {"bad": 1.0}),
        ("good=1,bad=3", {"good": 0.25, "bad": 0.75}),
        ("good=2,bad=0", {"good": 1.0, "bad": 0.0}),
    ],
)
def test_a_mix_is_read_as_shares(mix, expected):
    assert shares(mix) == expected


@pytest.mark.parametrize(
    "mix", ["", "good", "good=", "good=x", "fine=1", "good=0", "good=-1,bad=2", "good=nan", "a=1=2"]
)
def test_a_wrong_mix_is_refused(mix):
    with pytest.raises(ConfigError, match="--mix is such as good=95,bad=5"):
        shares(mix)


@pytest.fixture
def good(tmp_path):
    paths = [tmp_path / f"{n}.png" for n in range(3)]
    for path in paths:
        path.write_bytes(path.name.encode() * 100)
    return paths


def taken(good, folder, mix, count, largest=1000, seed=1):
    folder.mkdir()
    return list(islice(images(good, shares(mix), folder, largest, seed), count))


def test_good_images_come_in_turn(good, tmp_path):
    assert taken(good, tmp_path / "bad", "good=1", 7) == [*good, *good, good[0]]


def test_bad_images_come_in_all_kinds(good, tmp_path):
    found = taken(good, tmp_path / "bad", "bad=1", 200)
    kinds = [path.name.split("-")[0].removesuffix(".png") for path in found]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "large": 2, "truncated": 66, "noise": 66, "empty": 66,
    }  # fmt: skip
    sizes = {path.name.split("-")[0]: path.stat().st_size for path in found}
    assert (sizes["empty"], sizes["truncated"], sizes["large.png"]) == (0, 250, 1000)


def test_without_a_size_none_is_too_large(good, tmp_path):
    found = taken(good, tmp_path / "bad", "bad=1", 200, largest=0)
    assert not [path for path in found if path.name.startswith("large")]


def test_the_shares_and_the_order_follow_from_the_seed(good, tmp_path):
    first = taken(good, tmp_path / "a", "good=80,bad=20", 2000)
    again = taken(good, tmp_path / "b", "good=80,bad=20", 2000)
    assert [path.name for path in first] == [path.name for path in again]
    assert 1500 < sum(path in good for path in first) < 1700
