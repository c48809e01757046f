"""streaming.champion: the model in use follows the registry, as far as a version can be loaded."""

from threading import Event, Thread
from types import SimpleNamespace

import pytest

from sightstream.errors import ModelDamagedError, ModelNotFoundError, RegistryUnavailableError
from streaming import apart
from streaming import champion as module
from streaming.champion import Champion
from tests import tiny_model


class Registry:
    """Versions of a model, of which some are damaged."""

    def __init__(self):
        self.champion = 1
        self.damaged = set()
        self.away = False
        self.loads = []

    def chosen(self, name):
        return name

    def champion_number(self, name):
        if self.away:
            raise RegistryUnavailableError("no answer")
        return self.champion

    def version(self, name, number=None):
        if (number or self.champion) is None:
            raise ModelNotFoundError(f"no champion of {name}")
        return number or self.champion

    def load(self, version, engine, device, wanted=None):
        self.loads.append((version, engine))
        if version in self.damaged:
            raise ModelDamagedError("a checksum is wrong")
        return SimpleNamespace(name="leaf", version=version)


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
def results():
    return []


@pytest.fixture
def champion(registry, results):
    return Champion(
        "leaf", "onnx", registry, results.append, load=Registry.load, beside=Registry.load
    )


def ready(_):
    """Loads a version in no worker."""


def test_the_first_one_is_loaded_at_once(champion, registry, results):
    assert champion.model.version == 1
    assert registry.loads == [(1, "onnx")]
    assert results == []


@pytest.mark.parametrize(("first", "error"), [(None, ModelNotFoundError), (1, ModelDamagedError)])
def test_without_one_that_serves_there_is_no_stream(registry, results, first, error):
    registry.champion, registry.damaged = first, {1}
    with pytest.raises(error):
        Champion("leaf", "auto", registry, results.append, load=Registry.load, beside=Registry.load)


def test_a_new_one_takes_over_when_the_workers_have_loaded_it(champion, registry, results):
    seen = []
    registry.champion = 2
    champion.look(lambda model: seen.append((model.version, champion.model.version)))
    assert seen == [(2, 1)]
    assert champion.model.version == 2
    assert results == ["loaded"]


def test_the_same_one_is_loaded_once(champion, registry):
    for _ in range(3):
        champion.look(ready)
    assert len(registry.loads) == 1


def test_a_damaged_one_leaves_the_old_one_in_use_and_is_tried_once(champion, registry, results):
    registry.champion, registry.damaged = 2, {2}
    for _ in range(3):
        champion.look(ready)
    assert champion.model.version == 1
    assert results == ["failed"]
    assert len(registry.loads) == 2


def test_one_that_the_workers_cannot_load_leaves_the_old_one_in_use(champion, registry, results):
    registry.champion = 2

    def broken(_):
        raise RuntimeError("a worker ended")

    champion.look(broken)
    assert champion.model.version == 1
    assert results == ["failed"]


def test_the_one_after_a_damaged_one_takes_over(champion, registry, results):
    registry.champion, registry.damaged = 2, {2}
    champion.look(ready)
    registry.champion = 3
    champion.look(ready)
    assert champion.model.version == 3
    assert results == ["failed", "loaded"]


def test_a_rollback_is_a_new_champion_as_well(champion, registry):
    for number in (2, 1):
        registry.champion = number
        champion.look(ready)
        assert champion.model.version == number


@pytest.mark.parametrize("then", [1, 3, None])
def test_one_that_is_no_champion_any_more_once_it_is_loaded_does_not_take_over(
    champion, registry, results, then
):
    registry.champion = 2

    def moves(_):
        registry.champion = then

    champion.look(moves)
    assert (champion.model.version, results) == (1, [])
    champion.look(ready)
    assert champion.model.version == (then or 1)
    assert [version for version, _ in registry.loads] == [1, 2] + [3] * (then == 3)


def test_an_alias_that_is_gone_leaves_the_model_in_use(champion, registry):
    registry.champion = None
    champion.look(ready)
    assert champion.model.version == 1


def test_a_registry_that_is_away_is_asked_again(champion, registry, results, monkeypatch):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0)
    stop, looks = Event(), []
    ask = registry.champion_number

    def unsteady(name):
        looks.append(name)
        registry.away = len(looks) < 3
        if len(looks) == 4:
            stop.set()
        return ask(name)

    registry.champion_number, registry.champion = unsteady, 2
    champion.watch(stop, ready)
    assert champion.model.version == 2
    assert results == ["loaded"]


@pytest.mark.parametrize("error", [ValueError("no number"), RegistryUnavailableError("no answer")])
def test_whatever_fails_is_told_once_and_ends_no_watch(
    champion, registry, results, monkeypatch, caplog, error
):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0)
    stop, looks = Event(), []
    ask = registry.champion_number

    def unsteady(name):
        looks.append(name)
        if len(looks) < 5:
            raise error
        if len(looks) == 6:
            stop.set()
        return ask(name)

    registry.champion_number, registry.champion = unsteady, 2
    champion.watch(stop, ready)
    assert (champion.model.version, results) == (2, ["loaded"])
    assert len([said for said in caplog.messages if str(error) in said]) == 1


def test_a_version_that_hangs_ends_when_another_is_the_champion(settings, tmp_path, until):
    tiny_model.register(settings, "leaf", tmp_path / "1")
    real, told = module.Registry(settings.registry_address), []
    champion = Champion("leaf", "onnx", real, told.append)
    tiny_model.challenge(settings, "leaf", tmp_path / "2", fault="hangs", grey=1.0)
    real._client.set_registered_model_alias("leaf", "champion", "2")
    look = Thread(target=champion.look, args=(ready,), daemon=True)
    look.start()
    until(tiny_model.loading)
    real._client.set_registered_model_alias("leaf", "champion", "1")
    look.join(10 * apart.LOOK_SECONDS)
    assert not look.is_alive()
    assert (champion.model.version, told) == (1, [])
    tiny_model.register(settings, "leaf", tmp_path / "3", means=(0.0, 255.0, 128.0))
    champion.look(ready)
    assert (champion.model.version, told) == (3, ["loaded"])


@pytest.mark.parametrize("fault", ["hangs", "eats", "raises"])
def test_a_version_that_fails_on_any_image_leaves_the_old_one(
    settings, tmp_path, monkeypatch, fault
):
    monkeypatch.setattr(apart, "LOADING", 3.0)
    tiny_model.register(settings, "leaf", tmp_path / "1")
    real, told = module.Registry(settings.registry_address), []
    champion = Champion("leaf", "onnx", real, told.append)
    tiny_model.register(settings, "leaf", tmp_path / "2", means=(0.0, 255.0, 128.0))
    champion.look(ready)
    # As another client of MLflow promotes: ours would find out first.
    tiny_model.challenge(settings, "leaf", tmp_path / "3", fault=fault, grey=1.0)
    real._client.set_registered_model_alias("leaf", "champion", "3")
    champion.look(ready)
    assert (champion.model.version, told) == (2, ["loaded", "failed"])


def test_a_first_one_that_hangs_on_any_image_is_refused(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(apart, "LOADING", 3.0)
    tiny_model.challenge(settings, "leaf", tmp_path / "1", fault="hangs", grey=1.0)
    real = module.Registry(settings.registry_address)
    real._client.set_registered_model_alias("leaf", "champion", "1")
    with pytest.raises(ModelDamagedError, match=r"leaf version 1 cannot be served: .* too long"):
        Champion("leaf", "onnx", real, print)


@pytest.mark.parametrize(("raised", "told"), [("no memory", "no memory"), ("", "RuntimeError")])
def test_a_first_one_that_fails_in_its_process_is_told_with_its_cure(registry, raised, told):
    def load(*_):
        raise RuntimeError(raised)

    registry.version = lambda _: SimpleNamespace(number=1)
    with pytest.raises(ModelDamagedError) as error:
        Champion("leaf", "onnx", registry, [].append, load=load)
    assert str(error.value) == (
        f"leaf version 1 cannot be served: {told}; roll it back: sightstream models rollback leaf"
    )
