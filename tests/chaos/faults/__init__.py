"""The faults, one function each: a context manager that does it, and undoes it at its end.

It gets the world and a source of chance of its own, and yields what it did.
"""

from tests.chaos.faults import (
    clocks,
    cluster,
    disks,
    files,
    images,
    kafka,
    models,
    processes,
    store,
)  # fmt: skip
from tests.chaos.faults.fault import Fault

ALL: dict[str, Fault] = {
    each.name: each
    for module in (processes, files, disks, clocks, images, models, kafka, store, cluster)
    for each in module.FAULTS
}

MISSING = {
    "an input/output error on one file": "no device mapper here, and no FUSE among the packages",
    "a quota": "what it does is what a full disk does; the kernel here has none for a loop device",
    "a leader change, and a revoked right": "the broker of the tests is one node without rights",
    "messages deleted by retention": "a loss that the stream reports; tests/integration has it",
    "the end of a cluster's master": "a standalone master without a store forgets its workers",
    "a model or an image that hangs": "nothing limits a job that runs long; shadows are tested in "
    "tests/faults",
}
"""Faults that are not made, and why."""
