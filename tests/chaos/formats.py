"""Formats whose decoder ends its process or never returns, as a fault in outside software does."""

import ctypes
import os
import signal
from io import BytesIO
from pathlib import Path

from PIL import Image

from sightstream.images.formats import Format

LETHAL_SIGNATURE, ENDLESS_SIGNATURE = b"\x89lethal\n", b"\x89endless\n"


def _end(data: BytesIO) -> Image.Image:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def _wait(data: BytesIO) -> Image.Image:
    ctypes.PyDLL(None).pause()  # in C, with Python's lock
    raise AssertionError


LETHAL = Format("LETHAL", rb"\x89lethal\n", _end, lambda data: False)
ENDLESS = Format("ENDLESS", rb"\x89endless\n", _wait, lambda data: False)

_ENTRIES = f"""\
[sightstream.formats]
lethal = {__name__}:LETHAL
endless = {__name__}:ENDLESS

[sightstream.engines]
onnx = tests.chaos.engine:Faulty
"""


def install(folder: Path) -> Path:
    """Writes what makes them plugins of each Python with that folder on its path; returns it.

    The engine of `tests.chaos.engine` comes with them.
    """
    info = folder / "chaos-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: chaos\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(_ENTRIES)
    return folder
