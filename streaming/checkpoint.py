"""A streaming query's checkpoint: what it holds, and whether it goes with the predictions table.

This is the one module that reads Spark's own files: `metadata`, `offsets` and `commits`.
"""

import json
from pathlib import Path
from typing import Any

from sightstream.errors import CheckpointMismatchError, InputError, first_line
from sightstream.io import disk
from sightstream.tables.predictions import Predictions

OWNER = "owner"
"""File of ours in a checkpoint: its id, and the number of the file that Spark's id is in."""


def app_id(checkpoint: Path) -> str:
    """Return the id of a checkpoint, under which the table keeps its last micro-batch.

    It is the one of Spark's query, unless the checkpoint is a copy.

    Raises:
        CheckpointMismatchError: its metadata file is missing, empty or damaged.
    """
    owner, said = checkpoint / OWNER, _said(checkpoint / "metadata")  # which Spark reads each time
    return str((_said(owner) if owner.exists() else said)["id"])


def _said(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
        said = dict(json.loads(content))
    except OSError as error:
        fault = f"cannot be read ({error.strerror})"
    except (ValueError, TypeError):
        fault = "is damaged" if content else "is empty, as after a power failure"
    else:
        if "id" in said:
            return said
        fault = "is damaged"
    raise CheckpointMismatchError(f"{path} {fault}; {_start_afresh(path.parent)}")


def own(checkpoint: Path, table: Predictions) -> str:
    """Return the id of a checkpoint as `app_id` does, and a new one where it is a copy.

    Two homes that write to one table under one id would skip the micro-batches of each other.
    """
    name, inode = app_id(checkpoint), (checkpoint / "metadata").stat().st_ino
    copied = is_copy(checkpoint)
    home = checkpoint.absolute().parent.parent
    if copied and not Path(table.path).is_relative_to(home):  # else the table was copied, too
        name = table.share(name, _newest(checkpoint / "commits"))
    if copied or not (checkpoint / OWNER).exists():
        disk.replace(checkpoint / OWNER, json.dumps({"id": name, "inode": inode}).encode())
    return name


def is_copy(checkpoint: Path) -> bool:
    """Tell whether a checkpoint was copied: a move on a file system keeps a file's number."""
    owner = checkpoint / OWNER
    inode = (checkpoint / "metadata").stat().st_ino
    return owner.exists() and bool(_said(owner).get("inode") != inode)


def require_match(checkpoint: Path, predictions: str) -> None:
    """Compare the checkpoint with the table; safe beside a running stream, and changes nothing.

    Raises:
        CheckpointMismatchError: the stream cannot go on; with what is wrong and what to do.
    """
    commits, offsets = checkpoint / "commits", checkpoint / "offsets"
    if not (checkpoint / "metadata").exists() and _newest(offsets) == _newest(commits) == -1:
        return  # it has never started
    name = app_id(checkpoint)
    before = _newest(commits)
    held = _last_batch(predictions, name)
    after = _newest(commits)
    if _empty(commits, after):
        # Spark runs the micro-batch again from the same offsets, and the table skips it.
        raise CheckpointMismatchError(_emptied(commits / str(after)))
    planned = _newest(offsets)
    if _empty(offsets, planned):
        # Planned anew, the micro-batch may get other images, which the table would skip if it holds
        # that number.
        cure = _start_afresh(checkpoint) if max(held, after) >= planned else ""
        raise CheckpointMismatchError(_emptied(offsets / str(planned), cure))
    if held > after and is_copy(checkpoint):
        return  # the other home went on
    # A running stream may commit between two looks. A crash may leave the table one ahead.
    ahead = held == after + 1 and (offsets / str(held)).exists()
    if not (before <= held <= after or ahead):
        raise CheckpointMismatchError(
            f"the checkpoint {checkpoint} ends with micro-batch {_shown(after)}, the table "
            f"{predictions} with {_shown(held)}, so that one of them was replaced or restored; "
            f"{_start_afresh(checkpoint)}"
        )


def offset(checkpoint: Path, batch: int | None = None) -> dict[str, Any]:
    """Return the offset at the end of a micro-batch, or of the last one; empty before the first."""
    if batch is None:
        batch = _newest(checkpoint / "commits")
    if batch < 0:
        return {}
    return _offset(checkpoint / "offsets" / str(batch))


def first_offset(checkpoint: Path) -> dict[str, Any]:
    """Return the offset at which Kafka's first micro-batch begins, as Spark noted it."""
    (noted,) = (checkpoint / "sources").glob("*/0")
    return _offset(noted)


def planned(checkpoint: Path, batch: int) -> float:
    """Return when a micro-batch was planned, in seconds since the epoch."""
    metadata = json.loads(_lines(checkpoint / "offsets" / str(batch))[1])
    return float(metadata["batchTimestampMs"] / 1000)


def _offset(path: Path) -> dict[str, Any]:
    # The lines are: the version of the log, metadata, and the offset of the one source, before
    # which version 2 of the log has the name of the source and a colon. The first one of Kafka is
    # in a file that begins with a zero byte.
    line = _lines(path)[-1]
    return dict(json.loads(line[line.index("{") :]))


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def _last_batch(predictions: str, name: str) -> int:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        if not DeltaTable.is_deltatable(predictions):
            return -1
        last = Predictions(predictions).last_batch(name)
    except InputError as error:
        raise CheckpointMismatchError(str(error)) from error
    except (DeltaError, OSError) as error:
        raise CheckpointMismatchError(
            f"the predictions table {predictions} cannot be read: {first_line(error)}"
        ) from error
    return -1 if last is None else last


def _newest(folder: Path) -> int:
    """Return the number of the last micro-batch that has a file; -1 where none has."""
    if not folder.is_dir():
        return -1
    return max((int(p.name) for p in folder.iterdir() if p.name.isdecimal()), default=-1)


def _empty(folder: Path, batch: int) -> bool:
    try:
        return not (folder / str(batch)).stat().st_size
    except FileNotFoundError:
        return False


def _emptied(path: Path, cure: str = "") -> str:
    return f"{path} is empty, as after a power failure; {cure or f'remove it: rm -f {path}'}"


def _start_afresh(checkpoint: Path) -> str:
    return (
        f"put the checkpoint aside: mv {checkpoint} {checkpoint}.old (the stream then reads all "
        "that is left again, and leaves out the images that the table has)"
    )


def _shown(batch: int) -> str:
    return "none" if batch < 0 else str(batch)
