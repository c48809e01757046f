"""The models that answer beside the champion: followed in the registry, and left out after faults.

The champion is asked first and by its own process; nothing that goes wrong here is its affair.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from threading import Event, Lock

from sightstream.errors import RegistryUnavailableError, first_line
from sightstream.models.registry import Registry
from sightstream.models.version import ServedModel
from sightstream.scoring.beside import MEMORY, SKIPPED
from sightstream.tables.rows import Other
from streaming import apart
from streaming.apart import LOOK_SECONDS
from streaming.champion import Once

log = logging.getLogger(__name__)

PAUSE = 60.0
"""Seconds that a model is not asked after a fault; each further one doubles them."""

LONGEST_PAUSE = 3600.0

TELL = 60.0
"""Seconds of which a log line tells that a shadow answered for less than half of the images."""

Ready = Callable[[], None]
OnReload = Callable[[str], None]
Key = tuple[str, int]


@dataclass
class _Tally:
    """What came of the images that a model might have answered for, since a time."""

    since: float
    images: int = 0
    answered: int = 0


@dataclass(frozen=True)
class Seated:
    """A model that answers beside the champion, and the alias under which it is followed."""

    model: ServedModel
    alias: str
    is_shadow: bool

    @property
    def key(self) -> Key:
        """Its name and number."""
        return self.model.name, self.model.version

    def __str__(self) -> str:
        return f"{self.model} ({self.alias})"


class Follower:
    """A model under an alias: the version in use, or None where there is none that loads."""

    def __init__(
        self, which: str, engine: str, registry: Registry, on_reload: OnReload,
        device: str = "auto", *, is_shadow: bool = False,
    ) -> None:  # fmt: skip
        """Load NAME, for its champion, or NAME@ALIAS; an alias that is not set is waited for.

        Raises:
            ModelNotFoundError: there is no model of that name.
        """
        self._name, _, alias = which.partition("@")
        self.alias, self.is_shadow = alias or "champion", is_shadow
        self._registry, self._on_reload, self._runs_on = registry, on_reload, (engine, device)
        self.model: ServedModel | None = None
        self._seen: int | None = None
        if not registry.versions(self._name):
            registry.version(self._name, self.alias)
        self.look()

    def __str__(self) -> str:
        return f"{self._name}@{self.alias}"

    @property
    def why(self) -> str:
        """Return why there is no model."""
        return f"version {self._seen} cannot be loaded" if self._seen else "no version has it"

    def look(self, ready: Ready | None = None) -> None:
        """Take the version that has the alias now; one that does not load leaves the old in use.

        `ready` is called after it was taken.

        Raises:
            RegistryUnavailableError: the registry does not answer; the next look tries again.
        """
        number = self._registry.number(self._name, self.alias)
        if number == self._seen:
            return

        def wanted() -> bool:
            return self._registry.number(self._name, self.alias) == number

        model, failure = None, None
        try:
            if number is not None:
                version = self._registry.version(self._name, number)
                model = apart.load(
                    self._registry, version, *self._runs_on, MEMORY, apart.NICE, wanted
                )
        except RegistryUnavailableError:
            raise
        except Exception as error:  # a model's files may cause any
            failure = error
        if not wanted():
            return  # the next look takes the one that has it now
        self._seen = number
        if failure:
            log.error("%s version %s is not asked: %s", self._name, number, failure)
            self._on_reload("failed")
            return
        self.model = model
        log.info("%s is %s now", self, model or "no version")
        if ready:
            self._on_reload("loaded")
            ready()


@dataclass
class Lineup:
    """The models beside the champion, of which the shadow is the first, and takes the canary."""

    followers: Sequence[Follower] = ()
    canary: float = 0.0
    clock: Callable[[], float] = time.monotonic
    _pauses: dict[Key, tuple[float, float]] = field(default_factory=dict)
    _tallies: dict[Key, _Tally] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)
    _unfit: tuple[ServedModel, ServedModel] | None = None

    def beside(self, champion: ServedModel) -> list[Seated]:
        """Return those that answer beside the champion, each version once."""
        found: dict[Key, Seated] = {}
        for each in self.followers:
            if each.model and (each.model.name, each.model.version) != (
                champion.name, champion.version,
            ):  # fmt: skip
                seated = Seated(each.model, each.alias, each.is_shadow)
                found.setdefault(seated.key, seated)
        return list(found.values())

    def share(self, champion: ServedModel, others: Sequence[Other]) -> float:
        """Return the canary's share, where the shadow answers and knows the champion's labels."""
        shadow = self.followers[0].model if self.followers else None
        if not self.canary or not shadow or not others or others[0].model is not shadow:
            return 0.0
        unknown = set(champion.labels) - set(shadow.labels)
        if not unknown:
            return self.canary
        if (pair := (champion, shadow)) != self._unfit:
            self._unfit = pair
            log.error("%s is no canary for %s: it does not know %s", shadow, champion, min(unknown))
        return 0.0

    def resting(self, others: Sequence[Seated]) -> list[int]:
        """Return the numbers of those that failed a short while ago."""
        ends = [self._pauses.get(each.key, (0.0, 0.0))[0] for each in others]
        return [number for number, end in enumerate(ends) if end > self.clock()]

    def note(self, others: Iterable[Other]) -> None:
        """Note what came of asking: one that failed is not asked for a while."""
        with self._lock:
            for each in others:
                key = each.model.name, each.model.version
                found = set(each.answers["fault"].to_pylist()) - {None, SKIPPED}
                if not found:
                    if answered := len(each.answers["classes"].drop_null()):
                        self._pauses.pop(key, None)
                    asked = answered + len(each.answers["fault"].drop_null())
                    self._tally(key, asked, answered)
                    continue
                fault = ", ".join(sorted(found))
                seconds = min(LONGEST_PAUSE, 2 * self._pauses.get(key, (0.0, PAUSE / 2))[1])
                self._pauses[key] = self.clock() + seconds, seconds
                log.error(
                    "%s version %d gave no answer (%s), and is not asked for %.0f s", *key, fault,
                    seconds,
                )  # fmt: skip

    def _tally(self, key: Key, images: int, answered: int) -> None:
        tally = self._tallies.setdefault(key, _Tally(self.clock()))
        tally.images, tally.answered = tally.images + images, tally.answered + answered
        if self.clock() - tally.since < TELL:
            return
        if tally.answered < tally.images / 2:
            log.warning(
                "%s version %d answered for %d of the last %d images: it starts, or takes longer "
                "than a shadow's share of the time", *key, tally.answered, tally.images,
            )  # fmt: skip
        del self._tallies[key]

    def watch(self, stop: Event, ready: Ready) -> None:
        """Follow the aliases until `stop` is set; `ready` is called after each change."""
        told = [Once() for _ in self.followers]
        while not stop.wait(LOOK_SECONDS):
            for each, tell in zip(self.followers, told, strict=True):
                try:
                    each.look(ready)
                    tell()
                except RegistryUnavailableError as error:
                    tell(f"{each.model} stays in use: {error}")
                except Exception as error:  # the workers load it with its first images then
                    fault = first_line(error)
                    tell(f"{each.model} was not loaded ahead of its first images: {fault}")
