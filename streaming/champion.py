"""The model in use: watched in the registry, loaded beside the stream, taken at a micro-batch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event, Lock

from sightstream.config import Settings
from sightstream.errors import RegistryUnavailableError
from sightstream.models.registry import Registry
from sightstream.models.version import ServedModel

log = logging.getLogger(__name__)

INTERVAL = 2.0
"""Seconds between two looks at the registry."""


class Champion:
    """The registry's champion, as far as it can be loaded."""

    def __init__(
        self, settings: Settings, registry: Registry, on_reload: Callable[[str], None]
    ) -> None:
        """Loads the champion.

        Args:
            settings: the model's name, and the engine.
            registry: where it is registered.
            on_reload: called with `loaded` or `failed` when another version became champion.

        Raises:
            ModelNotFoundError: there is none.
            ModelDamagedError: it does not serve.
        """
        self._name = settings.model
        self._engine = settings.engine
        self._registry = registry
        self._on_reload = on_reload
        self._lock = Lock()
        self._model = registry.load(registry.version(self._name), self._engine)
        self._seen = self._model.version

    @property
    def model(self) -> ServedModel:
        """The latest version that was loaded and answered as a model must."""
        with self._lock:
            return self._model

    def watch(self, stop: Event, ready: Callable[[ServedModel], None]) -> None:
        """Loads each new champion until told to stop; what fails leaves the old one in use.

        Args:
            stop: ends it.
            ready: called with a new champion before it takes over.
        """
        while not stop.wait(INTERVAL):
            try:
                self.look(ready)
            except RegistryUnavailableError as error:
                log.warning("%s stays in use: %s", self._model, error)

    def look(self, ready: Callable[[ServedModel], None]) -> None:
        """Loads the champion if it is another one than at the last look.

        Args:
            ready: see `watch`.

        Raises:
            RegistryUnavailableError: the next look may have more luck.
        """
        number = self._registry.champion_number(self._name)
        if number is None or number == self._seen:
            return
        try:
            model = self._registry.load(self._registry.version(self._name, number), self._engine)
            ready(model)
        except RegistryUnavailableError:
            raise
        except Exception as error:  # whatever a model's files bring about
            log.error("%s stays in use: %s", self._model, error)
            self._on_reload("failed")
        else:
            with self._lock:
                self._model = model
            self._on_reload("loaded")
            log.info("%s takes over at the next micro-batch", model)
        self._seen = number
