"""The extra `tiff`: the package imagecodecs, which is looked for once in a process."""

from functools import cache
from importlib.util import find_spec

from sightstream.images.limits import RefusedError


@cache
def is_installed() -> bool:
    """True where imagecodecs can be imported; importing it takes a second."""
    return find_spec("imagecodecs") is not None


def require(kind: str) -> None:
    """Refuse a kind of picture that needs imagecodecs where that is missing."""
    if not is_installed():
        sentence = f"A {kind} needs: pip install 'sightstream[tiff]'."
        raise RefusedError("unsupported_format", sentence)
