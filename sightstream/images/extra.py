"""Extras that some pictures need; for their packages is looked once in a process."""

from functools import cache
from importlib.util import find_spec

from sightstream.images.limits import RefusedError

_PACKAGES = {"heif": "pillow_heif", "jxl": "imagecodecs", "tiff": "imagecodecs"}


@cache
def is_installed(extra: str = "tiff") -> bool:
    """True where the package of an extra can be imported; importing one may take a second."""
    return find_spec(_PACKAGES[extra]) is not None


def require(kind: str, extra: str = "tiff") -> None:
    """Refuse a kind of picture that needs an extra where that is missing."""
    if not is_installed(extra):
        sentence = f"A {kind} needs: pip install 'sightstream[{extra}]'."
        raise RefusedError("unsupported_format", sentence)
