"""streaming.lineup: the models beside the champion follow their aliases, and rest after faults."""

import time
from contextlib import nullcontext
from threading import Event, Thread
from types import SimpleNamespace

import pyarrow as pa
import pytest

from sightstream.errors import ModelNotFoundError, RegistryUnavailableError
from sightstream.scoring.beside import SKIPPED
from sightstream.tables.rows import Other
from sightstream.tables.schema import OTHER
from streaming import apart
from streaming import lineup as module
from streaming.lineup import LONGEST_PAUSE, PAUSE, TELL, Follower, Lineup
from tests import tiny_model


class Registry:
    """Versions of leaf whose files are real, and their aliases."""

    def __init__(self, folder):
        self._folder = folder
        self.aliases = {}
        self.digests = {}
        self.away = False

    def publish(self, number, **version):
        folder = self._folder / str(number)
        self.digests[number] = tiny_model.write_version(folder, **version)
        self.aliases["challenger"] = number
        return folder

    def versions(self, name):
        return list(self.digests) if name == "leaf" else []

    def number(self, name, which):
        if self.away:
            raise RegistryUnavailableError("no answer")
        return self.aliases.get(which)

    def version(self, name, which):
        if which not in self.digests:
            raise ModelNotFoundError(f"no version of {name} has the alias {which}")
        return SimpleNamespace(name=name, number=which, digest=self.digests[which])

    def files(self, version):
        return nullcontext(self._folder / str(version.number))


@pytest.fixture
def registry(tmp_path):
    made = Registry(tmp_path / "versions")
    made.publish(2)
    return made


@pytest.fixture
def results():
    return []


@pytest.fixture
def follower(registry, results):
    return Follower("leaf@challenger", "auto", registry, results.append)


def champion(version=1):
    return model(version=version)


def model(name="leaf", version=2, labels=("a", "b")):
    return SimpleNamespace(name=name, version=version, labels=labels)


def follows(name="leaf", version=2, alias="challenger", labels=("a", "b")):
    made = model(name, version, labels)
    return SimpleNamespace(model=made, alias=alias, is_shadow=alias == "challenger")


def said(each, fault=None, classes=(0,)):
    answers = pa.table([[list(classes) if not fault else None], [None], [fault]], OTHER)
    return Other(each.model, each.alias, answers)


def test_it_follows_its_alias(follower, registry, results):
    calls = []
    assert (follower.model.version, results) == (2, [])
    registry.publish(3)
    for _ in range(2):
        follower.look(lambda: calls.append(follower.model.version))
    assert (calls, results) == ([3], ["loaded"])


@pytest.mark.parametrize("then", [2, None])
def test_a_version_that_loses_its_alias_while_it_is_loaded_is_not_asked(
    follower, registry, results, then
):
    registry.publish(3)
    files = registry.files

    def moves(version):
        registry.aliases["challenger"] = then
        return files(version)

    registry.files = moves
    follower.look(lambda: None)
    assert (follower.model.version, results) == (2, [])
    follower.look(lambda: None)
    assert (follower.model and follower.model.version) == then


def test_an_alias_that_is_gone_is_no_model_until_it_is_back(follower, registry):
    registry.aliases.clear()
    follower.look()
    assert follower.model is None
    registry.aliases["challenger"] = 2
    follower.look()
    assert follower.model.version == 2


def test_one_that_does_not_load_leaves_the_old_one_and_is_tried_once(follower, registry, results):
    (registry.publish(3) / "model.onnx").write_bytes(b"damaged")
    for _ in range(2):
        follower.look()
    assert (follower.model.version, results) == (2, ["failed"])


def test_one_that_ends_its_process_does_not_end_ours(registry, results, monkeypatch):
    monkeypatch.setattr(module, "MEMORY", 2**20)  # no interpreter starts in it
    follower = Follower("leaf@challenger", "auto", registry, results.append)
    assert (follower.model, results) == (None, ["failed"])


def test_a_model_that_there_is_not_is_refused(registry, results):
    with pytest.raises(ModelNotFoundError):
        Follower("pests", "auto", registry, results.append)


def test_a_registry_that_is_away_is_asked_again(follower, registry, monkeypatch):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0)
    stop, looks = Event(), []
    registry.publish(3)
    ask = registry.number

    def unsteady(*which):
        looks.append(which)
        registry.away = len(looks) < 3
        return ask(*which)

    registry.number = unsteady
    Lineup([follower]).watch(stop, stop.set)
    assert follower.model.version == 3


def test_workers_that_do_not_load_it_end_no_watch_and_are_asked_once(
    follower, registry, monkeypatch
):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0)
    registry.publish(3)
    stop, asked, ask = Event(), [], registry.number

    def looks(*which):
        if asked:
            stop.set()
        return ask(*which)

    def broken():
        asked.append(follower.model.version)
        raise RuntimeError("no worker")

    registry.number = looks
    Lineup([follower]).watch(stop, broken)
    assert asked == [3]


def test_a_fault_that_lasts_is_told_once(follower, registry, monkeypatch, caplog):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0)
    stop, looks = Event(), []

    def away(*which):
        looks.append(which)
        if len(looks) == 4:
            stop.set()
        raise RegistryUnavailableError("no answer")

    registry.number = away
    Lineup([follower]).watch(stop, stop.set)
    assert caplog.messages == ["leaf version 2 stays in use: no answer"]


def test_a_version_that_hangs_ends_when_another_has_the_alias(follower, registry, results, until):
    registry.publish(3, fault="hangs", grey=1.0)
    begin, look = time.monotonic(), Thread(target=follower.look, daemon=True)
    look.start()
    until(tiny_model.loading)
    registry.aliases["challenger"] = 2
    look.join(60)
    assert not look.is_alive()
    assert time.monotonic() - begin < apart.LOADING / 2
    assert (follower.model.version, results) == (2, [])


def test_each_version_is_asked_once_and_the_champion_is_none_of_them():
    line = Lineup([follows(), follows(), follows("pests", 1), follows(version=9)])
    found = [str((each.model.name, each.model.version)) for each in line.beside(champion(9))]
    assert found == ["('leaf', 2)", "('pests', 1)"]


def test_the_canary_is_the_shadows_alone():
    shadow, pests = follows(), follows("pests", 1)
    line = Lineup([shadow, pests], 0.05)
    assert line.share(champion(), [said(shadow), said(pests)]) == 0.05
    assert line.share(champion(), [said(pests)]) == 0.0  # the shadow has become the champion
    assert line.share(champion(), []) == 0.0


@pytest.mark.parametrize(
    ("labels", "share"), [(("b", "a"), 0.05), (("c", "a", "b"), 0.05), (("a",), 0), (("c", "d"), 0)]
)
def test_a_canary_knows_the_champions_labels(labels, share, caplog):
    shadow = follows(labels=labels)
    line, first = Lineup([shadow], 0.05), champion()
    for _ in range(2):
        assert line.share(first, [said(shadow)]) == share
    assert len(caplog.messages) == (not share)


def test_one_that_failed_is_not_asked_for_a_while_that_doubles():
    now = [0.0]
    shadow = follows()
    line = Lineup([shadow], clock=lambda: now[0])
    others = line.beside(champion())
    wanted = PAUSE
    for _ in range(10):
        assert line.resting(others) == []
        line.note([said(shadow, "timeout")])
        now[0] += wanted - 1
        assert line.resting(others) == [0]
        line.note([said(shadow, SKIPPED)])  # of a micro-batch meanwhile
        now[0] += 2
        wanted = min(LONGEST_PAUSE, 2 * wanted)
    line.note([said(shadow)])
    line.note([said(shadow, "failed")])
    now[0] += PAUSE + 1
    assert line.resting(others) == []


def test_a_shadow_that_answers_for_few_is_told_once_a_while(caplog):
    now = [0.0]
    shadow = follows()
    line = Lineup([shadow], clock=lambda: now[0])
    for faults in ((SKIPPED, SKIPPED, None, SKIPPED), (None, None, SKIPPED, None)):
        for fault in faults[:-1]:
            line.note([said(shadow, fault)])
        now[0] += TELL
        line.note([said(shadow, faults[-1])])
    (told,) = caplog.messages
    assert told.startswith("leaf version 2 answered for 1 of the last 4 images")


def test_a_new_version_is_not_blamed_for_the_one_before():
    line = Lineup([follows()])
    line.note([said(follows(), "crashed")])
    line.followers = [follows(version=3)]
    assert line.resting(line.beside(champion())) == []
