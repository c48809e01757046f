"""Loads versions in a process of their own, which they may end, fill or hold up."""

from pathlib import Path

import psutil  # type: ignore[import-untyped]

from sightstream.models.registry import Registry, Version
from sightstream.models.version import ServedModel, serve
from sightstream.scoring.child import MEMORY, Child

SECONDS = 300.0
"""Time that a version may take to load and to answer: TensorFlow's import alone takes half a minute
on a busy machine.
"""

NICE = 10
"""How much lower its priority is than the stream's, whose images do not wait for it."""


def load(
    registry: Registry, version: Version, engine: str, device: str, memory: int = 0
) -> ServedModel:
    """Return a version that has answered, as `Registry.load` does.

    The process may allocate so many bytes; by default half of the machine's, or 4 GiB.

    Raises:
        LostError: The version ended its process, or took too long.
        RegistryUnavailableError: The registry does not answer.
        SightstreamError: It does not load, or does not answer as it must.
        RuntimeError: It does not, for another reason.
    """
    memory = memory or max(MEMORY, psutil.virtual_memory().total // 2)
    given = registry.fetch(version), version.name, version.number, version.digest, engine, device
    child = Child(_Loader, *given, memory=memory, nice=NICE)
    try:
        loaded: ServedModel = child.ask("load", seconds=SECONDS)
    finally:
        child.end()
    return loaded


class _Loader:
    def __init__(
        self, files: Path, name: str, number: int, digest: str, engine: str, device: str
    ) -> None:
        self._given = files, name, number, digest, engine, device

    def load(self) -> ServedModel:
        return serve(*self._given)
