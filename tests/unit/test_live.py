"""training.live: a challenger is judged by the images of the stream, by figures that are stated."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from sightstream.models.registry import Version
from sightstream.tables.agreement import Agreement
from training import live
from training.live import AGREEMENT, LABELLED, decide, judge


def agreement(images, agreed, labelled=0, right_a=0, right_b=0):
    return Agreement("leaf", 1, 2, images, agreed, labelled, right_a, right_b, [], [])


@pytest.mark.parametrize(
    ("found", "promoted", "reason"),
    [
        (agreement(999, 999), None, "both have answered for 999 of 1000 images of the stream"),
        (agreement(1000, 950), True, "agrees with version 1 on 95.0% of 1000 images"),
        (agreement(1000, 949), False, "agrees with version 1 on 94.9% of 1000 images"),
        (agreement(1000, 500, LABELLED, 10, 20), True, "20 against 10 of 30 labelled images"),
        (agreement(1000, 990, LABELLED, 20, 10), False, "10 against 20 of 30 labelled images"),
        (agreement(1000, 990, LABELLED, 20, 20), True, "agrees with version 1 on 99.0%"),
        (agreement(1000, 500, LABELLED - 1, 0, 29), False, "agrees with version 1 on 50.0%"),
        (agreement(10, 0, LABELLED, 0, 30), None, "10 of 1000"),
    ],
)
def test_agreement_decides_unless_people_labelled_enough(found, promoted, reason):
    decided = decide(found, 1000)
    assert decided[0] is promoted
    assert reason in decided[1]
    assert AGREEMENT == 0.95


class Registry:
    def __init__(self, *versions):
        self.listed = versions
        self.calls = []

    def versions(self, name):
        return list(self.listed)

    def decided(self, version, *, promoted, reason):
        self.calls.append(("decided", version.number, promoted))

    def promote(self, name, number):
        self.calls.append(("promote", number))
        return version(number, "champion")


def version(number, *aliases, decision=""):
    return Version("leaf", number, aliases, datetime.now(UTC), "", {}, "", "", decision)


SETTINGS = SimpleNamespace(predictions="", labels=None)


@pytest.fixture
def seen(monkeypatch):
    """Tells what the table holds."""

    def tell(found):
        asked = []
        monkeypatch.setattr(live, "agreement", lambda *a, **_: asked.append(a) or found)
        return asked

    return tell


def test_one_that_agrees_is_promoted_after_the_decision_is_written(seen):
    asked = seen(agreement(100, 99))
    registry = Registry(version(2, "challenger", decision="undecided: x"), version(1, "champion"))
    judged = judge(registry, SETTINGS, "leaf", 100)
    assert (judged.promoted, judged.version.number) == (True, 2)
    assert registry.calls == [("decided", 2, True), ("promote", 2)]
    assert asked == [("", "leaf", (1, 2))]


def test_one_that_does_not_agree_is_refused(seen):
    seen(agreement(100, 50))
    registry = Registry(version(2, "challenger"), version(1, "champion"))
    assert judge(registry, SETTINGS, "leaf", 100).promoted is False
    assert registry.calls == [("decided", 2, False)]


def test_one_with_too_few_images_waits(seen):
    seen(agreement(99, 99))
    registry = Registry(version(2, "challenger"), version(1, "champion"))
    assert judge(registry, SETTINGS, "leaf", 100).promoted is None
    assert registry.calls == []


@pytest.mark.parametrize(
    "versions",
    [
        (version(1, "champion"),),
        (version(2, "challenger"),),
        (version(1, "champion", "challenger"),),
        (version(2, "challenger", decision="refused: worse"), version(1, "champion")),
    ],
)
def test_where_nothing_is_to_be_judged_the_training_goes_on(seen, versions):
    asked = seen(agreement(100, 100))
    assert judge(Registry(*versions), SETTINGS, "leaf", 100) is None
    assert asked == []
