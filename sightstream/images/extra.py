"""Extras that formats need: their packages, which are looked for once in a process."""

from functools import cache
from importlib.util import find_spec

from sightstream.images.limits import RefusedError

_MODULES = {
    "dicom": ("pydicom", "pylibjpeg", "libjpeg", "openjpeg"),
    "heif": ("pillow_heif",),
    "jxl": ("imagecodecs",),
    "tiff": ("imagecodecs",),
}


@cache
def is_installed(name: str) -> bool:
    """True where the extra's modules can be imported; importing them takes up to a second."""
    return all(find_spec(each) is not None for each in _MODULES[name])


def require(kind: str, name: str) -> None:
    """Refuse a kind of picture that needs an extra where that is missing."""
    if not is_installed(name):
        sentence = f"A {kind} needs: pip install 'sightstream[{name}]'."
        raise RefusedError("unsupported_format", sentence)
