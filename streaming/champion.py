"""The champion: watched in the registry, loaded beside the stream, taken by each micro-batch."""

import logging
from collections.abc import Callable
from functools import partial
from threading import Event

from sightstream.errors import ModelDamagedError, RegistryUnavailableError
from sightstream.models.registry import Registry, Version
from sightstream.models.version import ServedModel
from sightstream.scoring.child import LostError
from streaming import apart

log = logging.getLogger(__name__)

Load = Callable[[Registry, Version, str, str], ServedModel]

BESIDE: Load = partial(apart.load, nice=apart.NICE)
"""Loads a version while a stream runs."""

LOOK_SECONDS = 2.0  # between two looks at the registry

_FAULTS = {"crashed": "ended", "timeout": "took too long"}


class Champion:
    """The model in use: the registry's champion, or the one before while that cannot be loaded."""

    def __init__(
        self, name: str, engine: str, registry: Registry, on_reload: Callable[[str], None],
        device: str = "auto", load: Load = apart.load,
        beside: Load = BESIDE,
    ) -> None:  # fmt: skip
        """Load the champion of a model; raises as `Registry.chosen`, `version` and `load` do.

        `on_reload` is called with `loaded` or `failed` when another version became champion, which
        `beside` loads. By default, both load in a process of its own.
        """
        self._name = registry.chosen(name)
        self._runs_on = engine, device
        self._registry = registry
        self._on_reload = on_reload
        self._beside = beside
        # One thread replaces it, any may read it.
        version = registry.version(self._name)
        try:
            self.model = load(registry, version, *self._runs_on)
        except LostError as lost:
            raise ModelDamagedError(
                f"{self._name} version {version.number} cannot be served: the process that loaded "
                f"it {_FAULTS[lost.code]}; roll it back: sightstream models rollback {self._name}"
            ) from None
        self._seen = self.model.version

    def watch(self, stop: Event, ready: Callable[[ServedModel], None]) -> None:
        """Load each new champion until `stop` is set; where that fails, the old one stays in use.

        `ready` is called with a new champion before it takes over.
        """
        while not stop.wait(LOOK_SECONDS):
            try:
                self.look(ready)
            except RegistryUnavailableError as error:
                log.warning("%s stays in use: %s", self.model, error)

    def look(self, ready: Callable[[ServedModel], None]) -> None:
        """Load the champion if it is another version than at the last look; see `watch`.

        One that is no champion any more once it is loaded, as after a rollback, does not take over.

        Raises:
            RegistryUnavailableError: the registry does not answer; the next look tries again.
        """
        number = self._registry.champion_number(self._name)
        if number is None or number == self._seen:
            return
        try:
            version = self._registry.version(self._name, number)
            model = self._beside(self._registry, version, *self._runs_on)
            ready(model)
            if self._registry.champion_number(self._name) != number:
                log.info("%s stays in use: %s is not the champion any more", self.model, model)
                return
        except RegistryUnavailableError:
            raise
        except Exception as error:  # a model's files may cause any
            log.error("%s stays in use: %s", self.model, error)
            self._on_reload("failed")
        else:
            self.model = model
            self._on_reload("loaded")
            log.info("%s takes over at the next micro-batch", model)
        self._seen = number
