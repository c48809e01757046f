"""The faults, one function each: a context manager that does it, and undoes it at its end.

It gets the world and a source of chance of its own, and yields what it did.
"""

from tests.chaos.faults import clocks, disks, files, images, kafka, models, processes
from tests.chaos.faults.fault import Fault

ALL: dict[str, Fault] = {
    each.name: each
    for module in (processes, files, disks, clocks, images, models, kafka)
    for each in module.FAULTS
}

MISSING = {
    "an input/output error on one file": "no device mapper here, and no FUSE among the packages",
    "a quota": "what it does is what a full disk does; the kernel here has none for a loop device",
}
"""Faults that are not made, and why."""
