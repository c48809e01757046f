"""The champion: watched in the registry, loaded beside the stream, taken by each micro-batch."""

import logging
from collections.abc import Callable
from functools import partial
from threading import Event

from sightstream.errors import ModelDamagedError, RegistryUnavailableError, first_line
from sightstream.models.registry import Registry
from sightstream.models.version import ServedModel
from sightstream.scoring.child import LostError
from streaming import apart
from streaming.apart import LOOK_SECONDS

log = logging.getLogger(__name__)

Load = Callable[..., ServedModel]
"""Loads a version as `apart.load` does."""

BESIDE: Load = partial(apart.load, nice=apart.NICE)
"""Loads a version while a stream runs; `wanted` is given, too."""

_FAULTS = {"crashed": "ended", "timeout": "took too long"}


class Once:
    """Logs what fails look after look: once, until it goes well or fails otherwise."""

    def __init__(self) -> None:
        self._told = ""

    def __call__(self, fault: str = "") -> None:
        """Note how a look went; no fault is a look that went well."""
        if fault and fault != self._told:
            log.warning("%s", fault)
        self._told = fault


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
        except (LostError, RuntimeError) as error:
            why = first_line(error)
            if isinstance(error, LostError):
                why = f"the process that loaded it {_FAULTS[error.code]}"
            raise ModelDamagedError(
                f"{self._name} version {version.number} cannot be served: {why}; roll it back: "
                f"sightstream models rollback {self._name}"
            ) from None
        self._seen = self.model.version

    def watch(self, stop: Event, ready: Callable[[ServedModel], None]) -> None:
        """Load each new champion until `stop` is set; where that fails, the old one stays in use.

        `ready` is called with a new champion before it takes over.
        """
        told = Once()
        while not stop.wait(LOOK_SECONDS):
            try:
                self.look(ready)
                told()
            except Exception as error:  # whatever it is, the next look may go well
                told(f"{self.model} stays in use: {first_line(error)}")

    def look(self, ready: Callable[[ServedModel], None]) -> None:
        """Load the champion if it is another version than at the last look; see `watch`.

        One that is no champion any more, as after a rollback, is loaded no further, and does not
        take over.

        Raises:
            RegistryUnavailableError: the registry does not answer; the next look tries again.
        """
        number = self._registry.champion_number(self._name)
        if number is None or number == self._seen:
            return

        def wanted() -> bool:
            return self._registry.champion_number(self._name) == number

        try:
            version = self._registry.version(self._name, number)
            model = self._beside(self._registry, version, *self._runs_on, wanted=wanted)
            ready(model)
            failure = None
        except RegistryUnavailableError:
            raise
        except Exception as error:  # a model's files may cause any
            failure = error
        if not wanted():
            log.info("%s stays in use: version %s is champion no more", self.model, number)
            return
        if failure:
            log.error("%s stays in use: %s", self.model, failure)
            self._on_reload("failed")
        else:
            self.model = model
            self._on_reload("loaded")
            log.info("%s takes over at the next micro-batch", model)
        self._seen = number
