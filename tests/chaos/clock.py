"""The clock of the stream's processes, which can be set; see clock.c."""

import shutil
import struct
import subprocess
from pathlib import Path


def missing() -> str:
    """Why there can be none here; empty where there can."""
    return "" if shutil.which("cc") else "there is no C compiler, cc"


class Clock:
    """Of all processes that are started with its environment."""

    def __init__(self, folder: Path) -> None:
        """Builds the library, in a new folder."""
        folder.mkdir()
        self._file, library = folder / "offset", folder / "clock.so"
        self._file.write_bytes(bytes(8))
        source = Path(__file__).with_suffix(".c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, source], check=True)
        self.environment = {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(self._file)}

    def set(self, seconds: int) -> None:
        """Sets it so many seconds before or behind the real one."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", seconds))
