"""Loads versions in a process of their own, which they may end, fill or hold up."""

from pathlib import Path

from sightstream.models.registry import Registry, Version
from sightstream.models.version import ServedModel, serve
from sightstream.scoring.child import LOADING, Child, for_models

NICE = 10
"""How much lower the priority is beside a stream, whose images do not wait for it."""


def load(
    registry: Registry, version: Version, engine: str, device: str,
    memory: int = 0, nice: int = 0,
) -> ServedModel:  # fmt: skip
    """Return a version that has answered, as `Registry.load` does.

    The process may allocate so many bytes, by default half of the machine's, or 4 GiB. Its priority
    is lower by `nice`.

    Raises:
        LostError: The version ended its process, or took too long.
        RegistryUnavailableError: The registry does not answer.
        SightstreamError: It does not load, or does not answer as it must.
        RuntimeError: It does not, for another reason.
    """
    given = registry.fetch(version), version.name, version.number, version.digest, engine, device
    child = Child(_Loader, *given, memory=memory or for_models(), nice=nice)
    try:
        loaded: ServedModel = child.ask("load", seconds=LOADING)
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
