"""Loads versions in a process of their own, which they may end, fill or hold up."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

from sightstream.models.registry import Registry, Version
from sightstream.models.version import ServedModel, serve
from sightstream.scoring.child import LOADING, Child, for_models

NICE = 10
"""How much lower the priority is beside a stream, whose images do not wait for it."""

LOOK_SECONDS = 2.0  # between two looks at the registry

Wanted = Callable[[], bool]


def load(
    registry: Registry, version: Version, engine: str, device: str,
    memory: int = 0, nice: int = 0, wanted: Wanted = lambda: True,
) -> ServedModel:  # fmt: skip
    """Return a version that has answered, as `Registry.load` does.

    The process may allocate so many bytes, by default half of the machine's, or 4 GiB. Its priority
    is lower by `nice`. It ends early where `wanted`, which another thread asks, is false; an error
    of that counts as true.

    Raises:
        LostError: The version ended its process, took too long, or was not wanted any more.
        RegistryUnavailableError: The registry does not answer.
        SightstreamError: It does not load, or does not answer as it must.
        RuntimeError: It does not, for another reason.
    """
    with registry.files(version) as files:
        given = files, version.name, version.number, version.digest, engine, device
        child, done = Child(_Loader, *given, memory=memory or for_models(), nice=nice), Event()
        Thread(target=_end_unless, args=(wanted, child, done), daemon=True).start()
        try:
            loaded: ServedModel = child.ask("load", seconds=LOADING)
        finally:
            done.set()
            child.end()
    return loaded


def _end_unless(wanted: Wanted, child: Child, done: Event) -> None:
    while not done.wait(LOOK_SECONDS):
        with suppress(Exception):  # such as of a registry that is away
            if not wanted():
                child.kill()


class _Loader:
    def __init__(
        self, files: Path, name: str, number: int, digest: str, engine: str, device: str
    ) -> None:
        self._given = files, name, number, digest, engine, device

    def load(self) -> ServedModel:
        return serve(*self._given)
