"""The check of training that `sightstream doctor` runs."""

from collections.abc import Callable

from sightstream.cli import extras
from sightstream.config import Settings
from sightstream.errors import EnvironmentUnfitError
from training import elephas


def _training(_: Settings) -> str:
    found = {name: extras.installed(name) for name in ("tensorflow", "keras", "elephas")}
    if not all(found.values()):
        return f"not installed: {extras.cure('train')}"
    elephas.require()
    if extras.installed("tensorflow-cpu"):
        raise EnvironmentUnfitError(
            "tensorflow-cpu has overwritten files of tensorflow; uninstall both, then install "
            "what requirements.lock lists: make clean setup"
        )
    return ", ".join(f"{name} {release}" for name, release in found.items())


CHECKS: dict[str, Callable[[Settings], str]] = {"training": _training}
"""The checks of training, by name: each returns what it found, or raises what to do."""
