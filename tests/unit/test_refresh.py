"""training.refresh and training.compare: when, with which settings, and which of two is better."""

from datetime import UTC, datetime
from itertools import islice

import pytest

from sightstream.errors import InputError
from sightstream.images.decode import Preprocessing
from sightstream.models.registry import Version
from sightstream.models.version import SPLIT_FILE, Card
from training import refresh
from training.compare import decide
from training.datasets import Dataset, Example
from training.evaluate import Average, ClassFigures, Evaluation
from training.recipes import find
from training.refresh import (
    RATE_FRACTION,
    Wish,
    _as_before,
    _known,
    _source,
    _with_recipe,
    times,
)

WISH = Wish(None, 1, 0.05, None, 2, 0, True)
NARROW = Preprocessing(20, 30)


# Again and again


class Clock:
    """A clock that goes on when it is told to, and remembers for how long one slept."""

    def __init__(self):
        self.now, self.slept = 1000.0, []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(refresh, "time", made)
    return made


def test_without_an_interval_it_is_once(clock):
    assert len(list(times(None))) == 1
    assert clock.slept == []


@pytest.mark.parametrize(
    ("every", "seconds"),
    [("30s", 30), ("10m", 600), ("1h", 3600), ("2d", 172_800), ("1.5h", 5400), ("0.5s", 0.5),
     ("10 m", 600)],
)  # fmt: skip
def test_with_an_interval_it_is_again_and_again(clock, every, seconds):
    begun = [clock.now for _ in islice(times(every), 4)]
    assert begun == [1000 + n * seconds for n in range(4)]


def test_the_first_time_is_at_once(clock):
    next(times("1d"))
    assert clock.slept == []


def test_what_the_work_took_is_not_waited_for(clock):
    begun = []
    for _ in islice(times("10m"), 3):
        begun.append(clock.now)
        clock.now += 240
    assert begun == [1000, 1600, 2200]
    assert clock.slept == [360, 360]


def test_work_that_took_longer_is_followed_at_once(clock):
    for _ in islice(times("30s"), 3):
        clock.now += 45
    assert clock.slept == [0, 0]


@pytest.mark.parametrize(
    "every", ["", "10", "h", "1w", "-5m", "1h30m", "m10", "1 hour", "1.h", "1e3s", "10M", " 1h"]
)
def test_a_wrong_interval_is_refused_before_anything_is_done(clock, every):
    with pytest.raises(InputError) as caught:
        next(times(every))
    assert (
        str(caught.value) == f"--every takes a number and s, m, h or d, such as 1h, not '{every}'"
    )
    assert clock.slept == []


@pytest.mark.parametrize("every", ["0s", "0.0h"])
def test_an_interval_of_nothing_is_refused(clock, every):
    with pytest.raises(InputError, match="--every"):
        next(times(every))


# The settings of the champion's training, made smaller


def card(recipe="leaf", preprocessing=NARROW, **settings):
    """What a champion's training has written of itself."""
    used = {"recipe": recipe, "epochs": 48, "batch_size": 24, "mode": "synchronous",
            "head": "logistic", "seed": 9, "workers": 8, "promote": False} | settings  # fmt: skip
    return Card(("a", "b"), preprocessing, {}, used)


def wish(**changes):
    return Wish(**vars(WISH) | changes)


def test_a_refresh_has_the_recipe_of_the_training():
    recipe, options = _as_before(card(), WISH, "leaf")
    assert (recipe.name, options.recipe) == ("leaf", "leaf")
    assert recipe.shares == find("leaf").shares
    assert options.network is None


def test_a_refresh_has_the_network_of_the_training():
    recipe, options = _as_before(card("cars", network="resnet"), WISH, "cars")
    assert recipe.network is find("cars", "resnet").network
    assert options.network == "resnet"


def test_a_refresh_keeps_the_name_of_the_model_not_that_of_the_recipe():
    assert _as_before(card(), WISH, "my leaves")[1].name == "my leaves"


def test_a_refresh_sees_images_as_the_champion_does():
    recipe, _ = _as_before(card(), WISH, "leaf")
    assert find("leaf").preprocessing != NARROW
    assert recipe.preprocessing == NARROW


def test_a_refresh_learns_in_smaller_steps():
    recipe, _ = _as_before(card(), WISH, "leaf")
    assert recipe.learning_rate == pytest.approx(RATE_FRACTION * find("leaf").learning_rate)
    assert 0 < RATE_FRACTION < 1


@pytest.mark.parametrize("epochs", [48, 16, 1])
def test_a_refresh_passes_a_third_as_often_as_the_recipe_however_often_it_was(epochs):
    assert _as_before(card(epochs=epochs), WISH, "leaf")[1].epochs == 16


def test_a_refresh_passes_as_often_as_the_user_wants():
    assert _as_before(card(), wish(epochs=50), "leaf")[1].epochs == 50


@pytest.mark.parametrize("mode", ["synchronous", "asynchronous", "hogwild"])
@pytest.mark.parametrize("head", ["logistic", "elephas"])
def test_a_refresh_has_batches_mode_and_head_of_the_training(mode, head):
    _, options = _as_before(card(mode=mode, head=head), WISH, "leaf")
    assert (options.batch_size, options.mode, options.head) == (24, mode, head)


def test_workers_seed_and_promotion_are_the_refreshs_own():
    _, options = _as_before(card(), wish(workers=3, seed=5, promote=True), "leaf")
    assert (options.workers, options.seed, options.promote) == (3, 5, True)


def test_a_recipe_file_that_a_version_of_a_server_names_is_run_only_if_the_user_names_it():
    mine, leaf = card(recipe="/tmp/mine.py"), card(recipe="leaf")
    for each, shared in ((mine, False), (leaf, False), (leaf, True)):
        assert _with_recipe(each, None, "leaf", shared=shared) == each
    with pytest.raises(
        InputError, match=r"recipe file /tmp/mine\.py, .*refresh leaf --recipe FILE"
    ):
        _with_recipe(mine, None, "leaf", shared=True)
    named = _with_recipe(mine, "./own.py", "leaf", shared=True)
    assert named.training == mine.training | {"recipe": "./own.py"}


def test_a_recipe_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(InputError, match=r"there is no recipe file .*mine\.py"):
        _as_before(card(str(tmp_path / "mine.py")), WISH, "mine")


# The images of the champion's training


@pytest.fixture
def trained(tmp_path):
    """The files of a version that was trained with six images, of which one is gone since."""
    used = [
        Example(str(tmp_path / f"old/{label}/{n}.png"), label, f"{label}{n}", split)
        for label in ("cat", "dog")
        for n, split in enumerate(("train", "validation", "test"))
    ]
    left_out = Example(str(tmp_path / "old/cat/9.png"), "cat", "dog0", fault="It is the same.")
    for each in (*used, left_out):
        path = type(tmp_path)(each.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    Dataset(("cat", "dog"), None, [*used, left_out], NARROW).write_split(tmp_path / SPLIT_FILE)
    (tmp_path / "old/dog/2.png").unlink()
    return tmp_path


def names(examples):
    return [(e.label, e.path[-5:]) for e in examples]


def test_the_images_of_a_training_are_known_also_where_they_have_gone(trained):
    found = _known(trained, trained)
    assert [(e.digest, e.split) for e in found] == [
        ("cat0", "train"), ("cat1", "validation"), ("cat2", "test"),
        ("dog0", "train"), ("dog1", "validation"), ("dog2", "test"), ("dog0", ""),
    ]  # fmt: skip
    assert found[-1].fault == "It is the same."


ARRIVED = "images/2026-11-28/01a1fe0c-b2f5-7f93-9ba7-f629a851ac89.png"


def test_the_images_of_a_home_are_looked_for_in_the_home_that_is_in_use(tmp_path):
    old, home = tmp_path / "old", tmp_path / "new"
    paths = [f"starter/digits/7/{n}.png" for n in "12"] + [ARRIVED]
    for path in [old / each for each in paths] + [home / paths[0]]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    used = [Example(str(old / each), "7") for each in paths]
    Dataset(("7",), None, used, NARROW).write_split(tmp_path / SPLIT_FILE)
    found = [e.path for e in _known(tmp_path, home)]
    # A folder of digits may be a data set of its own; what the intake took never is.
    assert found == [str(home / paths[0]), str(old / paths[1]), str(home / ARRIVED)]


def test_a_version_without_a_split_knows_no_images(tmp_path):
    assert _known(tmp_path, tmp_path) == []


def test_a_refresh_goes_on_with_the_images_of_the_training(trained):
    source = _source(None, [], _known(trained, trained))
    assert names(source.list()) == [
        ("cat", "0.png"), ("cat", "1.png"), ("cat", "2.png"), ("dog", "0.png"), ("dog", "1.png"),
    ]  # fmt: skip


def test_a_refresh_knows_their_sides_by_content_and_decides_nothing_else(trained):
    source = _source(None, [], _known(trained, trained))
    assert source.known == {
        "cat0": "train", "cat1": "validation", "cat2": "test",
        "dog0": "train", "dog1": "validation", "dog2": "test",
    }  # fmt: skip
    assert {e.split for e in source.list()} == {""}


def test_new_images_come_first_and_none_comes_twice(trained):
    (trained / "old/cat/7.png").write_bytes(b"")
    source = _source(trained / "old", [], _known(trained, trained))
    found = source.list()
    assert len({e.path for e in found}) == len(found) == 7
    assert ("cat", "7.png") in names(found)


def test_new_images_may_be_of_a_new_class(trained):
    (trained / "new/cow").mkdir(parents=True)
    (trained / "new/cow/1.png").write_bytes(b"")
    source = _source(trained / "new", [], _known(trained, trained))
    assert names(source.list())[0] == ("cow", "1.png")
    assert len(source.list()) == 6


# Which of two is better


def evaluation(**f1):
    """What a model is worth whose classes have these F1."""
    mean = sum(f1.values()) / len(f1)
    average = Average(mean, mean, mean, 0.0)
    classes = tuple(ClassFigures(label, each, each, each, 0.0, 10) for label, each in f1.items())
    return Evaluation(
        labels=tuple(f1), images=10 * len(f1), accuracy=mean, top3_accuracy=1.0, ece=0.0,
        macro=average, weighted=average, classes=classes, reliability=(), confusion=(),
    )  # fmt: skip


def champion(**f1):
    """The third version, and what it is worth on the same images."""
    made = datetime(2025, 1, 1, tzinfo=UTC)
    return Version("leaf", 3, ("champion",), made, "", {}, "", ""), evaluation(**f1)


def test_without_a_champion_a_challenger_is_taken():
    assert decide(evaluation(cat=0.1, dog=0.1), None, 0.05) == (True, "there was no champion")


def test_a_better_challenger_is_taken_and_the_figures_say_why():
    better, reason = decide(evaluation(cat=0.9, dog=0.9), champion(cat=0.8, dog=0.8), None)
    assert better
    assert reason == "macro F1 0.9000 against 0.8000 of version 3"


@pytest.mark.parametrize("margin", [None, 0.0, 0.05])
def test_an_equal_challenger_is_not_worse(margin):
    better, _ = decide(evaluation(cat=0.8, dog=0.7), champion(cat=0.8, dog=0.7), margin)
    assert better


@pytest.mark.parametrize("margin", [None, 1.0])
def test_a_worse_challenger_is_refused_whatever_the_margin(margin):
    worse = decide(evaluation(cat=0.8, dog=0.79), champion(cat=0.8, dog=0.8), margin)
    assert worse == (False, "macro F1 0.7950 against 0.8000 of version 3")


def test_a_challenger_is_refused_that_is_worse_by_a_hair():
    assert not decide(evaluation(cat=0.8, dog=0.8), champion(cat=0.8, dog=0.8 + 1e-9), 0.05)[0]


def test_a_challenger_at_which_one_class_loses_too_much_is_refused():
    new, old = evaluation(cat=0.99, cow=0.8, dog=0.7), champion(cat=0.6, cow=0.82, dog=0.8)
    assert decide(new, old, 0.05) == (
        False,
        "macro F1 0.8300 against 0.7400 of version 3, but F1 of dog fell by 0.1000",
    )


def test_the_class_that_lost_most_is_named():
    new, old = evaluation(cat=1.0, cow=0.5, dog=0.6), champion(cat=0.1, cow=0.7, dog=0.7)
    assert decide(new, old, 0.05)[1].endswith("but F1 of cow fell by 0.2000")


def test_a_class_may_lose_up_to_the_margin():
    new, old = evaluation(cat=0.75, dog=1.0), champion(cat=1.0, dog=0.5)
    assert decide(new, old, 0.25)[0]
    assert not decide(new, old, 0.2499)[0]


def test_without_a_margin_a_class_may_lose_all():
    assert decide(evaluation(cat=1.0, dog=0.0), champion(cat=0.4, dog=0.6), None)[0]


def test_a_class_that_the_champion_does_not_know_can_only_gain():
    assert decide(evaluation(cat=0.8, cow=0.1), champion(cat=0.8, cow=0.0), 0.0)[0]
