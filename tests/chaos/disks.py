"""A small file system of its own, in a file: it gets full, read-only, and loses its power.

It needs root, a loop device and ext4. A file system in memory would never lose what is not synced.
"""

import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

BUSY = 20.0
"""Seconds within which processes that were killed have left a file system."""


def missing() -> str:
    """Why there can be none here; empty where there can."""
    if os.geteuid():
        return "it takes root to mount a file system"
    if not Path("/dev/loop-control").exists():
        return "this machine has no loop devices"
    if not shutil.which("mkfs.ext4"):
        return "mkfs.ext4 is not installed"
    return ""


class Disk:
    """A mounted file system."""

    def __init__(self, image: Path, place: Path, megabytes: int, inodes: int) -> None:
        self._image, self.place = image, place
        place.mkdir(parents=True, exist_ok=True)
        with image.open("wb") as file:
            file.truncate(megabytes * 2**20)
        _run("mkfs.ext4", "-q", "-m", "0", "-N", str(inodes), str(image))
        self._mount()

    def _mount(self) -> None:
        _run("mount", "-o", "loop,noatime", str(self._image), str(self.place))

    def fill(self) -> Path:
        """Leaves no byte; returns the file to be removed."""
        filler = self.place / "filler"
        with filler.open("wb") as file, suppress(OSError):
            free = shutil.disk_usage(self.place).free
            os.posix_fallocate(file.fileno(), 0, max(free - 2**16, 1))
            while True:
                file.write(b"\0" * 4096)
                file.flush()
        return filler

    def fill_inodes(self) -> Path:
        """Leaves no inode; returns the folder to be removed."""
        folder = self.place / "fillers"
        with suppress(OSError):
            folder.mkdir()
            number = 0
            while True:
                (folder / str(number)).touch()
                number += 1
        return folder

    def read_only(self, on: bool) -> None:
        """Nobody may have a file of it open for writing."""
        _once_left("mount", "-o", f"remount,{'ro' if on else 'rw'}", str(self.place))

    def lose_power(self) -> None:
        """What was not written to the device is gone; nobody may have a file of it open.

        The image file is the device: it is copied before the file system writes what it holds in
        memory, and takes its own place.
        """
        copy = self._image.with_name(f"{self._image.name}.cut")
        _run("cp", "--sparse=always", str(self._image), str(copy))
        self.end()
        copy.replace(self._image)
        self._mount()

    def leave(self) -> None:
        """Unmounts it once nobody has a file of it open, be it this process at its end."""
        _run("umount", "--lazy", str(self.place))

    def end(self) -> None:
        """Unmounts it."""
        _once_left("umount", str(self.place))


def _once_left(*command: str) -> None:
    """Runs a command that fails as long as a process that was killed is on its way out."""
    deadline = time.monotonic() + BUSY
    while True:
        try:
            return _run(*command)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
