"""The faults, one function each: a context manager that does it, and undoes it at its end.

It gets the world and a source of chance of its own, and yields what it did.
"""

from tests.chaos.faults import (
    clocks,
    cluster,
    disks,
    errors,
    files,
    homes,
    images,
    kafka,
    models,
    processes,
    store,
)  # fmt: skip
from tests.chaos.faults.fault import Fault

ALL: dict[str, Fault] = {
    each.name: each
    for module in (
        processes,
        files,
        disks,
        errors,
        clocks,
        images,
        models,
        homes,
        kafka,
        store,
        cluster,
    )
    for each in module.FAULTS
}
