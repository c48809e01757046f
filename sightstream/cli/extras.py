"""The extras of this package: which are installed, and the line that installs a missing one."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from sightstream import terminal

if TYPE_CHECKING:
    from packaging.requirements import Requirement

PACKAGE = "sightstream"

_STRICT = "simplejpeg"
"""The decoder without which Pillow decodes, which makes up missing pixels of some JPEG files."""

_DISTRIBUTIONS = {
    "altair": "streamlit",
    "botocore": "boto3",
    "kafka": "kafka-python",
    "keras": "tensorflow",
    "sklearn": "scikit-learn",
}
"""Distributions by the names that their modules are imported by, where these differ."""


def names() -> list[str]:
    """The extras that the package's metadata declare; without the one that installs them all."""
    return sorted({*metadata(PACKAGE).get_all("Provides-Extra", ())} - {"all"})


def requirements(extra: str = "") -> Iterator[Requirement]:
    """The requirements of an extra as its metadata declare them; by default those of the core."""
    from packaging.requirements import Requirement

    for line in requires(PACKAGE) or ():
        requirement = Requirement(line)
        marker = requirement.marker
        of_extra = marker is not None and "extra" in str(marker)
        if of_extra == bool(extra) and (marker is None or marker.evaluate({"extra": extra})):
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


def install(*wanted: Requirement) -> str:
    """The command that installs packages into the environment of this program, which stays."""
    program = shlex.join([sys.executable, "-m", "pip", "install"])
    if find_spec("pip") is None:  # as in environments that uv makes
        program = shlex.join(["uv", "pip", "install", "--python", sys.executable])
    return " ".join([program, *(f"'{each.name}{each.specifier}'" for each in wanted)])


def tell_of_decoder() -> None:
    """Says that damaged JPEG files are not told from whole ones, where the strict decoder lacks."""
    if installed(_STRICT):
        return
    (wanted,) = (each for each in requirements() if each.name == _STRICT)
    terminal.say(
        f"{_STRICT} is not installed: a damaged JPEG may be classified where it would be rejected; "
        f"install it: {install(wanted)}"
    )


def require(*modules: str) -> None:
    """Raises ModuleNotFoundError for the first module that is missing, before a command begins."""
    for module in modules:
        if find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def explain(error: ModuleNotFoundError, command: str) -> str | None:
    """The sentence for a command that lacks a module of an extra; None for any other module."""
    module = (error.name or "").partition(".")[0]
    wanted = _DISTRIBUTIONS.get(module, module).replace("_", "-")
    # The command's own extra first: DuckDB belongs to two.
    for extra in sorted(names(), key=lambda extra: extra != command):
        if any(each.name == wanted for each in requirements(extra)):
            return f"{command} needs {wanted}, which is not installed: {cure(extra)}"
    return None
