"""The extras of this package: which are installed, and the line that installs a missing one."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement

PACKAGE = "sightstream"

EXTRAS = ("kafka", "sql", "train", "web")
"""Each installs what some commands need besides."""

_DISTRIBUTIONS = {
    "altair": "streamlit",
    "kafka": "kafka-python",
    "keras": "tensorflow",
    "sklearn": "scikit-learn",
}
"""Distributions by the names that their modules are imported by, where these differ."""


def requirements(extra: str = "") -> Iterator[Requirement]:
    """The requirements of an extra as its metadata declare them; by default those of the core."""
    from packaging.requirements import Requirement

    for line in requires(PACKAGE) or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or "extra" not in str(marker):
            wanted = not extra and (marker is None or marker.evaluate())
        else:
            wanted = bool(extra) and marker.evaluate({"extra": extra})
        if wanted:
            yield requirement


def installed(distribution: str) -> str:
    """The version of an installed distribution; empty where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def cure(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install '{PACKAGE}[{extra}]'"


def require(*modules: str) -> None:
    """Ends a command before it does anything, where modules that it needs are not installed.

    Raises:
        ModuleNotFoundError: of the first one; `explain` has the sentence.
    """
    for module in modules:
        if find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def explain(error: ModuleNotFoundError, command: str) -> str | None:
    """The sentence for a module that an extra of ours installs; None for any other module.

    Args:
        error: as Python raised it.
        command: what could not be done.
    """
    module = (error.name or "").partition(".")[0]
    wanted = _DISTRIBUTIONS.get(module, module).replace("_", "-")
    # The command's own extra first: DuckDB belongs to two.
    for extra in sorted(EXTRAS, key=lambda extra: extra != command):
        if any(each.name == wanted for each in requirements(extra)):
            return f"{command} needs {wanted}, which is not installed: {cure(extra)}"
    return None
