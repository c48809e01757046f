"""A format whose decoder ends its process, as a fault in outside software does."""

import os
import signal
from io import BytesIO
from pathlib import Path

from PIL import Image

from sightstream.images.formats import Format

SIGNATURE = b"\x89lethal\n"


def _end(data: BytesIO) -> Image.Image:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


LETHAL = Format("LETHAL", rb"\x89lethal\n", _end, lambda data: False)


def install(folder: Path) -> Path:
    """Writes what makes it a plugin of each Python with that folder on its path; returns it."""
    info = folder / "chaos_formats-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: chaos-formats\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[sightstream.formats]\nlethal = {__name__}:LETHAL\n")
    return folder
