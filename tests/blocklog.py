"""A disk that logs each write and each flush, so that any loss of power can be looked at later.

The log is that of QEMU's driver `blklogwrites`, in the format of Linux' dm-log-writes. After a loss
of power a disk holds all that was written before its last flush, and any part of what came since.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

MEGABYTES = 512
"""Size of a disk, most of which is a hole: XFS takes no less than 300."""

SECTOR = 512

_FLUSH, _FUA, _DISCARD, _MARK = 1, 2, 4, 8

MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"],
    "xfs": ["mkfs.xfs", "-q", "-f", "-K"],
    "btrfs": ["mkfs.btrfs", "-q", "-f", "-K", "--mixed"],
}


def missing(system: str) -> str:
    """Why there can be no such disk with a file system here; empty where there can."""
    if os.geteuid():
        return "it takes root to mount a file system"
    if not Path("/dev/loop-control").exists() or not Path("/dev/fuse").exists():
        return "this machine has no loop devices, or no FUSE"
    if system not in Path("/proc/filesystems").read_text().split():
        return f"the kernel has no {system}"
    for program in ("qemu-storage-daemon", MAKE[system][0]):
        if not shutil.which(program):
            return f"{program} is not installed"
    return ""


class _Entry(NamedTuple):
    sector: int
    count: int
    flags: int
    at: int  # of its data in the log


class Disk:
    """A file system on such a disk, mounted at `place` until the block of `logged` ends."""

    def __init__(self, folder: Path, place: Path) -> None:
        self.place = place
        self._folder, self._log = folder, folder / "log.img"

    @property
    def position(self) -> int:
        """Number of entries of the log up to now."""
        with self._log.open("rb") as log:
            return int(struct.unpack("<QQQ", log.read(24))[2])

    def cut(self, positions: Sequence[int], seed: int) -> Iterator[tuple[int, Path]]:
        """The disk as a loss of power at each position may leave it, one after the other.

        After the block of `logged`: two file systems of one id cannot be mounted at once.

        Args:
            positions: of the log, in order.
            seed: of what is lost of the writes since the last flush.

        Yields:
            A position, and where its disk is mounted until the next one is asked for.
        """
        chance, whole = random.Random(seed), self._folder / "whole.img"
        place, lost = self._folder / "after", self._folder / "after.img"
        place.mkdir()
        _hole(whole)
        done = 0
        with self._log.open("rb") as log, whole.open("r+b") as disk:
            entries = _entries(log)
            for position in positions:
                flushed = max(
                    (n + 1 for n, e in enumerate(entries[:position]) if e.flags & _FLUSH), default=0
                )
                for entry in entries[done:flushed]:
                    _write(log, entry, disk)
                done = flushed
                disk.flush()
                _run("cp", "--sparse=always", str(whole), str(lost))
                since = [
                    e for e in entries[flushed:position] if e.flags & _FUA or chance.random() < 0.5
                ]
                with lost.open("r+b") as torn:
                    for entry in since:
                        _write(log, entry, torn)
                with _mounted(lost, place):
                    yield position, place


@contextmanager
def logged(folder: Path, system: str) -> Iterator[Disk]:
    """A new disk with a file system: ext4, xfs or btrfs."""
    folder.mkdir()
    _hole(folder / "disk.img")
    _hole(folder / "log.img", 8)
    (folder / "export.img").touch()
    with ExitStack() as stack:
        stack.enter_context(_served(folder))
        device = _run("losetup", "--find", "--show", str(folder / "export.img")).strip()
        stack.callback(_detached, device)
        _run(*MAKE[system], device)
        place = folder / "mounted"
        place.mkdir()
        _run("mount", "-o", "noatime", device, str(place))
        stack.callback(_unmounted, place)
        yield Disk(folder, place)


@contextmanager
def _served(folder: Path) -> Iterator[None]:
    nodes = (
        f"driver=file,filename={folder}/disk.img,node-name=disk",
        f"driver=file,filename={folder}/log.img,node-name=log",
        "driver=blklogwrites,file=disk,log=log,log-super-update-interval=1,node-name=both",
    )
    export = f"type=fuse,id=export,node-name=both,mountpoint={folder}/export.img,writable=on"
    options = [word for node in nodes for word in ("--blockdev", node)] + ["--export", export]
    process = subprocess.Popen(["qemu-storage-daemon", *options])
    try:
        deadline = time.monotonic() + 30
        while (folder / "export.img").stat().st_size == 0:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("qemu-storage-daemon does not serve the disk")
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def _mounted(image: Path, place: Path) -> Iterator[None]:
    _run("mount", "-o", "loop,noatime", str(image), str(place))
    try:
        yield
    finally:
        _unmounted(place)


def _unmounted(place: Path) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            _run("umount", str(place))
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def _detached(device: str) -> None:
    with suppress(OSError):
        _run("losetup", "--detach", device)


def _entries(log: BinaryIO) -> list[_Entry]:
    _, _, number, size = struct.unpack("<QQQI", log.read(28))
    found, at = list[_Entry](), size
    for _ in range(number):
        log.seek(at)
        sector, count, flags, _ = struct.unpack("<QQQQ", log.read(32))
        at += size
        found.append(_Entry(sector, count, flags, at))
        at += 0 if flags & _DISCARD else count * SECTOR
    return found


def _write(log: BinaryIO, entry: _Entry, disk: BinaryIO) -> None:
    disk.seek(entry.sector * SECTOR)
    if entry.flags & _DISCARD:
        disk.write(bytes(entry.count * SECTOR))
    elif entry.count:
        log.seek(entry.at)
        disk.write(log.read(entry.count * SECTOR))


def _hole(file: Path, times: int = 1) -> None:
    with file.open("wb") as opened:
        opened.truncate(times * MEGABYTES * 2**20)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
