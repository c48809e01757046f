"""training.split: on which side each image is, and what is left out and why."""

import random

import pytest

from sightstream.errors import InputError
from tests.examples import SHARES, digest, divide, faults, images, seen, sides, sizes
from training import split
from training.datasets import Example
from training.recipes import NAMES, find
from training.split import SPLITS

# The split


@pytest.mark.parametrize("shares", {SHARES, *(find(name).shares for name in NAMES)})
@pytest.mark.parametrize("count", [10, 11, 33, 97, 1000])
def test_each_class_has_its_shares_within_one_image(shares, count):
    found = images(cat=count, dog=10, cow=57)
    made = sizes(divide(found, shares=shares))
    for label, of_it in {"cat": count, "dog": 10, "cow": 57}.items():
        for side, share in zip(SPLITS, shares, strict=True):
            assert abs(made[label, side] - share * of_it) <= 1
        assert sum(made[label, split] for split in SPLITS) == of_it


@pytest.mark.parametrize(
    ("count", "shares", "expected"),
    [
        (3, (0.7, 0.1, 0.2), (1, 1, 1)),
        (4, (0.7, 0.1, 0.2), (2, 1, 1)),
        (2, (0.8, 0.2, 0.0), (1, 1, 0)),
        (2, (0.8, 0.0, 0.2), (1, 0, 1)),
        (5, (1.0, 0.0, 0.0), (5, 0, 0)),
        (100, (0.6, 0.2, 0.2), (60, 20, 20)),
        (0, (1.0, 0.0, 0.0), (0, 0, 0)),
    ],
)
def test_a_side_whose_share_is_not_zero_has_an_image(count, shares, expected):
    made = split.sides(count, shares)
    assert tuple(made.count(split) for split in SPLITS) == expected
    assert len(made) == count


def test_every_image_is_on_one_side_or_left_out():
    found = images(cat=40, dog=40)
    told = seen(found, **{"/data/cat/3.png": ("", "It is empty.")})
    made = divide(found, told=told)
    assert [e.path for e in made] == sorted(e.path for e in found)
    assert [e.path for e in made if not e.split] == ["/data/cat/3.png"]


def test_the_split_does_not_depend_on_the_order_of_the_files():
    found = images(cat=50, dog=50)
    mixed = random.Random(1).sample(found, len(found))
    assert divide(mixed) == divide(found)


def test_the_split_does_not_depend_on_where_the_files_are():
    here, there = images("/data", cat=50, dog=50), images("/mnt/b/c", cat=50, dog=50)
    assert sides(divide(here)) == sides(divide(there))
    assert len(sides(divide(here))) == 100


def test_another_seed_is_another_split_of_the_same_sizes():
    found = images(cat=50, dog=50)
    first, second = divide(found, seed=0), divide(found, seed=1)
    assert sides(first) != sides(second)
    assert sizes(first) == sizes(second)


def test_the_same_seed_is_the_same_split():
    found = images(cat=50, dog=50)
    assert divide(found, seed=7) == divide(found, seed=7)


def test_one_class_does_not_move_another():
    alone = sides(divide(images(cat=50)))
    beside = sides(divide(images(cat=50, dog=80)))
    assert beside.items() > alone.items()


@pytest.mark.parametrize("shares", [SHARES, (0.8, 0.2, 0.0), (0.8, 0.0, 0.2)])
def test_a_class_with_fewer_images_than_sides_is_named(shares):
    few = sum(share > 0 for share in shares) - 1
    expected = rf"the class red panda has {few} usable image\(s\), too few"
    with pytest.raises(InputError, match=expected):
        divide(images(cat=9, **{"red panda": few}), shares=shares)


def test_only_usable_images_count():
    found = images(cat=9, dog=3)
    told = seen(found, **{"/data/dog/0.png": ("", "It is cut short.")})
    with pytest.raises(InputError, match=r"the class dog has 2 usable image\(s\)"):
        divide(found, told=told)


def test_an_unreadable_image_is_left_out_with_what_was_said_of_it():
    found = images(cat=9, dog=9)
    made = divide(found, told=seen(found, **{"/data/dog/4.png": ("", "It is cut short.")}))
    assert Example("/data/dog/4.png", "dog", "", "", "It is cut short.") in made
    assert sum(sizes(made).values()) == 17


@pytest.mark.parametrize("side", SPLITS)
def test_an_unreadable_image_is_on_no_side_also_where_it_had_one(side):
    found = [*images(cat=9, dog=9), Example("/test/x.png", "dog", split=side)]
    made = divide(found, told=seen(found, **{"/test/x.png": ("", "It is cut short.")}))
    assert Example("/test/x.png", "dog", "", "", "It is cut short.") in made


# Duplicates


def test_equal_images_of_a_class_count_once():
    found = images(cat=9, dog=9)
    twin = seen(found)[found[0].uri]
    made = divide(found, told=seen(found, **{"/data/cat/5.png": twin, "/data/cat/8.png": twin}))
    same = "It is the same as /data/cat/0.png."
    assert faults(made) == {"/data/cat/5.png": same, "/data/cat/8.png": same}
    assert sum(sizes(made).values()) == 16


def test_equal_images_under_two_labels_do_not_count_at_all():
    found = images(cat=9, dog=9)
    twin = seen(found)[found[0].uri]
    made = divide(found, told=seen(found, **{"/data/dog/5.png": twin}))
    both = "It has the labels cat, dog."
    assert faults(made) == {"/data/cat/0.png": both, "/data/dog/5.png": both}
    assert twin[0] not in sides(made)


def test_the_same_file_given_twice_counts_once():
    found = [*images(cat=9, dog=9), Example("/data/cat/0.png", "cat")]
    made = divide(found)
    assert faults(made) == {"/data/cat/0.png": "It is the same as /data/cat/0.png."}
    assert sum(sizes(made).values()) == 18


def test_a_duplicate_is_on_the_same_side_whichever_copy_is_taken():
    found = images(cat=50, dog=50)
    copies = images("/a", cat=50)  # sorts before /data, so that it is the copy that is taken
    made = divide([*found, *copies])
    assert sides(made) == sides(divide(found))
    assert {e.path[:3] for e in made if e.label == "cat" and e.split} == {"/a/"}


def test_a_test_image_that_is_also_given_to_train_on_is_tested_with():
    tests = [Example(f"/test/cat/{n}.png", "cat", split="test") for n in range(3)]
    made = divide([*images(cat=20, dog=20), *tests])
    assert [e.path for e in made if e.digest == digest("cat/0.png") and e.split] == [
        "/test/cat/0.png"
    ]
    assert faults(made)["/data/cat/0.png"] == "It is the same as /test/cat/0.png."


# A test folder


def given_test_folder(found, tests, **options):
    """A split beside a folder of test images."""
    beside = [Example(e.path, e.label, split="test") for e in tests]
    return divide([*found, *beside], shares=split.without_test(SHARES), **options)


def test_a_test_folder_is_all_that_is_tested_with():
    tests = images("/test", cat=5, dog=7)
    made = given_test_folder(images(cat=80, dog=40), tests)
    assert [e.path for e in made if e.split == "test"] == [e.path for e in tests]


def test_beside_a_test_folder_the_other_sides_share_what_is_left():
    found, tests = images(cat=80, dog=40), images("/test", cat=6, dog=6)
    told = {e.uri: (digest(e.path), "") for e in [*found, *tests]}
    made = sizes(given_test_folder(found, tests, told=told))
    assert [made["cat", split] for split in SPLITS] == [70, 10, 6]
    assert [made["dog", split] for split in SPLITS] == [35, 5, 6]


@pytest.mark.parametrize("to_train_on", [0, 1])
def test_a_class_that_is_tested_but_has_nothing_to_train_on_is_refused(to_train_on):
    tests = images("/test", cow=5)
    found = images(cat=9, dog=9) + [Example("/data/cow/x.png", "cow")] * to_train_on
    with pytest.raises(InputError, match="the class cow"):
        given_test_folder(found, tests)


# A split that an earlier training has decided


def learnt(found, **options):
    """The sides that a first training has decided, for a second one."""
    return sides(divide(found, **options))


def assert_split_too(new, shares):
    found = images(cat=50, dog=50)
    more = [Example(f"/new/cat/{n}.png", "cat") for n in range(100, 100 + new)]
    made = divide([*found, *more], known=learnt(found, shares=shares), shares=shares)
    assert len(sides(made)) == 100 + new
    assert {e.split for e in made if e.path.startswith("/new")} <= set(SPLITS)


def test_known_images_stay_where_they_were_whatever_the_seed():
    found = images(cat=50, dog=50)
    known = learnt(found, seed=1)
    again = divide([*found, *images("/new/n", cow=30)], known=known, seed=2)
    assert sides(again).items() > known.items()


def test_known_images_stay_where_they_were_when_they_move():
    known = learnt(images(cat=50, dog=50))
    moved = images("/elsewhere", cat=50, dog=50)
    assert sides(divide(moved, known=known, seed=3)) == known


def test_a_new_class_beside_known_ones_gets_its_shares():
    found = images(cat=50, dog=50)
    made = sizes(divide([*found, *images(cow=20)], known=learnt(found)))
    assert [made["cow", split] for split in SPLITS] == [14, 2, 4]


def test_many_new_images_of_a_known_class_get_its_shares():
    found = images(cat=50, dog=50)
    made = sizes(divide([*found, *images(cat=100)], known=learnt(found)))
    assert [made["cat", split] for split in SPLITS] == [70, 10, 20]


@pytest.mark.parametrize("new", [2, 3, 7])
def test_a_few_new_images_of_a_known_class_are_split_too(new):
    assert_split_too(new, SHARES)


@pytest.mark.parametrize("shares", [SHARES, (0.6, 0.2, 0.2), (0.7, 0.15, 0.15)])
def test_one_new_image_of_a_known_class_is_split_too(shares):
    assert_split_too(1, shares)


def test_new_images_that_come_one_by_one_are_trained_on_as_well():
    found, known = images(cat=50, dog=50), learnt(images(cat=50, dog=50))
    for n in range(100, 130):
        found.append(Example(f"/data/cat/{n}.png", "cat"))
        known = sides(divide(found, known=known))
    made = sizes(divide(found, known=known))
    for side, share in zip(SPLITS, SHARES, strict=True):
        assert abs(made["cat", side] - share * 80) <= 1


# Copies of one picture


def in_groups(found, *groups):
    """Images of these paths are copies of each other; for `divide`."""
    told = seen(found)
    uris = {e.path: e.uri for e in found}
    return {told[uris[path]][0]: f"group {n}" for n, paths in enumerate(groups) for path in paths}


def sides_of(made, *groups):
    """The sides of each group, those that are left out left out."""
    sides = {e.path: e.split for e in made if e.split}
    return [{sides[path] for path in paths if path in sides} for paths in groups]


def thirds(where, count):
    """Images of a class in groups of three."""
    return [[f"{where}/{n + k}.png" for k in range(3)] for n in range(0, count, 3)]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("shares", [SHARES, (0.6, 0.2, 0.2), (0.8, 0.2, 0.0), (0.8, 0.0, 0.2)])
def test_copies_of_a_picture_are_on_one_side_and_the_shares_are_kept(shares, seed):
    found = images(cat=60, dog=60)
    groups = [*thirds("/data/cat", 60), *thirds("/data/dog", 30)]
    made = divide(found, groups=in_groups(found, *groups), shares=shares, seed=seed)
    assert [len(sides) for sides in sides_of(made, *groups)] == [1] * len(groups)
    assert faults(made) == {}
    for label in ("cat", "dog"):
        for side, share in zip(SPLITS, shares, strict=True):
            assert abs(sizes(made)[label, side] - share * 60) <= 3


@pytest.mark.parametrize("count", [9, 12, 30])
def test_each_side_gets_a_group_where_there_are_enough(count):
    found = images(cat=count, dog=10)
    groups = thirds("/data/cat", count)
    made = divide(found, groups=in_groups(found, *groups))
    assert all(sizes(made)["cat", side] for side in SPLITS)
    assert [len(sides) for sides in sides_of(made, *groups)] == [1] * len(groups)


def test_a_class_of_fewer_groups_than_sides_is_divided_image_by_image():
    found = images(cat=20, dog=20)
    alike = [f"/data/cat/{n}.png" for n in range(20)]
    made = divide(found, groups=in_groups(found, alike))
    assert [sizes(made)["cat", side] for side in SPLITS] == [14, 2, 4]


def test_copies_under_two_labels_are_on_one_side():
    found = images(cat=20, dog=20)
    groups = [[f"/data/cat/{n}.png", f"/data/dog/{19 - n}.png"] for n in range(10)]
    for seed in range(10):
        made = divide(found, groups=in_groups(found, *groups), seed=seed)
        assert [len(sides) for sides in sides_of(made, *groups)] == [1] * 10


def test_images_without_copies_are_where_they_are_without_groups():
    found = images(cat=50, dog=50)
    assert divide(found, groups={"another": "group"}) == divide(found)


@pytest.mark.parametrize("side", ["test", "validation"])
@pytest.mark.parametrize("given", ["", "train"])
def test_a_copy_of_what_the_source_holds_out_is_left_out(side, given):
    held = Example("/held/cat/x.png", "cat", split=side)
    copy = Example("/more/cat/y.png", "cat", split=given)
    found = [*images(cat=20, dog=20), held, copy]
    made = divide(found, groups=in_groups(found, [held.path, copy.path]))
    fault = f"It is nearly the same as /held/cat/x.png, which is of the split {side}."
    assert faults(made) == {copy.path: fault}


def test_a_copy_of_what_the_source_trains_on_is_trained_on():
    trained = Example("/train/cat/x.png", "cat", split="train")
    found = [*images(cat=20, dog=20), trained, Example("/more/cat/y.png", "cat")]
    groups = [["/train/cat/x.png", "/more/cat/y.png"]]
    assert sides_of(divide(found, groups=in_groups(found, *groups)), *groups) == [{"train"}]


def test_a_copy_of_a_known_image_joins_it():
    found = images(cat=50, dog=50)
    known = learnt(found)
    new = [Example(f"/new/cat/{n}.png", "cat") for n in range(100, 150)]
    groups = [[f"/data/cat/{n}.png", f"/new/cat/{n + 100}.png"] for n in range(50)]
    everything = [*found, *new]
    made = divide(everything, known=known, groups=in_groups(everything, *groups), seed=5)
    assert sides(made).items() > known.items()
    assert [len(each) for each in sides_of(made, *groups)] == [1] * 50
