"""What the stream's processes see otherwise than ours: the clock, and files that fail or are slow.

See preload.c.
"""

import shutil
import struct
import subprocess
from errno import EIO
from pathlib import Path

READS, WRITES, SYNCS = 1, 2, 4
"""Operations on files, which may fail or be slow."""

_LAYOUT = "=qqqq240s"
_HITS = struct.Struct("=q")
"""Behind that; only the processes write it."""


def missing() -> str:
    """Why there can be none here; empty where there can."""
    return "" if shutil.which("cc") else "there is no C compiler, cc"


class Preload:
    """For all processes that are started with its environment."""

    def __init__(self, folder: Path) -> None:
        """Builds the library, in a new folder."""
        folder.mkdir()
        self._file, library = folder / "controls", folder / "preload.so"
        self._file.write_bytes(bytes(struct.calcsize(_LAYOUT) + _HITS.size))
        source = Path(__file__).with_suffix(".c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, source], check=True)
        self.environment = {"LD_PRELOAD": str(library), "CHAOS_CONTROLS": str(self._file)}

    def clock(self, seconds: int) -> None:
        """Sets the clock so many seconds before or behind the real one."""
        self._set(seconds)

    def fail(self, operations: int, part: str, error: int = EIO) -> None:
        """Lets operations fail on files whose path holds a part."""
        self._set(0, operations, error, 0, part)

    def delay(self, operations: int, part: str, seconds: float) -> None:
        """Lets operations take so much longer on files whose path holds a part."""
        self._set(0, operations, 0, round(1e6 * seconds), part)

    def rest(self) -> None:
        """Lets all be as it is."""
        self._set()

    def hits(self) -> int:
        """How many operations have failed or waited so far."""
        (count,) = _HITS.unpack_from(self._file.read_bytes(), struct.calcsize(_LAYOUT))
        return int(count)

    def _set(
        self, seconds: int = 0, operations: int = 0, error: int = 0, wait: int = 0, part: str = ""
    ) -> None:
        with self._file.open("r+b") as file:  # as long as before: it is mapped
            file.write(struct.pack(_LAYOUT, seconds, operations, error, wait, part.encode()))
